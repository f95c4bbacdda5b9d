"""What an operator takes down is gone from every route at once while the registry serves; what is barred stays away."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RevisionNotFoundError
from service_kit import ORIGIN, Author, author
from support.world import random_file

from samara.cli.common import screen
from samara.cli.main import run
from samara.registry.barred import parse_subject
from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.own import Seen, list_own
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.service.app import create_app
from samara.registry.service.logs import Answered
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Rates, Settings
from samara.registry.takedowns import Takedowns
from samara.registry.tracker import Tracker, Upkeep
from samara.schemas.events import Event
from samara.schemas.manifest import Release
from samara.schemas.publication import MEDIA_TYPE, pack_publication
from samara.seeder.publish import Description

SETTINGS = Settings(origin=ORIGIN, rates=Rates(reads=0, publishes=0, announces=0), contact="abuse@models.example")
PAGE = {"Accept": "text/html"}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A registry that serves, and its operator's command line."""

    service: Service
    server: RunningServer
    upkeep: Upkeep
    lines: list[Answered]
    samara: Callable[..., dict[str, Any]]

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*self.server.address, timeout=30)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def status(self, path: str) -> int:
        return self.ask(path)[0]

    def push(self, who: Author, claim: str | None = None) -> tuple[int, dict[str, Any]]:
        body = pack_publication(who.publication(claim=None if claim is None else who.claim(claim)))
        connection = http.client.HTTPConnection(*self.server.address, timeout=60)
        try:
            connection.request("POST", "/v1/publish", body, {"Content-Type": MEDIA_TYPE})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def noted(self, path: str, status: int) -> tuple[str, ...]:
        """What the log says of such a request; its line comes once the answer is out."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = [line for line in self.lines if (line.path, line.status) == (path, status)]
            if found:
                return found[-1].notes
            time.sleep(0.01)
        raise AssertionError(f"no line of {path} {status}")

    def tracked(self) -> set[str]:
        self.upkeep.look()
        return {torrent.b3 for torrent, _kind in self.service.tracker._published.values()}


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Author:
    """Two releases share a file; a third has another one."""
    made = author(tmp_path_factory.mktemp("acme"), "acme")
    shared = random_file(made.folder / "shared.bin", 300_000, seed=1)
    readme = made.folder / "README.md"
    readme.write_text("# small enough to travel in the manifest\n", encoding="utf-8")
    made.publish("one:v1", [shared, readme])
    made.publish("two:v1", [shared])
    made.publish("two:v2", [random_file(made.folder / "other.bin", 300_000, seed=2)])
    return made


@pytest.fixture(params=["sqlite", "postgresql"])
def running(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Running]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    home = Home(tmp_path / "registry", url)
    monkeypatch.setenv("SAMARA_HOME", str(home.root))
    monkeypatch.delenv("SAMARA_DATABASE", raising=False)
    if url is not None:
        monkeypatch.setenv("SAMARA_DATABASE", url)

    def samara(*arguments: str, code: int = 0) -> dict[str, Any]:
        monkeypatch.setattr(screen, "json", False)
        capsys.readouterr()
        assert run(["listed", *arguments, "--json"]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    lines: list[Answered] = []
    with Index.open(home) as index:
        service = Service(home=home, index=index, settings=SETTINGS, tracker=Tracker())
        with RunningServer(create_app(service, log=lines.append)) as server:
            yield Running(
                service=service, server=server, upkeep=Upkeep(service.tracker, index.listings), lines=lines,
                samara=samara,
            )  # fmt: skip


def release(running: Running, who: Author, model: str, tag: str) -> Release:
    owner = running.service.listings.owner(who.identity)
    assert owner is not None
    listing = running.service.listings.listing(owner, model, tag)
    assert listing is not None
    found = running.service.manifests.release(listing.manifest)
    assert found is not None
    return found


def addresses(one: Release, slug: str) -> list[str]:
    """Everything by which a release, or something in it, is to be had."""
    digits = one.digest.removeprefix("b3:")
    found = [
        f"/{slug}/{one.model}/releases/{one.tag}",
        f"/v1/models/{slug}/{one.model}/releases/{one.tag}",
        f"/v1/manifests/{digits}",
        f"/v1/envelopes/{digits}",
        f"/v1/releases/{digits}.samara",
        f"/v1/publishers/{slug}/metadata/releases/{digits}.release.json",
        f"/api/models/{slug}/{one.model}/revision/{one.tag}",
        f"/api/models/{slug}/{one.model}/tree/{digits[:40]}",
    ]
    for file in one.files:
        found.append(f"/{slug}/{one.model}/resolve/{one.tag}/{file.path}")
        found.append(f"/{slug}/{one.model}/raw/{digits[:40]}/{file.path}")
        if file.torrent is not None:
            found.append(f"/v1/torrents/{file.torrent.v2}.torrent")
    return found


def test_a_barred_blob_is_given_by_no_route_and_comes_back_with_nobodys_publication(
    running: Running, acme: Author
) -> None:
    assert running.push(acme, "acme")[0] == 201
    one, other = release(running, acme, "one", "v1"), release(running, acme, "two", "v2")
    blob = next(file for file in one.files if file.path == "shared.bin")
    for path in addresses(one, "acme"):
        assert running.status(path) in {200, 409}, path  # 409: the Hub's answer where bytes are in the swarm alone
    assert blob.b3 in running.tracked()
    sibling = release(running, acme, "two", "v1")

    done = running.samara("bar", blob.b3, "--why", "court order 12/26")
    assert sorted(name.split("/", 1)[1] for name in done["listings"]) == ["one:v1", "two:v1"]

    for path in (*addresses(one, "acme"), f"/v1/blobs/{blob.b3_hex}", f"/v1/blobs/{blob.b3_hex}/shared.bin"):
        assert running.status(path) == 410, path
    for path in addresses(other, "acme"):
        assert running.status(path) in {200, 409}, path
    assert running.status("/acme/two") == 200, "the model's other release stays"
    for path in ("/acme/two", "/v1/models/acme/two"):
        shown = running.ask(path, Accept="text/html")[2].decode()
        assert sibling.digest not in shown, "nothing points to what was taken down"
        assert "/releases/v1" not in shown, "nothing points to what was taken down"
    assert running.status(f"/acme/two/releases/v1?version={sibling.version}") == 410
    assert blob.b3 not in running.tracked()

    status, headers, body = running.ask(f"/v1/blobs/{blob.b3_hex}")
    assert headers["content-type"] == "application/problem+json"
    said = json.loads(body)
    assert "court order 12/26" in said["detail"]
    assert headers["cache-control"] == "no-store", "unbar must reach who has a cache in front too"
    assert said["contact"] == "abuse@models.example"
    page = running.ask("/acme/one", Accept="text/html")
    assert page[0] == 410
    assert page[1]["cache-control"] == "no-store"
    assert b"court order 12/26" in page[2]
    assert b'href="mailto:abuse@models.example"' in page[2]
    hub = running.ask("/acme/one/resolve/v1/shared.bin")
    assert "court order 12/26" in hub[1]["x-error-message"]
    assert "court order 12/26" in json.loads(hub[2])["error"]
    for path in (f"/v1/blobs/{blob.b3_hex}", "/acme/one", "/acme/one/resolve/v1/shared.bin"):
        assert any("court order 12/26" in note for note in running.noted(path, 410)), path

    status, said = running.push(acme)
    assert status == 200
    assert (said["listed"], said["missing"]) == (1, [])
    assert sum("court order 12/26" in warning for warning in said["warnings"]) == 2
    assert running.status(f"/v1/blobs/{blob.b3_hex}") == 410
    assert b"1 file or release" in running.ask("/status", Accept="text/html")[2]
    assert b'samara_barred{kind="digest"} 1.0' in running.ask("/metrics")[2]

    assert len(running.samara("unbar", blob.b3)["listings"]) == 2
    assert running.status("/acme/one") == 200
    assert running.status("/v1/models/acme/one/releases/v1") == 200


def test_the_hubs_own_client_says_why(running: Running, acme: Author, tmp_path: Path) -> None:
    """And doesn't go on with what it has in its cache."""
    running.push(acme, "acme")
    one = release(running, acme, "one", "v1")
    client = HfApi(endpoint=running.server.url, token=False)
    client.hf_hub_download("acme/one", "README.md", revision="v1", cache_dir=tmp_path)
    running.samara("bar", one.digest, "--why", "court order 12/26")
    with pytest.raises(RevisionNotFoundError, match="court order 12/26"):
        client.model_info("acme/one")
    with pytest.raises(RevisionNotFoundError, match="court order 12/26"):
        client.hf_hub_download("acme/one", "README.md", revision="v1", cache_dir=tmp_path)


