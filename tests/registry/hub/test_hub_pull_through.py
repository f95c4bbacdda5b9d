"""Files that the registry hasn't got: brought from a real swarm when a client of the Hub asks, given while they arrive,
and never a byte that isn't proven.
"""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hub_kit import ORIGIN, Client, Recorder, answering, outside
from support.registries import Provided, asking, provided, pulling_through, registry_home
from support.swarms import lying, seeding
from support.world import MIB, PIECE, Shelf, flipped_copy, one_blob

from samara.registry.service.service import Service
from samara.registry.service.settings import Settings

pytestmark = pytest.mark.long  # real parts that take their time: the longer suite

SIZE = 8 * MIB


@dataclass(frozen=True, kw_only=True)
class Bringing:
    """A registry that lists a release and has none of its bytes."""

    url: str
    repository: str
    fetching: Provided
    recorder: Recorder
    client: Client

    @property
    def path(self) -> str:
        """Where the one file is."""
        return f"/{self.repository}/resolve/v1/blob.bin"


@contextlib.contextmanager
def bringing(root: Path, published: Shelf, *peers: tuple[str, int], give_up_after: float = 20.0) -> Iterator[Bringing]:
    """As `samara serve --pull-through`."""
    with contextlib.ExitStack() as stack:
        home, index = stack.enter_context(registry_home(root / "registry", published))
        options = pulling_through(asking(*peers, give_up_after=give_up_after))
        fetching = stack.enter_context(provided(home, index, options))
        providing = fetching.providing
        service = Service(
            home=home, index=index, settings=Settings(origin=ORIGIN), bringer=providing.bringer, keeper=providing.keeper
        )  # fmt: skip
        url, recorder = stack.enter_context(answering(service))
        elsewhere = stack.enter_context(outside())
        yield Bringing(
            url=url,
            repository=f"{published.publisher.identity}/blob",
            fetching=fetching,
            recorder=recorder,
            client=Client(url=url, folder=root / "client", outside=elsewhere),
        )


@contextlib.contextmanager
def asked(registry: Bringing, method: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """A request for the one file, its answer not read yet."""
    connection = http.client.HTTPConnection(urlsplit(registry.url).netloc, timeout=60)
    try:
        connection.request(method, registry.path, headers=headers)
        yield connection.getresponse()
    finally:
        connection.close()


def test_huggingface_hub_downloads_what_only_the_swarm_has(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with seeding(published) as seeder, bringing(tmp_path, published, seeder.endpoint) as registry:
        path = Path(registry.client.call("hf_hub_download", registry.repository, "blob.bin", revision="v1"))
        assert path.read_bytes() == published.source.read_bytes()
        assert path.resolve().name == published.only.sha256[7:]
        registry.fetching.until(lambda status: not status.coming)
        assert registry.fetching.home.blob(published.only.b3_hex).read_bytes() == published.source.read_bytes()


def test_bytes_are_given_while_the_rest_arrives(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    whole = published.source.read_bytes()
    with (
        seeding(published, up=2 * MIB) as seeder,
        bringing(tmp_path, published, seeder.endpoint) as registry,
        asked(registry, "GET") as response,
    ):
        assert (response.status, response.headers["X-Repo-Commit"]) == (200, published.release.digest[3:43])
        assert response.headers["ETag"] == f'"{published.only.sha256[7:]}"'
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        first = response.read(100_000)
        assert not registry.fetching.home.blob(published.only.b3_hex).exists(), "it was whole before a byte was given"
        assert first + response.read() == whole


def test_asking_what_a_file_is_fetches_nothing(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with seeding(published) as seeder, bringing(tmp_path, published, seeder.endpoint) as registry:
        with asked(registry, "HEAD") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, str(SIZE))
        assert registry.client.call("api.model_info", registry.repository)["siblings"][0]["rfilename"] == "blob.bin"
        assert registry.fetching.status().brought == 0
        assert registry.fetching.status().coming == ()


def test_the_end_is_given_before_the_middle_is_there(tmp_path: Path) -> None:
    """llama.cpp and @huggingface/hub go on with ranges, and look at the ends of files first."""
    published = one_blob(tmp_path, 4 * SIZE)
    whole = published.source.read_bytes()
    with (
        seeding(published, up=4 * MIB) as seeder,
        bringing(tmp_path, published, seeder.endpoint) as registry,
        asked(registry, "GET", Range=f"bytes={3 * SIZE}-{3 * SIZE + 9999}") as response,
    ):
        assert response.status == 206
        assert response.read() == whole[3 * SIZE : 3 * SIZE + 10_000]
        assert not registry.fetching.home.blob(published.only.b3_hex).exists()


def test_nobody_has_it_and_the_client_is_told(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with bringing(tmp_path, published, give_up_after=1.0) as registry:
        failed = registry.client.call("hf_hub_download", registry.repository, "blob.bin", revision="v1")
        assert "HfHubHTTPError" in failed["kinds"]
        assert "502" in failed["message"]
        kept = [path for path in registry.client.cache.rglob("*") if path.is_file() and "blobs" in path.parts]
        assert kept == []


def test_of_a_liar_alone_not_a_byte_is_given(tmp_path: Path) -> None:
    published = one_blob(tmp_path, 2 * MIB)
    wrong = flipped_copy(published.source, tmp_path / "wrong" / "blob.bin", range(100, 2 * MIB, PIECE))
    with (
        lying(published, wrong) as liar,
        bringing(tmp_path, published, liar.endpoint, give_up_after=2.0) as registry,
        asked(registry, "GET") as response,
    ):
        assert response.status == 502
        assert liar.uploaded > 0, "the liar was never asked"
        assert wrong.read_bytes()[:1000] not in response.read()
