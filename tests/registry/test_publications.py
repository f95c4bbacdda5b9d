"""A registry takes what the TUF workflow proves, whole or not at all, and keeps what speaks against a publisher."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from catalog_kit import DAY, MONTH, Edition, raw_entry, renewed
from service_kit import ABOUT, Author, author, listed, listed_torrents, tiny_files
from support.world import FIXTURES, random_file
from trust_kit import NOW, Line, line_of

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.accept import Accepted, Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.own import list_own, renew_own
from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.trust.catalogs import signed_digest
from samara.registry.trust.keys import new_key
from samara.registry.trust.own_catalog import nothing, retraction, tagging, update_catalog
from samara.schemas.bittorrent import bdecode, bencode
from samara.schemas.digests import b3
from samara.schemas.errors import MalformedError
from samara.schemas.events import Event, Note
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication, pack_publication, unpack_publication
from samara.seeder.publish import Description

ORIGIN = "http://127.0.0.1:8642"
RULES = Rules(claims=ClaimRules(origin=ORIGIN))
LIMIT = 64 << 20


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty registry's."""
    with Index.open(Home(tmp_path / "registry")) as opened:
        yield opened


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Author:
    """A publisher of two models. Tests that publish more make one of their own."""
    made = author(tmp_path_factory.mktemp("acme"), "acme")
    made.publish("tiny:q8_0", tiny_files(made.folder / "tiny"))
    made.publish("blob:v1", [random_file(made.folder / "blob.bin", 900_000, seed=1)])
    return made


@pytest.fixture
def line() -> Line:
    """Two versions of a root, each with keys of its own."""
    return line_of(2)


def taken(index: Index, publication: Publication, rules: Rules = RULES) -> Accepted:
    """As it travels: packed and unpacked."""
    return accept(index, unpack_publication(pack_publication(publication), limit=LIMIT), rules, now=_now())


def offered(index: Index, edition: Edition, *, now: datetime = NOW) -> Accepted:
    """A catalog without releases, at the time of the kit."""
    return accept(index, Publication(metadata=edition.bundle), RULES, now=now)


def refused(index: Index, publication: Publication, reason: Reason, rules: Rules = RULES) -> str:
    """Refused for this reason, and nothing here changed by it."""
    before = state_of(index)
    with pytest.raises(PublicationRefusedError) as caught:
        taken(index, publication, rules)
    assert caught.value.reason is reason
    assert state_of(index) == before
    return str(caught.value)


def state_of(index: Index) -> object:
    """Everything that a publication may change, evidence excepted."""
    listings = index.listings
    owners = listings.owners()
    return (
        owners,
        [listings.metadata(owner.identity) for owner in owners],
        [listed(index, owner.identity) for owner in owners],
        index.manifests(),
        [blob.b3 for blob in index.blobs()],
    )


def names(index: Index, identity: str) -> dict[str, str | None]:
    """model:tag → why it was withdrawn."""
    return {f"{one.model}:{one.tag}": one.retracted for one in listed(index, identity)}


# -- what is proven is listed ------------------------------------------------------------------------------------------


def test_what_is_proven_is_listed_with_its_facts(index: Index, acme: Author) -> None:
    done = taken(index, acme.publication())
    assert (done.is_new, done.added, done.listed, done.missing) == (True, 2, 2, ())
    owner = index.listings.owner(acme.identity)
    assert owner is not None
    assert (owner.name, owner.namespace) == ("acme", None)
    listing = index.listings.listing(owner, "tiny", "q8_0")
    assert listing is not None
    assert (listing.architecture, listing.quantisation, listing.license) == ("llama", "Q8_0", "CC0-1.0")
    assert listing.has_chat_template
    assert listing.size == sum(path.stat().st_size for path in tiny_files(acme.folder / "again"))


def test_the_same_again_changes_nothing(index: Index, acme: Author) -> None:
    taken(index, acme.publication())
    before = state_of(index)
    done = taken(index, acme.publication())
    assert (done.is_new, done.added, done.changed) == (False, 0, 0)
    assert state_of(index) == before


