"""Following a registry that lies, drips, sends for ever and sends elsewhere: nobody's failure is another one's, all
ends in time, and what was refused is told.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import resource
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from catalog_kit import Edition, raw_entry
from service_kit import ABOUT, Author, author, listed
from support.lying_registry import Handler, Lying, folder, lying_registry
from support.processes import samara, started
from support.world import random_file
from trust_kit import NOW, line_of

from samara.registry.home import Home
from samara.registry.http import HttpClient
from samara.registry.index import Index
from samara.registry.publications.accept import Rules
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.following import closed_when
from samara.registry.publications.sync import SyncedFrom, SyncRules, sync_from
from samara.registry.publications.upstream import MAX_PUBLISHERS, Patience
from samara.schemas.errors import NetworkError
from samara.schemas.events import Event, Warned
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication

QUICK = Patience(seconds=1.0, slowest=1 << 20, lost=20.0)
RULES = Rules(claims=ClaimRules(origin=""))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Author]:
    """Three publishers, each with a release or two."""
    root = tmp_path_factory.mktemp("people")
    made = {name: author(root / name, name) for name in ("acme", "umbra", "evil")}
    for seed, one in enumerate(made.values()):
        one.publish("blob:v1", [random_file(one.folder / "blob.bin", 100_000, seed=seed)])
    acme = made["acme"]
    acme.publish("more:v1", [random_file(acme.folder / "more.bin", 100_000, seed=9)])
    return made


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Of the registry that follows."""
    with Index.open(Home(tmp_path / "here")) as opened:
        yield opened


def follow(
    index: Index, lying: Lying, patience: Patience = QUICK, now: datetime | None = None, **more: object
) -> SyncedFrom:  # fmt: skip
    """Once."""
    events: list[Event] = []
    with HttpClient(NetworkPolicy(), named=(lying.url,)) as client:
        done = sync_from(
            index, lying.url, client, RULES, now=now or datetime.now(UTC), on_event=events.append,
            how=SyncRules(patience=patience), **more,  # type: ignore[arg-type]
        )  # fmt: skip
    warned = [event for event in events if isinstance(event, Warned)]
    assert len(warned) >= min(1, done.failed), "a failure that nobody was told of"
    return done


def is_whole(index: Index, one: Author) -> bool:
    """Whether all that it published is listed here."""
    owner = index.listings.owner(one.identity)
    return owner is not None and len(listed(index, one.identity)) == (2 if one.publisher.name == "acme" else 1)