def test_a_blob_can_be_barred_before_anybody_publishes_it(running: Running, acme: Author, tmp_path: Path) -> None:
    with Index.open(acme.home) as index:
        barred = next(blob for blob in index.blobs() if blob.file_name == "other.bin").b3
    running.samara("bar", barred, "--why", "known already")
    status, said = running.push(acme, "acme")
    assert status == 201
    assert said["listed"] == 2
    assert "two/v2 isn't listed: the operator of this registry bars it (known already)" in said["warnings"]
    assert running.status("/acme/two/releases/v2") == 410
    assert barred not in running.tracked()


def test_a_barred_publisher_publishes_nothing_and_what_it_signs_is_still_held_against_it(
    running: Running, acme: Author, tmp_path: Path
) -> None:
    running.push(acme, "acme")
    one = release(running, acme, "one", "v1")
    before = running.service.listings.metadata(acme.identity)
    running.samara("bar", acme.identity, "--why", "spam")
    for slug in ("acme", acme.identity):
        for path in (*addresses(one, slug), f"/{slug}", f"/v1/publishers/{slug}", f"/{slug}/one"):
            others_may_list_it = path.startswith("/v1/torrents/")
            assert running.status(path) == (404 if others_may_list_it else 410), path
        assert running.status(f"/v1/publishers/{slug}/equivocations") == 200, "evidence stays"
    assert json.loads(running.ask("/v1/publishers")[2]) == {"publishers": [], "total": 0}
    assert running.tracked() == set()
    status, said = running.push(acme)
    assert (status, said["reason"], said["contact"]) == (403, "barred", "abuse@models.example")
    assert "spam" in said["detail"]
    notes = running.noted("/v1/publish", 403)
    assert any(note.startswith("barred: ") and acme.identity in note for note in notes)
    assert running.service.listings.metadata(acme.identity) == before
    other = author(tmp_path / "other", "other")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    assert running.push(other, "acme")[1]["reason"] == "name-taken", "its name is nobody else's meanwhile"
    running.samara("unbar", acme.identity)
    assert running.status("/acme/one") == 200