def test_releases_may_follow_their_catalog(index: Index, acme: Author) -> None:
    whole = acme.publication()
    done = taken(index, replace(whole, releases=()))
    assert sorted(done.missing) == ["blob/v1", "tiny/q8_0"]
    assert names(index, acme.identity) == {}
    done = taken(index, replace(whole, releases=whole.releases[:1]))
    assert (done.is_new, done.added, len(done.missing)) == (False, 1, 1)
    done = taken(index, whole)
    assert done.missing == ()
    assert set(names(index, acme.identity)) == {"tiny:q8_0", "blob:v1"}


def test_names_move_are_withdrawn_and_go(tmp_path: Path, index: Index) -> None:
    acme = author(tmp_path / "acme", "acme")
    acme.publish("tiny:q8_0", [FIXTURES / "tiny-q8_0.gguf"])
    taken(index, acme.publication())
    keys = acme.publisher.online_keys(None)
    later = state_of(index)
    update_catalog(acme.home, acme.publisher, tagging("tiny", "q8_0", "latest"), signers=keys, now=_now())
    taken(index, acme.publication())
    assert set(names(index, acme.identity)) == {"tiny:q8_0", "tiny:latest"}
    update_catalog(acme.home, acme.publisher, retraction("tiny", "q8_0", "wrong weights"), signers=keys, now=_now())
    taken(index, acme.publication())
    assert names(index, acme.identity) == {"tiny:q8_0": "wrong weights", "tiny:latest": "wrong weights"}
    assert listed_torrents(index) == {}
    assert all(index.listings.manifests_of(blob.b3) == () for blob in index.blobs())
    update_catalog(
        acme.home, acme.publisher, lambda _: {"tiny/latest": None, "tiny/q8_0": None}, signers=keys, now=_now()
    )
    done = taken(index, acme.publication())
    assert (done.listed, done.changed) == (0, 2)
    assert names(index, acme.identity) == {}
    assert later != state_of(index)


def test_of_an_uploaded_torrent_only_what_is_proven_is_kept(index: Index, acme: Author) -> None:
    whole = acme.publication()
    dressed = []
    for release in whole.releases:
        torrents = []
        for data in release.torrents:
            value = bdecode(data)
            assert isinstance(value, dict)
            value |= {b"announce": b"http://evil.invalid/", b"url-list": [b"http://10.0.0.1/"], b"nodes": [[b"x", 1]]}
            torrents.append(bencode(value))
        dressed.append(replace(release, torrents=tuple(torrents)))
    taken(index, replace(whole, releases=tuple(dressed)))
    kept = listed_torrents(index)
    assert kept
    for data in kept.values():
        value = bdecode(data)
        assert isinstance(value, dict)
        assert set(value) <= {b"info", b"piece layers"}


# -- what isn't is refused ---------------------------------------------------------------------------------------------


def test_metadata_that_nobody_signed_is_refused(index: Index, line: Line) -> None:
    stranger = new_key()
    for role in ("timestamp", "snapshot", "targets"):
        message = refused_edition(index, Edition(line=line, signers={role: [stranger]}), Reason.UNPROVEN)
        assert "signed" in message
        message = refused_edition(index, Edition(line=line, signers={role: []}), Reason.UNPROVEN)
    assert index.listings.owners() == ()


def refused_edition(index: Index, edition: Edition, reason: Reason) -> str:
    """As `refused`, for a catalog alone at the time of the kit."""
    before = state_of(index)
    with pytest.raises(PublicationRefusedError) as caught:
        offered(index, edition)
    assert caught.value.reason is reason
    assert state_of(index) == before
    return str(caught.value)


def test_an_older_catalog_is_refused(index: Index, line: Line) -> None:
    first = Edition(line=line)
    offered(index, first)
    offered(index, first.next())
    assert "older" in refused_edition(index, first, Reason.STALE)


def test_an_older_root_is_refused(index: Index, line: Line) -> None:
    offered(index, Edition(line=line, root=2))
    refused_edition(index, Edition(line=line, root=1, timestamp=9, snapshot=9, targets=9), Reason.STALE)


def test_new_keys_may_begin_to_count_anew(index: Index, line: Line) -> None:
    offered(index, Edition(line=line, timestamp=7, snapshot=7, targets=7))
    done = offered(index, Edition(line=line, root=2))
    assert (done.root_version, done.timestamp_version) == (2, 1)


