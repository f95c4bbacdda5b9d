"""A registry to test with: two publishers, some tiny models, their bytes; publications made by real publishers.

`registry(tmp_path)` gives a Service over a home where acme and umbra have published. `push` takes a publication in as
`POST /v1/publish` does. No test in here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.world import FIXTURES, random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.listed_models import Listing
from samara.registry.publications.own import list_own
from samara.registry.service.ports import Bringer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.trust.making import init_publisher
from samara.registry.trust.own_catalog import own_catalog
from samara.registry.trust.publishers import Publisher
from samara.registry.trust.signing import sign_payload
from samara.schemas.envelope import Envelope
from samara.schemas.manifest import Release
from samara.schemas.namespace_claim import NamespaceClaim, claim_payload
from samara.schemas.publication import Publication
from samara.schemas.references import parse_reference
from samara.schemas.release_file import ReleaseBundle
from samara.seeder.publish import Description, publish

ORIGIN = "http://127.0.0.1:8642"
QUICK = 1  # bcrypt rounds: these passphrases protect nothing
ABOUT = Description(license="CC0-1.0", description="A tiny llama that can add.", upstream_repo="example/tiny")


@dataclass(frozen=True, kw_only=True)
class Author:
    """A publisher on a machine of its own."""

    home: Home
    publisher: Publisher
    folder: Path

    @property
    def identity(self) -> str:
        """Its identity."""
        return self.publisher.identity

    def publish(self, name: str, files: Sequence[Path], description: Description = ABOUT) -> Release:
        """Publish `files` as `model:tag`, as `samara publish` does."""
        reference = parse_reference(f"{self.publisher.name}/{name}")
        output = self.folder / f"{name.replace(':', '-')}.samara"
        return publish(
            self.home, files, reference, self.publisher, description=description, output=output, now=datetime.now(UTC)
        ).release

    def publication(self, *, claim: Envelope | None = None, releases: bool = True) -> Publication:
        """All that it has published, as `samara push` sends it."""
        state = own_catalog(self.publisher)
        assert state is not None
        bundles = []
        with Index.open(self.home) as index:
            for entry in state.catalog.entries.values() if releases else ():
                stored = index.release_by_digest(entry.manifest)
                assert stored is not None
                bundles.append(ReleaseBundle(roots=(), envelope=stored.envelope, torrents=stored.torrents))
        return Publication(metadata=state.bundle, releases=tuple(bundles), claim=claim)

    def claim(self, name: str, *, origin: str = ORIGIN, issued: datetime | None = None) -> Envelope:
        """A signed claim of a name."""
        moment = (issued or datetime.now(UTC)).replace(microsecond=0)
        said = NamespaceClaim(origin=origin, name=name, identity=self.identity, issued=moment)
        return sign_payload(claim_payload(said), self.publisher.online_keys(None))


def author(folder: Path, name: str) -> Author:
    """A new publisher in a home of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    home = Home(folder / "home")
    publisher = init_publisher(home, name, passphrase=None, recovery=None, now=datetime.now(UTC), kdf_rounds=QUICK)
    return Author(home=home, publisher=publisher, folder=folder)


def tiny_files(folder: Path) -> list[Path]:
    """A model of several files: a GGUF, a licence, a readme, a file in no format."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / "tiny-q8_0.gguf"
    weights.write_bytes((FIXTURES / "tiny-q8_0.gguf").read_bytes())
    (folder / "README.md").write_text("# tiny\n\nIt adds numbers below twenty.\n", encoding="utf-8")
    (folder / "LICENSE").write_text("CC0 1.0\n", encoding="utf-8")
    return [weights, folder / "README.md", folder / "LICENSE", random_file(folder / "extra.bin", 300_000, seed=7)]


def listed(index: Index, identity: str) -> tuple[Listing, ...]:
    """Everything that a publisher's names mean."""
    owner = index.listings.owner(identity)
    assert owner is not None
    models = index.listings.owners_models(owner, limit=1000, offset=0).models
    return tuple(one for model in models for one in index.listings.model(owner, model.model))


def listed_torrents(index: Index) -> dict[str, bytes]:
    """Blob (`b3:…`) → the .torrent that the tracker is told of. For registries in which no blob has two."""
    found: dict[str, bytes] = {}
    for number, blob, _ in index.listings.listed_torrents():
        data = index.listings.torrent_data(number)
        assert data is not None
        assert blob not in found
        found[blob] = data
    return found


@contextlib.contextmanager
def registry(tmp_path: Path, *, settings: Settings | None = None, bringer: Bringer | None = None) -> Iterator[Service]:
    """A registry over the home of two publishers: acme (tiny:q8_0, tiny:f16, blob:v1) and umbra (other:v1)."""
    folder = tmp_path / "registry"
    acme = author(folder, "acme")
    umbra = Author(
        home=acme.home,
        publisher=init_publisher(
            acme.home, "umbra", passphrase=None, recovery=None, now=datetime.now(UTC), kdf_rounds=QUICK
        ),
        folder=folder,
    )
    acme.publish("tiny:q8_0", tiny_files(folder / "tiny"))
    whole = folder / "tiny.gguf"  # a copy: tests may harm what is published
    whole.write_bytes((FIXTURES / "tiny.gguf").read_bytes())
    acme.publish("tiny:f16", [whole])
    acme.publish("blob:v1", [random_file(folder / "blob.bin", 5_000_000, seed=1)])
    umbra.publish("other:v1", [random_file(folder / "other.bin", 700_000, seed=2)], Description(license="MIT"))
    with Index.open(acme.home) as index:
        list_own(acme.home, index, now=datetime.now(UTC))
        yield Service(
            home=acme.home, index=index, settings=settings or Settings(origin=ORIGIN), bringer=bringer
        )  # fmt: skip