def test_names_are_taken_away_and_reserved(running: Running, acme: Author, tmp_path: Path) -> None:
    running.push(acme, "acme")
    assert running.samara("remove", "--name", "acme")["owner"] == acme.identity
    assert running.status("/acme/one") == 404
    assert running.status(f"/{acme.identity}/one") == 200
    assert running.push(acme, "acme")[1]["names"] == ["acme"], "it may be claimed again"
    assert running.samara("bar", "acme", "--why", "a trade mark")["owner"] == acme.identity
    other = author(tmp_path / "other", "other")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    for who, name in ((acme, "acme"), (other, "ac.me")):
        status, said = running.push(who, name)
        assert (status, said["reason"]) == (403, "name-refused")
    kinds = [(one["kind"], one["value"]) for one in running.samara("barred")["barred"]]
    assert kinds == [("name", "acme")]
    running.samara("unbar", "acme")
    assert running.push(acme, "acme")[1]["names"] == ["acme"]


def test_a_removed_listing_comes_back_with_the_next_publication_alone(running: Running, acme: Author) -> None:
    running.push(acme, "acme")
    names = [one["name"] for one in running.samara("list", "--publisher", "acme")["listed"]]
    assert sorted(names) == ["acme/one:v1", "acme/two:v1", "acme/two:v2"]
    assert len(running.tracked()) == 2
    running.samara("remove", "acme/two:v2", "--why", "asked to")
    assert running.status("/acme/two/releases/v2") == 404
    assert len(running.tracked()) == 1, "nobody published anything, and the tracker knows"
    running.push(acme)
    assert running.status("/acme/two/releases/v2") == 200
    assert len(running.samara("remove", acme.identity)["listings"]) == 3
    acts = [(one["act"], one["why"]) for one in running.samara("journal")["journal"]]
    assert acts == [("remove", None), ("remove", "asked to")]