def test_a_root_alone_may_be_renewed(index: Index) -> None:
    line = line_of(1)
    edition = Edition(line=line)
    offered(index, edition)
    done = offered(index, replace(edition, line=renewed(line), root=2))
    assert (done.root_version, done.timestamp_version, done.is_new) == (2, 1, True)


def test_an_expired_catalog_is_refused(index: Index, line: Line) -> None:
    before = state_of(index)
    with pytest.raises(PublicationRefusedError) as caught:
        offered(index, Edition(line=line), now=NOW + MONTH + DAY)
    assert caught.value.reason is Reason.EXPIRED
    assert state_of(index) == before


def test_one_version_with_two_contents_is_refused_and_both_are_kept(index: Index, line: Line) -> None:
    told = Edition(line=line, timestamp=5, snapshot=5, targets=5)
    twin = replace(told, entries={"tiny/q8_0": raw_entry(b"a trojan")})
    offered(index, told)
    refused_edition(index, twin, Reason.EQUIVOCATION)
    refused_edition(index, twin, Reason.EQUIVOCATION)
    (evidence,) = index.listings.equivocations(line.identity)
    assert {signed_digest(evidence.known), signed_digest(evidence.offered)} == {
        signed_digest(told.bundle.timestamp),
        signed_digest(twin.bundle.timestamp),
    }
    assert offered(index, told).is_new is False


def test_a_twin_that_its_publisher_never_signed_is_no_evidence(index: Index, line: Line) -> None:
    told = Edition(line=line)
    offered(index, told)
    forged = replace(told, entries={"tiny/q8_0": raw_entry(b"a trojan")}, signers={"timestamp": [new_key()]})
    refused_edition(index, forged, Reason.UNPROVEN)
    assert index.listings.equivocations(line.identity) == ()


def test_two_roots_of_one_version_are_equivocation(index: Index, line: Line) -> None:
    other = line_of(1)
    fork = renewed(Line(roots=line.roots[:1], root_keys=line.root_keys[:1], online_keys=line.online_keys[:1]))
    assert other.identity != line.identity
    offered(index, Edition(line=line, root=2))
    refused_edition(index, Edition(line=fork, root=2, timestamp=9), Reason.EQUIVOCATION)
    assert len(index.listings.equivocations(line.identity)) == 1


def test_a_release_that_the_catalog_does_not_list_is_refused(tmp_path: Path, index: Index, acme: Author) -> None:
    other = author(tmp_path / "other", "other")
    other.publish("stray:v1", [random_file(tmp_path / "stray.bin", 100_000, seed=4)])
    stray = other.publication().releases
    refused(index, replace(acme.publication(), releases=stray), Reason.UNLISTED)


def test_a_release_whose_signature_is_wrong_is_refused(index: Index, acme: Author) -> None:
    whole = acme.publication()
    envelope = whole.releases[0].envelope
    (signature,) = envelope.signatures
    broken = replace(envelope, signatures=(replace(signature, sig=bytes(64)),))
    refused(index, replace(whole, releases=(replace(whole.releases[0], envelope=broken),)), Reason.UNPROVEN)


def test_a_torrent_of_other_bytes_is_refused(index: Index, acme: Author) -> None:
    whole = acme.publication()
    (data, *_) = next(release.torrents for release in whole.releases if release.torrents)
    value = bdecode(data)
    assert isinstance(value, dict)
    info = value[b"info"]
    assert isinstance(info, dict)
    info[b"length"] = int(info[b"length"]) + 1  # type: ignore[arg-type]
    crooked = tuple(
        replace(release, torrents=(bencode(value), *release.torrents[1:])) if data in release.torrents else release
        for release in whole.releases
    )
    before = state_of(index)
    with pytest.raises((PublicationRefusedError, MalformedError)):
        taken(index, replace(whole, releases=crooked))
    assert state_of(index) == before


def test_another_publishers_catalog_proves_nothing_of_ours(tmp_path: Path, index: Index, acme: Author) -> None:
    taken(index, acme.publication())
    other = author(tmp_path / "other", "other")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    theirs, mine = other.publication().metadata, acme.publication().metadata
    for mixed in (replace(theirs, roots=mine.roots), replace(mine, timestamp=theirs.timestamp)):
        refused(index, Publication(metadata=mixed), Reason.UNPROVEN)


