"""What a name means: always what its publisher's catalog says, never what whoever carries the bytes would like."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from bundle_kit import LATER, Told, changed, clock
from support.pulls import options, pulled
from support.world import NOW, QUICK, Shelf, shelf, trusting_home

from samara.fetcher.catalogs import Asking, current_catalog
from samara.fetcher.forks import require_newest, sync
from samara.fetcher.held import Resolved
from samara.fetcher.resolve import resolve
from samara.registry.home import Home
from samara.registry.trust.catalog_client import CatalogClient
from samara.registry.trust.key_changes import rotate_key
from samara.registry.trust.known import KnownCatalogs
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import listing, nothing, own_catalog, retraction, tagging
from samara.registry.trust.pins import TrustFolder
from samara.registry.trust.publishers import Publisher, load_publisher
from samara.registry.trust.release import VerifiedRelease, open_release
from samara.registry.trust.roots import RootChain
from samara.registry.trust.sources import MetadataSource
from samara.schemas.catalog import CatalogEntry
from samara.schemas.digests import b3_hex
from samara.schemas.errors import IntegrityError, MalformedError, NetworkError, NotFoundError, SamaraError, TrustError
from samara.schemas.references import parse_reference
from samara.schemas.release_file import ReleaseBundle, release_object_name, unpack_release
from samara.seeder.publish import publish
from samara.seeder.site import write_site

DAY = timedelta(days=1)
MONTH = 31 * DAY
NOBODY = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"


@pytest.fixture
def tiny(tmp_path: Path) -> Shelf:
    """acme/tiny:v1: small enough to travel inside its manifest, so that no byte needs a swarm."""
    return release(tmp_path / "shelf", "acme/tiny:v1", "tiny one")


@pytest.fixture
def site(tmp_path: Path, tiny: Shelf) -> Path:
    """acme's public metadata as a folder."""
    return written(tiny.home, tiny.publisher, tmp_path / "site")


@pytest.fixture
def home(tmp_path: Path, tiny: Shelf) -> Home:
    """Somebody who trusts acme, and knows nothing else."""
    return trusting_home(tmp_path / "home", tiny)


def release(root: Path, reference: str, text: str, publisher: Publisher | None = None) -> Shelf:
    """Publish a file with that text."""
    file = root / "files" / f"{text.replace(' ', '-')}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return shelf(root, [file], reference=reference, publisher=publisher)


def another(tmp_path: Path, before: Shelf, text: str, reference: str = "acme/tiny:v1") -> Shelf:
    """The publisher's next release."""
    return release(tmp_path / "shelf", reference, text, load_publisher(before.home, "acme"))


def written(home: Home, publisher: Publisher, folder: Path) -> Path:
    write_site(home, publisher.identity, folder)
    return folder


def ask(*sources: Path | str, now: datetime | None = None, **how: object) -> Asking:
    return Asking(now=now or clock(), sources=tuple(map(str, sources)), **how)  # type: ignore[arg-type]


def seen(home: Home, published: Shelf) -> CatalogClient:
    return CatalogClient(TrustFolder(home.trust), published.publisher.identity)


def text_of(resolved: Resolved) -> str:
    """What the release's one file says."""
    (file,) = resolved.release.files
    assert file.inline is not None
    return file.inline.decode()


def pull_text(home: Home, source: object, *sources: Path | str) -> str:
    """Pull with no network at all; what the file says."""
    done = pulled(home, source, options(peer_to_peer=False, sources=tuple(map(str, sources))))
    return done.files[0].location.read_text()


# -- current -----------------------------------------------------------------------------------------------------------


def test_a_name_is_what_the_catalog_says_now(tmp_path: Path, home: Home, tiny: Shelf, site: Path) -> None:
    assert pull_text(home, "acme/tiny:v1", site) == "tiny one"
    another(tmp_path, tiny, "tiny two")
    written(tiny.home, tiny.publisher, site)
    assert pull_text(home, "acme/tiny:v1", site) == "tiny two"
    assert pull_text(home, tiny.pinned, site) == "tiny one"


