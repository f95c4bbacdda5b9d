"""The whole way: published on one machine, listed by a registry on another, read from it over HTTP while it comes."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from support.registries import Provided, asking, mirroring, provided, pulling_through, registry_home
from support.swarms import lying, seeding
from support.world import MIB, PIECE, flipped_copy, one_blob

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings

SIZE = 16 * MIB
ORIGIN = "http://127.0.0.1:8642"


@contextmanager
def served(home: Home, index: Index, registry: Provided) -> Iterator[http.client.HTTPConnection]:
    """The service over it, and one client's connection."""
    service = Service(
        home=home,
        index=index,
        settings=Settings(origin=ORIGIN),
        bringer=registry.providing.bringer,
        keeper=registry.providing.keeper,
    )
    with RunningServer(create_app(service)) as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        try:
            yield connection
        finally:
            connection.close()


def test_a_client_reads_while_it_comes(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    path = f"/v1/blobs/{published.only.b3_hex}"
    with (
        seeding(published, up=6 * MIB) as seeder,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(seeder.endpoint))) as registry,
        served(home, index, registry) as client,
    ):
        client.request("GET", path)
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Content-Length")) == (200, str(SIZE))
        first = answer.read(1000)
        assert not home.blob(published.only.b3_hex).exists(), "it was whole before a byte was given"
        whole = first + answer.read()
        assert hashlib.sha256(whole).hexdigest() == hashlib.sha256(published.source.read_bytes()).hexdigest()
        client.request("GET", path, headers={"Range": "bytes=5000000-5000999"})  # from the disk by now
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (206, whole[5_000_000:5_001_000])


def test_ten_clients_and_a_liar_among_the_peers(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    data = published.source.read_bytes()
    wrong = flipped_copy(published.source, tmp_path / "wrong" / "blob.bin", range(100, SIZE, PIECE))
    with (
        seeding(published, up=8 * MIB) as honest,
        lying(published, wrong, up=8 * MIB) as liar,
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(liar.endpoint, honest.endpoint))) as registry,
        served(home, index, registry) as client,
    ):

        def read(number: int) -> bool:
            mine = http.client.HTTPConnection(client.host, client.port, timeout=60)
            start, end = number * MIB, SIZE if number % 2 else (number + 2) * MIB
            mine.request(
                "GET", f"/v1/blobs/{published.only.b3_hex}", headers={"Range": f"bytes={start}-{end - 1}"}
            )  # fmt: skip
            answer = mine.getresponse()
            found = answer.read()
            mine.close()
            return answer.status == 206 and found == data[start:end]

        with ThreadPoolExecutor(10) as pool:
            assert all(pool.map(read, range(10)))
        assert registry.until(lambda status: not status.coming).brought == 1


def test_nobody_has_it_and_the_client_is_told(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with (
        registry_home(tmp_path / "registry", published) as (home, index),
        provided(home, index, pulling_through(asking(("127.0.0.1", 9), give_up_after=0.5))) as registry,
        served(home, index, registry) as client,
    ):
        client.request("GET", f"/v1/blobs/{published.only.b3_hex}")
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Content-Type")) == (502, "application/problem+json")


def test_a_mirrored_blob_is_served_when_its_publisher_is_gone(tmp_path: Path) -> None:
    published = one_blob(tmp_path, SIZE)
    with registry_home(tmp_path / "registry", published) as (home, index):
        with (
            seeding(published) as seeder,
            provided(home, index, mirroring(asking(seeder.endpoint))) as registry,
        ):
            registry.until(lambda status: status.here == 1 and not status.coming)
        with provided(home, index, mirroring(asking())) as registry, served(home, index, registry) as client:
            client.request("GET", f"/v1/blobs/{published.only.b3_hex}")
            assert client.getresponse().read() == published.source.read_bytes()
            assert registry.providing._keeping.asked_at(published.only.b3) > 0, "the keeper wasn't told"