def test_half_a_publication_changes_nothing(index: Index, acme: Author) -> None:
    data = pack_publication(acme.publication())
    before = state_of(index)
    for end in range(0, len(data), max(1, len(data) // 97)):
        with pytest.raises(MalformedError):
            unpack_publication(data[:end], limit=LIMIT)
    assert state_of(index) == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"le",
        b"d6:format20:samara-publication-1e",
        b"l" * 100_000 + b"e" * 100_000,
        b"d" + b"1:ad" * 5000,
        b"d6:format20:samara-publication-18:metadata3:abc8:releaseslee",
        b"d6:format20:samara-publication-18:metadata3:abc8:releasesi1ee",
    ],
)
def test_what_is_no_publication_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        unpack_publication(data, limit=LIMIT)


def test_metadata_that_is_nested_deeply_is_refused(index: Index, line: Line) -> None:
    bundle = Edition(line=line).bundle
    for role in ("timestamp", "snapshot", "targets"):
        deep = b'{"signed":' + b"[" * 5000 + b"]" * 5000 + b',"signatures":[]}'
        with pytest.raises((MalformedError, PublicationRefusedError)):
            accept(index, Publication(metadata=replace(bundle, **{role: deep})), RULES, now=NOW)  # type: ignore[arg-type]
    assert index.listings.owners() == ()


def test_too_much_is_refused_before_it_is_read() -> None:
    with pytest.raises(MalformedError, match="too large"):
        unpack_publication(bytes(1001), limit=1000)


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_name_is_had_by_a_signed_claim(index: Index, acme: Author) -> None:
    assert taken(index, acme.publication(claim=acme.claim("acme"))).names == ("acme",)
    assert index.listings.namespace_owner("acme") == acme.identity
    statement = index.listings.namespace_statement("acme")
    assert statement is not None
    assert taken(index, acme.publication()).names == ("acme",)


def test_a_name_that_is_taken_stays_whose_it_is(tmp_path: Path, index: Index, acme: Author) -> None:
    taken(index, acme.publication(claim=acme.claim("acme")))
    other = author(tmp_path / "other", "acme")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    message = refused(index, other.publication(claim=other.claim("acme")), Reason.NAME_TAKEN)
    assert "belongs to another publisher" in message
    assert index.listings.namespace_owner("acme") == acme.identity


def test_a_claim_by_who_has_only_public_metadata_is_refused(tmp_path: Path, index: Index, acme: Author) -> None:
    thief = author(tmp_path / "thief", "thief")
    said = replace(thief, publisher=replace(thief.publisher, identity=acme.identity))
    refused(index, acme.publication(claim=said.claim("acme")), Reason.NAME_REFUSED)
    refused(index, acme.publication(claim=thief.claim("acme")), Reason.NAME_REFUSED)


@pytest.mark.parametrize("name", ["v1", "api", "healthz", "samara"])
def test_some_names_can_be_nobodys(index: Index, acme: Author, name: str) -> None:
    refused(index, acme.publication(claim=acme.claim(name)), Reason.NAME_REFUSED)


def test_a_claim_for_another_registry_is_refused(index: Index, acme: Author) -> None:
    claim = acme.claim("acme", origin="https://elsewhere.example")
    assert ORIGIN in refused(index, acme.publication(claim=claim), Reason.NAME_REFUSED)


def test_an_old_claim_is_refused(index: Index, acme: Author) -> None:
    for off in (timedelta(hours=-2), timedelta(hours=1)):
        refused(index, acme.publication(claim=acme.claim("acme", issued=_now() + off)), Reason.NAME_REFUSED)


def test_names_of_one_publisher_are_few(index: Index, acme: Author) -> None:
    rules = replace(RULES, claims=replace(RULES.claims, at_most=2))
    for name in ("one", "two"):
        taken(index, acme.publication(claim=acme.claim(name)), rules)
    refused(index, acme.publication(claim=acme.claim("three")), Reason.QUOTA, rules)