def test_the_identitys_first_letters_are_shown_wherever_an_alias_resolves(home: Home, tiny: Shelf, site: Path) -> None:
    short = tiny.publisher.identity[:8]
    asking = ask(site)
    for source in ("acme/tiny:v1", tiny.pinned, str(tiny.file)):
        assert short in resolve(home, source, asking).says
    changed(tiny, retraction("tiny", "v1", "broken"))
    written(tiny.home, tiny.publisher, site)
    for source in ("acme/tiny:v1", str(tiny.file), "acme/no:v1"):
        with pytest.raises(SamaraError, match=short):
            resolve(home, source, asking)


def test_a_moved_tag_is_followed(tmp_path: Path, home: Home, tiny: Shelf, site: Path) -> None:
    changed(tiny, tagging("tiny", "v1", "stable"))
    written(tiny.home, tiny.publisher, site)
    assert text_of(resolve(home, "acme/tiny:stable", ask(site))) == "tiny one"
    two = another(tmp_path, tiny, "tiny two", "acme/tiny:v2")
    changed(two, tagging("tiny", "v2", "stable"))
    written(tiny.home, tiny.publisher, site)
    moved = resolve(home, "acme/tiny:stable", ask(site))
    assert (text_of(moved), moved.tag, moved.release.tag) == ("tiny two", "stable", "v2")
    assert text_of(resolve(home, "acme/tiny:v1", ask(site))) == "tiny one"


def test_an_unknown_publisher_is_refused_with_the_command_to_type(tmp_path: Path, tiny: Shelf, site: Path) -> None:
    stranger = Home(tmp_path / "stranger")
    identity = tiny.publisher.identity
    for source in ("acme/tiny:v1", f"acme/tiny@{tiny.release.digest}"):
        with pytest.raises(TrustError, match="samara trust add acme --identity KEY"):
            resolve(stranger, source, ask(site))
    for source in (f"samara:{identity}/tiny:v1", str(tiny.file)):
        with pytest.raises(TrustError, match=f"samara trust add (acme|NAME) --identity {identity}"):
            resolve(stranger, source, ask(site))
    assert not list(stranger.trust.rglob("*")) or not TrustFolder(stranger.trust).list()


def test_another_publisher_of_the_same_name_is_not_taken_for_it(tmp_path: Path, tiny: Shelf, site: Path) -> None:
    """This machine's acme is somebody else; the site belongs to an acme it doesn't know."""
    mine = Home(tmp_path / "mine")
    init_publisher(mine, "acme", passphrase=None, recovery=None, now=NOW, kdf_rounds=QUICK)
    other = Home(tmp_path / "other")
    TrustFolder(other.trust).add("acme", NOBODY, now=NOW)
    for home, why in ((mine, "not signed by enough"), (other, "another publisher")):
        with pytest.raises(TrustError, match=why):
            resolve(home, "acme/tiny:v1", ask(site))
        with pytest.raises(TrustError, match="ANOTHER PUBLISHER CALLS ITSELF acme"):
            resolve(home, str(tiny.file), ask(site))


# -- stale -------------------------------------------------------------------------------------------------------------


def test_a_frozen_mirror_means_nothing_to_a_moving_tag(home: Home, tiny: Shelf, site: Path) -> None:
    late = clock(MONTH)
    with pytest.raises(TrustError, match="expired") as caught:
        resolve(home, "acme/tiny:v1", ask(site, now=late))
    assert "--allow-stale" in str(caught.value)
    assert seen(home, tiny).seen().accepted == ()
    pinned = resolve(home, tiny.pinned, ask(site, now=late))
    assert text_of(pinned) == "tiny one"
    assert seen(home, tiny).seen().accepted == (), "a digest accepts no catalog"


def test_a_stale_catalog_is_taken_knowingly_said_and_recorded(home: Home, tiny: Shelf, site: Path) -> None:
    taken = resolve(home, "acme/tiny:v1", ask(site, now=clock(MONTH), allow_stale=True))
    assert "EXPIRED" in taken.says
    assert not taken.current
    value = json.loads((home.trust / tiny.publisher.identity / "seen.json").read_bytes())
    (accepted,) = value["accepted_stale"]
    assert accepted["source"] == str(site)
    assert accepted["roles"] == ["timestamp", "snapshot"]
    with pytest.raises(TrustError, match="expired"):  # once is not for ever
        resolve(home, "acme/tiny:v1", ask(site, now=clock(MONTH)))


