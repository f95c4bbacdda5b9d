"""The command line for the public TUF conformance suite, on a repository of ours over HTTP."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from trust_kit import home_at, quick_publisher

from samara.registry.trust.catalogs import write_catalog
from samara.registry.trust.publishers import Publisher
from samara.schemas.catalog import CatalogEntry
from samara.schemas.metadata_bundle import MetadataBundle

CLIENT = Path(__file__).parent.parent.parent / "scripts" / "tuf-conformance-client"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the base class's name)
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder, on a free port of loopback."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def client(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CLIENT), "--metadata-dir", str(folder), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def lay_out(site: Path, bundle: MetadataBundle, version: int) -> None:
    for name, data in bundle.files(snapshot_version=version, targets_version=version):
        (site / name).write_bytes(data)


def catalog(publisher: Publisher, previous: MetadataBundle | None, tag: str, data: bytes) -> MetadataBundle:
    digest = hashlib.sha256(data).hexdigest()
    entry = CatalogEntry(
        model="m", tag=tag, manifest=f"b3:{digest}", length=len(data), sha256=digest, release_v2=digest, version=1
    )
    keys = publisher.online_keys()
    return write_catalog(publisher.chain, {entry.path: entry}, previous, signers=keys, now=datetime.now(UTC))


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    return quick_publisher(home_at(tmp_path / "home"))


def test_init_refresh_and_download(tmp_path: Path, publisher: Publisher) -> None:
    site, mine, targets = tmp_path / "site", tmp_path / "metadata", tmp_path / "targets"
    for folder in (site, mine, targets):
        folder.mkdir()
    first = catalog(publisher, None, "v1", b"one")
    lay_out(site, first, 1)
    (site / "m").mkdir()
    (site / "m" / f"{hashlib.sha256(b'one').hexdigest()}.v1").write_bytes(b"one")
    root = tmp_path / "root.json"
    root.write_bytes(publisher.chain.roots[0])
    with served(site) as url:
        assert client(mine, "init", root).returncode == 0
        done = client(mine, "--metadata-url", url, "refresh")
        assert (done.returncode, done.stderr) == (0, "")
        assert (mine / "timestamp.json").read_bytes() == first.timestamp
        got = client(
            mine, "--metadata-url", url, "--target-name", "m/v1", "--target-dir", targets, "--target-base-url", url,
            "download",
        )  # fmt: skip
        assert (got.returncode, got.stderr) == (0, "")
        assert [path.read_bytes() for path in targets.rglob("*") if path.is_file()] == [b"one"]
        lay_out(site, catalog(publisher, first, "v2", b"two"), 2)
        assert client(mine, "--metadata-url", url, "refresh").returncode == 0
        (site / "timestamp.json").write_bytes(first.timestamp)
        old = client(mine, "--metadata-url", url, "refresh")
        assert old.returncode == 1
        assert "older" in old.stderr
