"""Downloads that are interrupted: the registry is killed in the middle and comes back; a release is published between
two requests of one download. The registry is `samara serve` itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_kit import LIMIT, Asked, Client, Ended, Shop, hub, outside, shop
from support.bad_links import BadLink, Manners
from support.processes import Process, started
from support.waiting import eventually
from support.world import MIB, random_file

pytestmark = pytest.mark.long  # real parts that take their time: the longer suite

SIZE = 24 * MIB
STALLS_AT = 16 * MIB
CHUNK = 10 * MIB  # huggingface_hub writes as much at once; what came of the next chunk is lost with it


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def serving(shop: Shop, port: int) -> Iterator[Process]:
    """`samara serve` that answers."""
    with started(shop.acme.home, "serve", "--json", "--listen", f"127.0.0.1:{port}", "--log", "json") as process:
        process.expect("note", lambda line: "serving" in line["message"])
        yield process


def test_a_download_goes_on_when_the_registry_was_killed_and_is_back(tmp_path: Path) -> None:
    source = random_file(tmp_path / "weights.bin", SIZE, seed=1)
    with shop(tmp_path) as made, outside() as elsewhere:
        made.publish("large:v1", [source])
        port = free_port()
        ended: list[Ended] = []
        with BadLink(("127.0.0.1", port), Manners(stall_after=STALLS_AT)) as link:
            client = Client(url=f"http://{link.text}", folder=tmp_path / "client", outside=elsewhere)

            def download() -> None:
                patient = {"HF_HUB_DOWNLOAD_TIMEOUT": str(int(LIMIT))}  # it shall see the end, not lose patience before
                asked = ("download", "acme/large", "weights.bin", "--revision", "v1", "--quiet")
                ended.append(client.hf(*asked, **patient))

            with serving(made, port) as first:
                thread = threading.Thread(target=download)
                thread.start()
                eventually(lambda: link.has_stalled or bool(ended))
                assert not ended, ended
                first.send(signal.SIGKILL)
                first.end()
            with serving(made, port) as second:
                link.manners = Manners()
                link.speak()
                thread.join(LIMIT)
                second.send(signal.SIGTERM)
                asked = second.end().events
    (done,) = ended
    assert done.status == 0, done.stderr
    assert "Trying to resume download" in done.stderr
    assert Path(done.stdout.strip()).read_bytes() == source.read_bytes()
    (rest,) = [line for line in asked if line.get("method") == "GET"]
    assert (rest["status"], rest["bytes"]) == (206, SIZE - CHUNK)  # what had come was not fetched again


def test_a_release_that_comes_in_the_middle_of_a_download_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    """huggingface_hub names what it keeps by the digest that HEAD told, whatever bytes GET gives."""

    def fill(shop: Shop, folder: Path) -> None:
        shop.publish("moved:v1", [random_file(folder / "old" / "moved.bin", 200_000, seed=1)])

    with hub(tmp_path, fill=fill) as registry:
        old = registry.bytes_of("moved:v1")["moved.bin"]

        def publish_another(asked: Asked) -> None:
            if asked.method == "HEAD":
                registry.shop.publish("moved:v1", [random_file(tmp_path / "new" / "moved.bin", 200_000, seed=2)])

        registry.recorder.between = publish_another
        client = registry.client(tmp_path / "client")
        kept = Path(client.call("hf_hub_download", "acme/moved", "moved.bin", revision="v1"))
        assert [one.method for one in registry.recorder.take()] == ["HEAD", "GET"]
        assert registry.bytes_of("moved:v1")["moved.bin"] != old
        assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.resolve().name
        assert kept.read_bytes() == old