def test_what_was_seen_last_expires_as_well(tmp_path: Path, home: Home, tiny: Shelf, site: Path) -> None:
    resolve(home, "acme/tiny:v1", ask(site))
    gone = tmp_path / "gone"
    site.rename(gone)
    with pytest.raises(TrustError, match="expired"):
        resolve(home, "acme/tiny:v1", ask(site, now=clock(MONTH)))


def test_a_pinned_release_needs_nobodys_catalog_once_it_is_here(home: Home, tiny: Shelf, site: Path) -> None:
    pull_text(home, "acme/tiny:v1", site)
    for asking in (ask(now=clock(LATER)), ask("/nowhere", now=clock(LATER))):
        assert text_of(resolve(home, tiny.pinned, asking)) == "tiny one"


# -- downgrade ---------------------------------------------------------------------------------------------------------


def test_a_name_never_falls_back_to_a_bare_manifest(tmp_path: Path, home: Home, tiny: Shelf, site: Path) -> None:
    """An older release lies here, properly signed; whoever keeps the catalog away would like it to be run."""
    pull_text(home, str(tiny.file))
    shutil.copy(tiny.file, tmp_path / "tiny-v1.samara")
    for asking in (ask(), ask(tmp_path / "nowhere"), ask(tmp_path)):
        with pytest.raises((NotFoundError, NetworkError)):
            resolve(home, "acme/tiny:v1", asking)
    with pytest.raises((NotFoundError, NetworkError)):
        pull_text(home, "acme/tiny:v1")
    assert text_of(resolve(home, "acme/tiny:v1")) == "tiny one", "to run it here is another thing"