def test_names_that_the_operator_gives_count_for_nobody(tmp_path: Path, index: Index, acme: Author) -> None:
    other = author(tmp_path / "other", "other")
    given = {"three": acme.publisher.identity, "kept": other.publisher.identity, "too": other.publisher.identity}
    none = replace(RULES.claims, at_most=0, listed=given)
    assert taken(index, acme.publication(), replace(RULES, claims=none)).names == ("three",)
    refused(index, acme.publication(claim=acme.claim("one")), Reason.QUOTA, replace(RULES, claims=none))
    one = replace(RULES.claims, at_most=1)
    taken(index, acme.publication(claim=acme.claim("one")), replace(RULES, claims=replace(one, listed=given)))
    more = replace(one, listed={**given, "four": acme.publisher.identity})
    assert taken(index, acme.publication(), replace(RULES, claims=more)).names == ("four", "one", "three")


def test_where_the_operator_lists_names_nobody_else_publishes(tmp_path: Path, index: Index, acme: Author) -> None:
    rules = replace(RULES, claims=ClaimRules(origin=ORIGIN, is_open=False, listed={"models": acme.identity}))
    assert taken(index, acme.publication(), rules).names == ("models",)
    refused(index, acme.publication(claim=acme.claim("other")), Reason.NAME_REFUSED, rules)
    other = author(tmp_path / "other", "other")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    refused(index, other.publication(), Reason.NOT_LISTED, rules)


def test_a_listed_name_can_not_be_claimed_by_others(tmp_path: Path, index: Index, acme: Author) -> None:
    rules = replace(RULES, claims=ClaimRules(origin=ORIGIN, is_open=True, listed={"acme": acme.identity}))
    other = author(tmp_path / "other", "other")
    other.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)])
    refused(index, other.publication(claim=other.claim("acme")), Reason.NAME_TAKEN, rules)


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_quotas_are_for_all_that_a_publisher_keeps_here(index: Index, acme: Author) -> None:
    for rules in (replace(RULES, releases=1), replace(RULES, stored_bytes=1000), replace(RULES, publishers=0)):
        refused(index, acme.publication(), Reason.QUOTA, rules)
    taken(index, acme.publication(), replace(RULES, releases=2, publishers=1))


@pytest.mark.parametrize(
    ("url", "addresses"),
    [
        ("http://127.0.0.1:9/x", []),
        ("http://[::1]/x", []),
        ("http://169.254.169.254/latest/", []),
        ("http://metadata.example/", ["169.254.169.254"]),
        ("http://twofold.example/", ["93.184.216.34", "10.0.0.7"]),
        ("http://mapped.example/", ["::ffff:192.168.1.1"]),
    ],
)
def test_mirrors_in_private_networks_are_refused(tmp_path: Path, index: Index, url: str, addresses: list[str]) -> None:
    acme = _with_mirror(tmp_path, url)
    rules = replace(RULES, resolve=lambda host, _port: addresses or [host.strip("[]")])
    assert "must not be followed" in refused(index, acme.publication(), Reason.MIRROR, rules)
    allowed = replace(rules, policy=NetworkPolicy(private=True))
    assert taken(index, acme.publication(), allowed).listed == 1


def test_a_mirror_that_can_not_be_resolved_is_a_warning(tmp_path: Path, index: Index) -> None:
    def nowhere(_host: str, _port: int) -> list[str]:
        raise OSError("no such name")

    acme = _with_mirror(tmp_path, "https://gone.example/x/")
    assert taken(index, acme.publication(), replace(RULES, resolve=nowhere)).warnings == (
        "mirror gone.example can't be resolved",
    )


def _with_mirror(tmp_path: Path, url: str) -> Author:
    made = author(tmp_path / "acme", "acme")
    made.publish("x:v1", [random_file(tmp_path / "x.bin", 100_000, seed=4)], Description(mirrors=(url,)))
    return made


# -- at once -----------------------------------------------------------------------------------------------------------