def test_a_publisher_that_is_barred_while_its_publication_is_judged_gets_nothing_in(tmp_path: Path) -> None:
    """While mirrors are looked up nobody's turn is held: there the operator comes in between."""
    who = author(tmp_path / "who", "who")
    mirrored = Description(license="CC0-1.0", mirrors=("https://mirror.example/",))
    who.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)], mirrored)
    with Index.open(Home(tmp_path / "registry")) as index:
        acts = []

        def resolve(_host: str, _port: int) -> list[str]:
            acts.append(Takedowns(index.database).bar(parse_subject(who.identity), "spam", now=1.0))
            return ["93.184.216.34"]

        rules = Rules(claims=ClaimRules(origin=ORIGIN), resolve=resolve)
        with pytest.raises(PublicationRefusedError) as refused:
            accept(index, who.publication(), rules, now=datetime.now(UTC))
        assert refused.value.reason is Reason.BARRED
        assert len(acts) == 1
        assert (index.listings.count(), index.listings.owners_count(), index.manifests()) == (0, 0, ())


@pytest.mark.parametrize("running", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["remove", "nobody"], 3),
        (["remove", "acme/no:way"], 3),
        (["remove", "--name", "nobody"], 3),
        (["remove"], 2),
        (["remove", "acme", "--name", "acme"], 2),
        (["remove", "../x"], 2),
        (["bar", "b3:00", "--why", "x"], 2),
        (["bar", "0f" * 32, "--why", "a digest as b3sum prints it"], 2),
        (["unbar", "0F" * 32], 2),
        (["list", "--offset", "9" * 30], 2),
        (["bar", "Not A Name", "--why", "x"], 2),
        (["bar", "x", "--why", "  "], 2),
        (["bar", "x", "--why", "\x1b[2J"], 2),
        (["bar", "x", "--why", "x" * 501], 2),
        (["unbar", "never"], 3),
        (["list", "--publisher", "nobody"], 3),
    ],
)
def test_what_cant_be_meant_changes_nothing(
    running: Running, acme: Author, arguments: list[str], code: int
) -> None:  # fmt: skip
    if "acme" in "".join(arguments):
        running.push(acme, "acme")
    state = running.service.listings.state()
    assert running.samara(*arguments, code=code)["exit_code"] == code
    assert running.service.listings.state() == state


def test_this_machines_own_publisher_gets_no_barred_name_and_is_listed_all_the_same(tmp_path: Path) -> None:
    own = author(tmp_path, "acme")
    own.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    with Index.open(own.home) as index:
        Takedowns(index.database).bar(parse_subject("acme"), "a trade mark", now=1.0)
        (accepted,) = list_own(own.home, index, now=datetime.now(UTC))
    assert (accepted.names, accepted.listed) == ((), 1)


def test_this_machines_own_publisher_may_be_barred_too_and_that_is_said_once(tmp_path: Path) -> None:
    own = author(tmp_path, "acme")
    own.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    said: list[Event] = []
    seen: Seen = {}
    with Index.open(own.home) as index:
        takedowns, subject = Takedowns(index.database), parse_subject(own.identity)
        takedowns.bar(subject, "by mistake", now=1.0)
        for _ in range(3):
            assert list_own(own.home, index, now=datetime.now(UTC), seen=seen, on_event=said.append) == ()
        (warning,) = said
        assert "by mistake" in str(warning)
        takedowns.lift(subject, now=2.0)
        own.publish("x:v2", [random_file(tmp_path / "y.bin", 100_000, seed=5)])
        (accepted,) = list_own(own.home, index, now=datetime.now(UTC), seen=seen, on_event=said.append)
    assert accepted.listed == 2