def test_a_manifest_out_of_the_catalog_is_not_what_its_name_means(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    """acme signed it, and took it off its list."""
    changed(tiny, lambda _catalog: {"tiny/v1": None})
    written(tiny.home, tiny.publisher, site)
    with pytest.raises(NotFoundError, match="has no tiny:v1"):
        resolve(home, "acme/tiny:v1", ask(site))


def test_a_file_alone_says_that_its_freshness_was_not_checked(home: Home, tiny: Shelf) -> None:
    assert "freshness not checked" in resolve(home, str(tiny.file), ask()).says


def test_a_file_alone_warns_of_a_newer_release_that_is_known(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    another(tmp_path, tiny, "tiny two")
    old = tmp_path / "old.samara"
    write_bundle(tiny, old)
    told = Told()
    resolve(home, str(old), ask(on_event=told))
    assert told.warnings == []
    resolve(home, "acme/tiny:v1", ask(written(tiny.home, tiny.publisher, site)))
    resolve(home, str(old), ask(on_event=told))
    (warning,) = told.warnings
    assert "version 1" in warning
    assert "version 2" in warning


def write_bundle(published: Shelf, target: Path) -> None:
    """The release's .samara file again: the next one of its tag wrote over it."""
    from samara.registry.index import Index
    from samara.schemas.release_file import pack_release

    with Index.open(published.home) as index:
        stored = index.release_by_digest(published.release.digest)
    assert stored is not None
    roots = published.publisher.chain.roots
    target.write_bytes(pack_release(ReleaseBundle(roots=roots, envelope=stored.envelope, torrents=stored.torrents)))


def test_a_withdrawn_release(home: Home, tiny: Shelf, site: Path) -> None:
    """Its name refuses with the reason, its file too, its digest warns."""
    changed(tiny, retraction("tiny", "v1", "the chat template is broken"))
    written(tiny.home, tiny.publisher, site)
    told = Told()
    for source in ("acme/tiny:v1", str(tiny.file)):
        with pytest.raises(TrustError, match="the chat template is broken") as caught:
            resolve(home, source, ask(site))
        assert tiny.pinned in str(caught.value)
    assert text_of(resolve(home, tiny.pinned, ask(site, on_event=told))) == "tiny one"
    assert any("the chat template is broken" in warning for warning in told.warnings)
    assert pull_text(home, tiny.pinned, site) == "tiny one"
    told = Told()
    resolve(home, tiny.pinned, ask(on_event=told))
    assert any("the chat template is broken" in warning for warning in told.warnings)


def test_a_withdrawn_release_stays_known_when_its_name_moves_on(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    changed(tiny, retraction("tiny", "v1", "broken"))
    old = tmp_path / "old.samara"
    shutil.copy(tiny.file, old)
    another(tmp_path, tiny, "tiny two")
    assert text_of(resolve(home, "acme/tiny:v1", ask(written(tiny.home, tiny.publisher, site)))) == "tiny two"
    with pytest.raises(TrustError, match="broken"):
        resolve(home, str(old), ask())


# -- other bytes -------------------------------------------------------------------------------------------------------


class Giving:
    """A finder that gives what it was told to, whatever is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def source(self, identity: str, chain: RootChain | None) -> MetadataSource:
        raise NotFoundError("not in the DHT")

    def release(self, v2: str, manifest_hex: str) -> bytes:
        return self._data


def object_of(site: Path, published: Shelf) -> Path:
    return site / "releases" / release_object_name(b3_hex(published.release.digest))


def test_another_release_in_the_place_of_the_one_named_is_not_taken(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    other = another(tmp_path, tiny, "other", "acme/other:v1")
    written(tiny.home, tiny.publisher, site)
    theirs = object_of(site, other).read_bytes()
    object_of(site, tiny).write_bytes(theirs)
    with pytest.raises(NotFoundError):
        resolve(home, "acme/tiny:v1", ask(site))
    with pytest.raises(NotFoundError):
        resolve(home, tiny.pinned, ask(site))
    with pytest.raises(IntegrityError, match="not the one its catalog names"):
        resolve(home, "acme/tiny:v1", ask(site, finder=lambda: Giving(theirs)))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x00" * 4096, b'{"format":"samara-release-1"}'], ids=["empty", "{}", "zeros", "shell"]
)
def test_junk_in_the_place_of_a_release_is_a_note(home: Home, tiny: Shelf, site: Path, data: bytes) -> None:
    object_of(site, tiny).write_bytes(data)
    with pytest.raises(NotFoundError):
        resolve(home, "acme/tiny:v1", ask(site))


Edit = Callable[[CatalogEntry], CatalogEntry]
EDITS: dict[str, Edit] = {
    "length": lambda entry: replace(entry, length=entry.length + 1),
    "SHA-256": lambda entry: replace(entry, sha256="ab" * 32),
}


def bundle_of(published: Shelf) -> ReleaseBundle:
    return unpack_release(published.file.read_bytes())


@pytest.mark.parametrize("what", EDITS)
def test_a_manifest_that_is_not_as_the_catalog_says_is_refused(
    home: Home, tiny: Shelf, site: Path, what: str
) -> None:  # fmt: skip
    """Even one that the publisher signed: each of length, SHA-256 and BLAKE3 is checked."""
    state = own_catalog(tiny.publisher)
    assert state is not None
    changed(tiny, lambda _catalog: {"tiny/v1": EDITS[what](state.catalog.entries["tiny/v1"])})
    written(tiny.home, tiny.publisher, site)
    with pytest.raises(IntegrityError, match=what):
        resolve(home, "acme/tiny:v1", ask(site))


def test_an_entry_that_gives_another_models_manifest_is_refused(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    """Swapped by whoever holds the online key: the manifest says which model it is."""
    other = another(tmp_path, tiny, "other", "acme/other:v1")
    state = own_catalog(load_publisher(tiny.home, "acme"))
    assert state is not None
    swapped = replace(state.catalog.entries["other/v1"], model="tiny")
    changed(other, listing(swapped))
    written(tiny.home, tiny.publisher, site)
    with pytest.raises(TrustError, match="another release"):
        resolve(home, "acme/tiny:v1", ask(site))


def test_an_entry_of_another_version_than_its_manifest_is_refused(home: Home, tiny: Shelf, site: Path) -> None:
    """Or an old manifest could be listed as a new version, and nobody be warned."""
    state = own_catalog(tiny.publisher)
    assert state is not None
    changed(tiny, listing(replace(state.catalog.entries["tiny/v1"], version=9)))
    written(tiny.home, tiny.publisher, site)
    with pytest.raises(TrustError, match="another release"):
        resolve(home, "acme/tiny:v1", ask(site))


# -- sources that lie --------------------------------------------------------------------------------------------------


def test_a_lying_source_keeps_no_pinned_release_away(tmp_path: Path, home: Home, tiny: Shelf, site: Path) -> None:
    """A digest needs only somebody who has the bytes; who lies about the catalog is a warning."""
    liar = tmp_path / "liar"
    shutil.copytree(site, liar)
    resolve(home, "acme/tiny:v1", ask(site))
    shutil.rmtree(home.root / "models", ignore_errors=True)
    changed_since = (site / "timestamp.json").read_bytes().replace(b'"version":1', b'"version":9')
    for junk in (b"{}", (site / "1.snapshot.json").read_bytes(), changed_since):
        (liar / "timestamp.json").write_bytes(junk)
        told = Told()
        assert text_of(resolve(home, tiny.pinned, ask(liar, on_event=told))) == "tiny one"
        with pytest.raises((TrustError, IntegrityError)):
            resolve(trusting_home(tmp_path / f"new-{len(junk)}", tiny), "acme/tiny:v1", ask(liar))


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A web server on loopback; its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join(30)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Nothing."""


class Endless(BaseHTTPRequestHandler):
    """Answers everything with bytes until the other side hangs up."""

    hung_up = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65536)
        except ConnectionError:
            self.hung_up.set()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        """Nothing."""


def test_an_endless_web_server_is_left(home: Home, tiny: Shelf) -> None:
    with serving(Endless) as url:
        with pytest.raises((TrustError, NetworkError)):
            resolve(home, "acme/tiny:v1", ask(url))
        assert Endless.hung_up.wait(30)


def test_a_catalog_comes_from_a_plain_web_server_too(home: Home, tiny: Shelf, site: Path) -> None:
    with serving(partial(Quiet, directory=str(site))) as url:
        assert pull_text(home, "acme/tiny:v1", url) == "tiny one"


def test_the_newest_of_several_sources_wins(tmp_path: Path, home: Home, tiny: Shelf, site: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(site, old)
    another(tmp_path, tiny, "tiny two")
    written(tiny.home, tiny.publisher, site)
    for sources in ((old, site), (site, old)):
        home_now = trusting_home(tmp_path / f"home-{sources[0].name}", tiny)
        assert text_of(resolve(home_now, "acme/tiny:v1", ask(*sources))) == "tiny two"


# -- names that can't be -----------------------------------------------------------------------------------------------

BAD_PATHS = ["../../x", "/abs", "tiny/..", "tiny/\x00", "tiny/a/b", "Tiny/v1", "tiny/con", "tiny", "tiny/", "a\\b/c"]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_catalog_lists_no_name_outside_our_grammar(tiny: Shelf, path: str) -> None:
    state = own_catalog(tiny.publisher)
    assert state is not None
    entry = state.catalog.entries["tiny/v1"]
    with pytest.raises(MalformedError, match="name that can't be"):
        changed(tiny, lambda _catalog: {path: entry})
    assert own_catalog(tiny.publisher) == state


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_name_outside_our_grammar_is_never_usable(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signed by a publisher whose software holds to no grammar. Its other names work."""
    from samara.registry.trust import catalogs

    state = own_catalog(tiny.publisher)
    assert state is not None
    entry = state.catalog.entries["tiny/v1"]
    two = another(tmp_path, tiny, "tiny two", "acme/tiny:v2")
    state = own_catalog(tiny.publisher)
    assert state is not None
    second = state.catalog.entries["tiny/v2"]
    with monkeypatch.context() as patch:
        patch.setattr(catalogs, "parse_entry", lambda *_args, **_named: None)
        changed(tiny, lambda _catalog: {path: second, "tiny/v2": None})
    state = own_catalog(tiny.publisher)
    assert state is not None
    assert path in state.catalog.entries.raw
    for number, part in (("snapshot", state.bundle.snapshot), ("targets", state.bundle.targets)):
        (site / f"{state.catalog.versions[number]}.{number}.json").write_bytes(part)
    (site / "timestamp.json").write_bytes(state.bundle.timestamp)
    assert resolve(home, "acme/tiny:v1", ask(site)).release.digest == entry.manifest
    with pytest.raises(SamaraError):
        resolve(home, f"acme/{path}", ask(site))
    with pytest.raises(MalformedError, match="name that can't be"):
        resolve(home, two.pinned, ask(site))
    with pytest.raises(NotFoundError) as caught:
        resolve(home, "acme/tiny:no", ask(site))
    assert str(caught.value).isprintable()
    assert path == "tiny" or path.partition("/")[2] not in {"..", "a/b", "\x00"} or ".." not in str(caught.value)


# -- keys that changed -------------------------------------------------------------------------------------------------


def test_a_manifest_by_a_retired_key_is_good_through_the_catalog_alone(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    rotate_key(tiny.home, tiny.publisher, "online", ask=None, now=clock())
    publisher = load_publisher(tiny.home, "acme")
    written(tiny.home, publisher, site)
    assert text_of(resolve(home, "acme/tiny:v1", ask(site))) == "tiny one"
    assert text_of(resolve(home, tiny.pinned, ask(site))) == "tiny one"
    listed = opened(tiny, home)
    assert isinstance(listed, TrustError)
    assert "retired" in str(listed)


def opened(published: Shelf, home: Home) -> VerifiedRelease | SamaraError:
    """The release file by itself."""
    try:
        return open_release(bundle_of(published), TrustFolder(home.trust))
    except SamaraError as error:
        return error


def test_a_manifest_by_nobodys_key_is_refused_though_the_catalog_lists_it(
    home: Home, tiny: Shelf, site: Path
) -> None:  # fmt: skip
    """DSSE and TUF agree: the online role lists it, but no targets key ever signed it."""
    file = object_of(site, tiny)
    value = json.loads(file.read_bytes())
    for signature in value["envelope"]["signatures"]:
        signature["keyid"] = "ab" * 32
    file.write_bytes(json.dumps(value).encode())
    with pytest.raises(TrustError, match="not signed by its publisher"):
        resolve(home, "acme/tiny:v1", ask(site))


# -- two machines that publish as one ----------------------------------------------------------------------------------


@pytest.fixture
def ci(tmp_path: Path, tiny: Shelf) -> Home:
    """The same publisher on another machine."""
    home = Home(tmp_path / "ci")
    shutil.copytree(tiny.home.keys, home.keys)
    shutil.copytree(tiny.home.trust, home.trust)
    return home


def published_at(home: Home, tmp_path: Path, reference: str, text: str, *sources: Path, offline: bool = False) -> None:
    """As `samara publish` does."""
    publisher = load_publisher(home, "acme")
    file = tmp_path / "files" / f"{text}.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    publish(
        home,
        [file],
        parse_reference(reference),
        publisher,
        output=tmp_path / f"{text}.samara",
        check_newest=lambda: None if offline else require_newest(home, publisher, ask(*sources)),
    )


def own(home: Home) -> tuple[int, set[str]]:
    """(version, names) of the publisher's catalog on that machine."""
    state = own_catalog(load_publisher(home, "acme"))
    assert state is not None
    return state.catalog.versions["timestamp"], set(state.catalog.entries)


def test_laptop_and_ci_take_turns(tmp_path: Path, tiny: Shelf, site: Path, ci: Home, home: Home) -> None:
    published_at(ci, tmp_path, "acme/tiny:nightly", "nightly", site)
    written(ci, load_publisher(ci, "acme"), site)
    with pytest.raises(TrustError, match="newer catalog") as caught:
        published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", site)
    assert "samara publisher sync acme" in str(caught.value)
    assert own(tiny.home) == (1, {"tiny/v1"})
    assert sync(tiny.home, load_publisher(tiny.home, "acme"), ask(site)) is not None
    published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", site)
    assert own(tiny.home) == (3, {"tiny/v1", "tiny/nightly", "tiny/v2"})
    written(tiny.home, load_publisher(tiny.home, "acme"), site)
    resolve(home, "acme/tiny:v2", ask(site))
    assert sync(tiny.home, load_publisher(tiny.home, "acme"), ask(site)) is None


def test_a_fork_of_one_version_is_refused_and_mended(tmp_path: Path, tiny: Shelf, site: Path, ci: Home) -> None:
    """Both published as version 2 at the same time, one of them offline."""
    published_at(ci, tmp_path, "acme/tiny:nightly", "nightly", site)
    written(ci, load_publisher(ci, "acme"), site)
    published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", offline=True)
    assert own(tiny.home)[0] == own(ci)[0] == 2
    with pytest.raises(TrustError, match="another catalog") as caught:
        published_at(tiny.home, tmp_path, "acme/tiny:v3", "three", site)
    assert "samara publisher sync acme" in str(caught.value)
    told = Told()
    assert sync(tiny.home, load_publisher(tiny.home, "acme"), ask(site, on_event=told)) is not None
    assert "publish what is missing again" in told.warnings[0]
    published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", site)
    assert own(tiny.home) == (3, {"tiny/v1", "tiny/nightly", "tiny/v2"})


def test_keys_rotated_elsewhere_are_taken_over_before_publishing(
    tmp_path: Path, tiny: Shelf, site: Path, ci: Home
) -> None:
    """The CI's numbers may be lower; what is signed here with the old keys, nobody would take."""
    for number in range(3):
        published_at(tiny.home, tmp_path, f"acme/tiny:v{number + 2}", f"tiny {number + 2}", offline=True)
    rotate_key(ci, load_publisher(ci, "acme"), "beacon", ask=None, now=clock())
    written(ci, load_publisher(ci, "acme"), site)
    with pytest.raises(TrustError, match="samara publisher sync acme"):
        published_at(tiny.home, tmp_path, "acme/tiny:v9", "nine", site)


def test_after_a_rotation_an_old_mirror_stops_nobody_from_publishing(tmp_path: Path, tiny: Shelf, site: Path) -> None:
    """It has what the retired key signed: the publisher's own, or what the thief made of it since."""
    rotate_key(tiny.home, tiny.publisher, "online", ask=None, now=clock())
    published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", site)
    assert own(tiny.home)[1] == {"tiny/v1", "tiny/v2"}


def test_a_source_that_is_away_stops_publishing_unless_told(tmp_path: Path, tiny: Shelf) -> None:
    with pytest.raises(NetworkError, match="--offline"):
        published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", tmp_path / "not-mounted")
    published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", offline=True)


def test_a_mirror_of_a_liar_is_not_taken_over(tmp_path: Path, tiny: Shelf, site: Path) -> None:
    changed(tiny, nothing)
    written(tiny.home, tiny.publisher, site)
    value = json.loads((site / "timestamp.json").read_bytes())
    value["signed"]["version"] = 99
    (site / "timestamp.json").write_bytes(json.dumps(value).encode())
    with pytest.raises(TrustError):
        sync(tiny.home, tiny.publisher, ask(site))
    assert own(tiny.home)[0] == 2


def test_a_damaged_catalog_of_ones_own_is_replaced_as_its_message_says(
    tmp_path: Path, tiny: Shelf, site: Path
) -> None:  # fmt: skip
    path = tiny.publisher.folder / "catalog"
    data = path.read_bytes()
    at = data.index(b'"_type":"timestamp"')
    path.write_bytes(data[:at] + data[at:].replace(b'"version":1', b'"version":7'))
    with pytest.raises(TrustError, match="not signed by any key it ever had") as caught:
        published_at(tiny.home, tmp_path, "acme/tiny:v2", "two", offline=True)
    assert str(path) in str(caught.value)
    path.unlink()
    assert sync(tiny.home, tiny.publisher, ask(site)) is not None
    assert path.read_bytes() == data


def test_the_catalog_of_ones_own_machine_is_asked_too(tiny: Shelf) -> None:
    known = KnownCatalogs(tiny.home)
    state = current_catalog(known, known.trust.resolve("acme"), ask())
    assert state.catalog.versions["timestamp"] == 1


def test_published_again_after_a_rotation_the_same_release_is_signed_by_the_new_key(
    tmp_path: Path, home: Home, tiny: Shelf, site: Path
) -> None:
    rotate_key(tiny.home, tiny.publisher, "online", ask=None, now=clock())
    publisher = load_publisher(tiny.home, "acme")
    done = publish(
        tiny.home, tiny.sources, parse_reference(tiny.reference), publisher, output=tmp_path / "again.samara"
    )  # fmt: skip
    assert (done.is_new, done.release.digest) == (False, tiny.release.digest)
    alone = open_release(unpack_release(done.release_file.read_bytes()), TrustFolder(home.trust))
    assert alone.release.digest == tiny.release.digest
    written(tiny.home, publisher, site)
    assert resolve(home, "acme/tiny:v1", ask(site)).release.digest == tiny.release.digest