def test_of_two_publications_at_once_none_is_lost_and_none_is_mixed(index: Index, line: Line) -> None:
    """Compare-and-swap: many threads offer versions 1 to 12 in any order; the highest one taken is what is here."""
    first = Edition(line=line)
    editions = [replace(first, timestamp=n, snapshot=n, targets=n) for n in range(1, 13)]
    taken_versions: list[int] = []
    other: list[BaseException] = []
    start = threading.Barrier(4)

    def offer(mine: list[Edition]) -> None:
        start.wait(10)
        for edition in mine:
            try:
                taken_versions.append(offered(index, edition).timestamp_version)
            except PublicationRefusedError as error:
                if error.reason not in {Reason.STALE, Reason.CONFLICT}:
                    other.append(error)
            except BaseException as error:
                other.append(error)

    threads = [threading.Thread(target=offer, args=(editions[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert other == []
    assert sorted(set(taken_versions)) == sorted(taken_versions)
    stamp = index.listings.catalog_stamp(line.identity)
    assert stamp is not None
    assert (stamp.root_version, stamp.timestamp_version) == (1, max(taken_versions))
    assert index.listings.metadata(line.identity) == editions[max(taken_versions) - 1].bundle
    assert index.listings.equivocations(line.identity) == ()


def test_a_new_version_of_a_release_takes_its_name_in_one_step(tmp_path: Path, index: Index) -> None:
    acme = author(tmp_path / "acme", "acme")
    old = acme.publish("tiny:v", [random_file(tmp_path / "a.bin", 200_000, seed=1)])
    taken(index, acme.publication())
    new = acme.publish("tiny:v", [random_file(tmp_path / "b.bin", 200_000, seed=2)], ABOUT)
    taken(index, acme.publication())
    owner = index.listings.owner(acme.identity)
    assert owner is not None
    (listing,) = index.listings.model(owner, "tiny")
    assert (listing.manifest, listing.version) == (new.digest, 2)
    assert [one.manifest for one in index.listings.history(owner, "tiny")] == [new.digest, old.digest]
    assert set(listed_torrents(index)) == {new.files[0].b3}
    assert b3((tmp_path / "b.bin").read_bytes()) == new.files[0].b3


def test_signing_again_lists_nothing_anew(tmp_path: Path, index: Index) -> None:
    acme = author(tmp_path / "acme", "acme")
    acme.publish("tiny:v", [random_file(tmp_path / "a.bin", 200_000, seed=1)])
    taken(index, acme.publication())
    update_catalog(acme.home, acme.publisher, nothing, signers=acme.publisher.online_keys(None), now=_now())
    done = taken(index, acme.publication(releases=False))
    assert (done.is_new, done.added, done.changed, done.timestamp_version) == (True, 0, 0, 2)


def _now() -> datetime:
    return datetime.now(UTC)


def test_a_publishers_own_registry_signs_its_catalog_again_in_time(tmp_path: Path, index: Index) -> None:
    acme = author(tmp_path / "acme", "acme")
    acme.publish("tiny:v", [random_file(tmp_path / "a.bin", 200_000, seed=1)])
    said: list[Event] = []
    with Index.open(acme.home) as own:
        list_own(acme.home, own, now=_now())
        renew_own(acme.home, own, ask=None, now=_now() + timedelta(days=1), on_event=said.append)
        assert said == []
        later = _now() + timedelta(days=20)
        renew_own(acme.home, own, ask=None, now=later, on_event=said.append)
        assert [type(one) for one in said] == [Note]
        (done,) = list_own(acme.home, own, now=later)
        assert (done.timestamp_version, done.names) == (2, ("acme",))


def test_a_catalog_whose_parts_do_not_name_each_other_by_digest_is_refused(index: Index, line: Line) -> None:
    """TUF allows it (§4.3), but then one version may have two contents, and its readers here refuse it."""
    bundle = Edition(line=line).bundle
    snapshot = _without_digests(bundle.snapshot, line)
    timestamp = _without_digests(bundle.timestamp, line)
    for changed in (replace(bundle, timestamp=timestamp), replace(bundle, timestamp=timestamp, snapshot=snapshot)):
        with pytest.raises((PublicationRefusedError, MalformedError)):
            accept(index, Publication(metadata=changed), RULES, now=NOW)
    assert index.listings.owners() == ()


def _without_digests(data: bytes, line: Line) -> bytes:
    """Timestamp or snapshot metadata that names the next part by its version alone, signed again."""
    from samara.registry.trust.library import JSONSerializer, Metadata

    metadata: Any = Metadata.from_bytes(data)
    part = metadata.signed
    meta = part.snapshot_meta if part.type == "timestamp" else part.meta["targets.json"]
    meta.hashes = meta.length = None
    metadata.sign(line.online_keys[0].signer())
    return bytes(metadata.to_bytes(JSONSerializer(compact=True)))