def strangers(count: int, seed: int = 1) -> list[str]:
    """Identities of nobody."""
    dice = random.Random(seed)
    return [base64.b32encode(dice.randbytes(32)).decode().lower().rstrip("=") for _ in range(count)]


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_of_thousands_of_publishers_one_is_honest(index: Index, people: dict[str, Author], count: int) -> None:
    acme, umbra = people["acme"], people["umbra"]
    theirs = umbra.publication()
    crowd = strangers(count)
    with lying_registry() as lying:
        for number, identity in enumerate(crowd):
            base = folder(identity)
            kind = number % 5
            if kind == 0:
                lying.files[base + "timestamp.json"] = b'{"signed": ' * 1000
            elif kind == 1:
                lying.files[base + "timestamp.json"] = theirs.metadata.timestamp  # half a repository
            elif kind == 2:
                lying.has(umbra.identity, theirs, under=identity)
            elif kind == 3:
                lying.files[base + "timestamp.json"] = random.Random(number).randbytes(2000)
        lying.listed = [(identity, None) for identity in crowd]
        lying.listed.insert(count // 2, (acme.identity, "acme"))
        lying.has(acme.identity, acme.publication(), name="acme")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        done = follow(index, lying, Patience())
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (done.publishers, done.failed, done.releases, done.ended_early) == (count + 1, count, 2, None)
    assert is_whole(index, acme)
    assert index.listings.owners_count() == 1
    assert len(done.refused) == 100
    assert any("another publisher" in one.why for one in done.refused)
    assert grown < 100_000, f"{grown} kB for those who gave nothing"


def test_lists_without_end_and_in_a_circle(index: Index, people: dict[str, Author]) -> None:
    acme = people["acme"]
    some = [{"identity": identity} for identity in strangers(499)] + [{"identity": acme.identity}]
    absurd: list[object] = [
        None,
        7,
        [],
        {"identity": 7},
        {"identity": "x" * 52},
        {"identity": acme.identity, "namespace": "../etc"},
    ]
    with lying_registry() as lying:
        lying.has(acme.identity, acme.publication())
        lying.pages = lambda _offset: {"publishers": some}  # page after page the same
        assert follow(index, lying).publishers == 500
        assert is_whole(index, acme)
        lying.pages = lambda offset: {"publishers": [*absurd, *some]} if not offset else {"publishers": "no"}
        assert follow(index, lying).ended_early is not None
        lying.answers["/v1/publishers"] = lambda handler: handler.endless(b'{"publishers": [' + b" " * 65536)
        with pytest.raises(NetworkError):
            follow(index, lying)
        lying.answers["/v1/publishers"] = lambda handler: handler.endless(b" ", pause=0.05)
        with pytest.raises(NetworkError, match="too slow"):
            follow(index, lying)
        lying.answers.clear()
        counter = itertools.count()
        lying.pages = lambda _offset: {"publishers": [{"identity": one} for one in strangers(500, next(counter))]}
        began = time.monotonic()
        stop = threading.Event()
        timer = threading.Timer(
            20.0, stop.set
        )  # a hundred thousand strangers aren't asked for their catalogs in a test
        timer.start()
        done = follow(index, lying, replace(QUICK, lost=1.0), is_stopped=stop.is_set)
        timer.cancel()
        assert done.publishers == MAX_PUBLISHERS
        assert done.ended_early == "it is too slow"
        assert time.monotonic() - began < 60.0


@pytest.mark.parametrize(
    ("how", "file"),
    [
        ("drip", "targets.json"), ("drip", "releases"), ("endless", "timestamp.json"), ("endless", "targets.json"),
        ("endless", "releases"), ("silent", "timestamp.json"), ("bomb", "targets.json"), ("deep", "targets.json"),
        ("deep", "releases"), ("500", "1.root.json"), ("elsewhere", "timestamp.json"), ("elsewhere", "releases"),
    ],
)  # fmt: skip
def test_one_publishers_answers_hold_up_no_other(
    index: Index, people: dict[str, Author], file: str, how: str
) -> None:  # fmt: skip
    evil, acme = people["evil"], people["acme"]
    hits: list[str] = []

    def answer(handler: Handler) -> None:
        if how == "drip":
            handler.endless(b"{", pause=0.02)
        elif how == "endless":
            handler.endless(b'{"a": 1,' * 8192)
        elif how == "silent":
            handler.head(200, **{"Content-Length": "1000"})
            handler.lying.stopped.wait(3.0)
        elif how == "bomb":
            handler.give(gzip.compress(b"[" * 50_000_000, 1), Content_Encoding="gzip")
        elif how == "deep":
            handler.give(b"[" * (11 << 20))
        elif how == "500":
            handler.refuse(500)
        else:
            handler.refuse(302, Location=f"{inside.url}/admin/delete")

    with lying_registry() as inside, lying_registry() as lying:
        inside.answers["/admin/delete"] = lambda handler: hits.append(handler.path)
        lying.has(evil.identity, evil.publication())
        lying.has(acme.identity, acme.publication())
        base = folder(evil.identity)
        paths = [path for path in lying.files if path.startswith(base) and file in path]
        assert paths
        lying.answers.update(dict.fromkeys(paths, answer))
        began = time.monotonic()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("samara.registry.web.TIMEOUT", 1.0)  # without a byte
            done = follow(index, lying)
        assert time.monotonic() - began < 15.0
        assert is_whole(index, acme)
        assert not is_whole(index, evil)
        assert [one.who for one in done.refused] == [evil.identity]
        assert done.failed == (0 if (how, file) in {("deep", "releases"), ("endless", "releases")} else 1)
        assert not hits, "it went where it was sent"
        lying.answers.clear()
        assert follow(index, lying).failed == 0
        assert is_whole(index, evil)


def test_old_news_of_one_publisher_is_no_news_and_no_failure(
    tmp_path: Path, index: Index, people: dict[str, Author]
) -> None:
    umbra = people["umbra"]
    one = author(tmp_path / "one", "one")
    one.publish("blob:v1", [random_file(tmp_path / "1.bin", 100_000, seed=1)])
    old = one.publication()
    one.publish("more:v1", [random_file(tmp_path / "2.bin", 100_000, seed=2)])
    with lying_registry() as lying:
        lying.has(one.identity, one.publication())
        lying.has(umbra.identity, umbra.publication())
        follow(index, lying)
        lying.files.clear()
        lying.has(one.identity, old)
        lying.has(umbra.identity, umbra.publication())
        done = follow(index, lying)
    assert (done.behind, done.failed, done.changed) == (1, 0, 0)
    assert len(listed(index, one.identity)) == 2


def test_two_catalogs_of_one_version_are_kept_as_evidence(index: Index, people: dict[str, Author]) -> None:
    umbra = people["umbra"]
    told = Edition(line=line_of(2))
    twin = replace(told, entries={"tiny/q8_0": raw_entry(b"a trojan")})
    identity = told.line.identity
    with lying_registry() as lying:
        lying.has(identity, Publication(metadata=told.bundle))
        assert follow(index, lying, now=NOW).failed == 0
        lying.has(identity, Publication(metadata=twin.bundle))
        lying.has(umbra.identity, umbra.publication())
        done = follow(index, lying)
        assert [one.who for one in done.refused] == [identity]
        assert "were signed as version" in done.refused[0].why
        assert is_whole(index, umbra)
    assert len(index.listings.equivocations(identity)) == 1
    assert index.listings.metadata(identity) == told.bundle


def test_the_list_changes_while_it_is_read(index: Index, people: dict[str, Author]) -> None:
    """Somebody before the second page goes: everybody is seen, or comes next time; nobody twice."""
    crowd = strangers(900)
    with lying_registry() as lying:
        for one in people.values():
            lying.has(one.identity, one.publication())
        mine = lying.listed
        lists = iter([[*crowd, *(identity for identity, _ in mine)]])
        now = next(lists)

        def pages(offset: int) -> object:
            some = now[offset : offset + 500]
            if not offset:
                del now[:3]
            return {"publishers": [{"identity": identity} for identity in some]}

        lying.pages = pages
        done = follow(index, lying)
        assert done.publishers == 900
        assert done.failed == 900 - 3
    assert all(is_whole(index, one) for one in people.values())


def test_one_release_that_must_not_be_taken_keeps_no_other_out(tmp_path: Path, index: Index) -> None:
    """One names a mirror in a private network, one is given as another one."""
    one = author(tmp_path / "one", "one")
    for number in range(6):
        mirrors = ("http://10.0.0.1/blob",) if number == 3 else ()
        one.publish(
            f"m{number}:v1", [random_file(tmp_path / f"{number}.bin", 70_000, seed=number)],
            replace(ABOUT, mirrors=mirrors),
        )  # fmt: skip
    publication = one.publication()
    with lying_registry() as lying:
        lying.has(one.identity, publication)
        objects = sorted(path for path in lying.files if "/releases/" in path)
        swapped = objects[0] if b"10.0.0.1" not in payload_of(lying.files[objects[0]]) else objects[1]
        other = objects[-1] if objects[-1] != swapped else objects[-2]
        lying.files[swapped] = lying.files[other]
        done = follow(index, lying)
        assert (done.releases, done.failed) == (4, 0)
        assert {one.what is not None for one in done.refused} == {True}
        assert any("must not be followed" in one.why for one in done.refused)
        assert any("something else" in one.why for one in done.refused)
        before = len(lying.requests)
        assert follow(index, lying).releases == 0
        assert len(lying.requests) - before <= 5  # the list, the timestamp, what is lacking
    assert len(listed(index, one.identity)) == 4


def test_who_is_to_be_left_alone_for_a_moment_is(index: Index, people: dict[str, Author]) -> None:
    acme = people["acme"]
    rests: list[float] = []
    with lying_registry() as lying:
        lying.has(acme.identity, acme.publication())
        path = folder(acme.identity) + "timestamp.json"
        data, refusals = lying.files[path], iter((429, 503))

        def limited(handler: Handler) -> None:
            status = next(refusals, None)
            handler.give(data) if status is None else handler.refuse(status, Retry_After="7")

        lying.answers[path] = limited
        assert follow(index, lying, pause=rests.append).failed == 0
        assert rests == [7.0, 7.0]
        lying.answers[path] = lambda handler: handler.refuse(429, Retry_After="86400")
        assert follow(index, lying, pause=rests.append).failed == 1
        assert max(rests) < 70.0
    assert is_whole(index, acme)


def test_a_registry_that_goes_silent_for_all_is_let_go_of(index: Index, people: dict[str, Author]) -> None:
    acme = people["acme"]
    with lying_registry() as lying:
        lying.has(acme.identity, acme.publication())
        lying.listed += [(identity, None) for identity in strangers(200)]
        for identity, _ in lying.listed:
            lying.answers[folder(identity) + "timestamp.json"] = lambda handler: handler.refuse(500)
        done = follow(index, lying)
        assert done.ended_early == "it doesn't answer any more"
        assert done.failed == 20
        lying.answers.clear()
        assert follow(index, lying).failed == 200
    assert is_whole(index, acme)


def test_stopped_in_the_middle_it_ends_at_once_and_goes_on_next_time(
    index: Index, people: dict[str, Author]
) -> None:  # fmt: skip
    acme, umbra = people["acme"], people["umbra"]
    stop = threading.Event()
    with lying_registry() as lying:
        lying.has(acme.identity, acme.publication())
        follow(index, lying)  # known: its turn comes first
        lying.has(umbra.identity, umbra.publication())

        def hang(handler: Handler) -> None:
            handler.head(200, **{"Content-Length": "1000"})
            stop.set()
            handler.lying.stopped.wait(30.0)

        path = folder(umbra.identity) + "timestamp.json"
        lying.answers[path] = hang
        events: list[Event] = []
        began = time.monotonic()
        with HttpClient(NetworkPolicy(), named=(lying.url,)) as client, closed_when(stop, client):
            done = sync_from(
                index, lying.url, client, RULES, now=datetime.now(UTC), on_event=events.append,
                is_stopped=stop.is_set,
            )  # fmt: skip
        assert time.monotonic() - began < 10.0
        assert (done.ended_early, done.failed) == ("it was stopped", 0)
        lying.answers.clear()
        assert follow(index, lying).changed == 1
    assert is_whole(index, umbra)


def test_killed_at_any_moment_and_at_full_length_the_next_time(people: dict[str, Author], tmp_path: Path) -> None:
    """SIGKILL of the command while it waits for the second publisher: the first is here, and the rest comes later."""
    acme, umbra = people["acme"], people["umbra"]
    home = Home(tmp_path / "killed")
    asked = threading.Event()
    with lying_registry() as lying:
        lying.has(acme.identity, acme.publication())
        lying.has(umbra.identity, umbra.publication())

        def hang(handler: Handler) -> None:
            asked.set()
            handler.endless(b" ", pause=0.05)

        with Index.open(home) as index:
            lying.answers = dict.fromkeys([folder(umbra.identity) + "timestamp.json"], lambda h: h.refuse(404))
            follow(index, lying)  # who is known comes first
        acme_more = [path for path in lying.files if acme.identity in path and path.endswith("release.json")]
        assert acme_more
        lying.answers = dict.fromkeys([folder(umbra.identity) + "timestamp.json"], hang)
        with started(home, "registry", "sync", lying.url) as process:
            assert asked.wait(30.0)
            process.send(signal.SIGKILL)
        lying.answers.clear()
        outcome = samara(home, "registry", "sync", lying.url, "--json")
        assert outcome.status == 0, outcome.stderr
        assert (outcome.result["changed"], outcome.result["failed"], outcome.result["refused"]) == (1, 0, [])
    with Index.open(home) as index:
        assert is_whole(index, acme)
        assert is_whole(index, umbra)


def payload_of(release_object: bytes) -> bytes:
    """The manifest in a release object."""
    return base64.b64decode(json.loads(release_object)["envelope"]["payload"])
