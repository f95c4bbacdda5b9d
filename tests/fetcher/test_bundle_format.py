"""What is not exactly a bundle is refused whole: nothing of it becomes visible, whatever it names, however it grows."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from bundle_kit import (
    Files,
    exported,
    imported,
    nothing_left,
    put,
    relisted,
    repacked,
    tar_of,
    two_files,
    unpacked,
    visible,
)
from support.world import MIB, Shelf, assert_pulled, trusting_home

from samara.fetcher.bundle_stream import BundleReader
from samara.registry.home import Home
from samara.schemas.bundle import INDEX_NAME, MAX_INDEX_BYTES, TAR_END, tar_header
from samara.schemas.errors import MalformedError, NotFoundError, SamaraError, UsageError
from samara.schemas.release_file import ZSTD_MAGIC


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return two_files(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def bundle(published: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stick") / "tiny.tar.zst"
    exported(published, path)
    return path


@pytest.fixture
def home(tmp_path: Path, published: Shelf) -> Home:
    return trusting_home(tmp_path / "home", published)


def refused(home: Home, bundle: Path, match: str, kind: type[SamaraError] = MalformedError) -> None:
    """The bundle is refused for that reason, and the machine is as it was."""
    before = visible(home)
    with pytest.raises(kind, match=match):
        imported(home, bundle)
    assert visible(home) == before
    assert nothing_left(home)


# -- members -----------------------------------------------------------------------------------------------------------


def swapped(files: Files) -> Files:
    return [*files[:-2], files[-1], files[-2]]


def doubled(files: Files) -> Files:
    return [*files, files[-1]]


def extra(files: Files) -> Files:
    return [*files, ("blobs/" + "ab" * 32, b"more")]


def first_missing(files: Files) -> Files:
    return [files[0], *files[2:]]


def last_missing(files: Files) -> Files:
    return files[:-1]


def list_last(files: Files) -> Files:
    return [*files[1:], files[0]]


def without_list(files: Files) -> Files:
    return files[1:]


def second_list(files: Files) -> Files:
    return [files[0], *files]


def absolute(files: Files) -> Files:
    return [*files[:-1], ("/" + files[-1][0], files[-1][1])]


def traversing(files: Files) -> Files:
    return [*files[:-1], ("../../" + files[-1][0], files[-1][1])]


def longer(files: Files) -> Files:
    return [*files[:-1], (files[-1][0], files[-1][1] + b"x")]


def shorter(files: Files) -> Files:
    return [*files[:-1], (files[-1][0], files[-1][1][:-1])]


def nothing_else(files: Files) -> Files:
    return files[:1]


@pytest.mark.parametrize(
    "edit",
    [
        swapped, doubled, extra, first_missing, last_missing, list_last, without_list, second_list, absolute,
        traversing, longer, shorter, nothing_else,
    ],
    ids=lambda edit: edit.__name__,
)  # fmt: skip
def test_other_members_than_the_list_says(
    home: Home, bundle: Path, tmp_path: Path, edit: Callable[[Files], Files]
) -> None:  # fmt: skip
    refused(home, repacked(bundle, tmp_path / "bad.tar.zst", edit), "something else where|not a bundle|ends early")


@pytest.mark.parametrize("edit", [last_missing, extra], ids=["missing", "extra"])
def test_blobs_that_the_list_agrees_with_but_no_manifest(
    home: Home, bundle: Path, tmp_path: Path, edit: Callable[[Files], Files]
) -> None:
    bad = repacked(bundle, tmp_path / "bad.tar.zst", lambda files: relisted(edit(files)))
    refused(home, bad, "not what its releases need")


def test_a_longer_blob_that_the_list_admits_to(home: Home, bundle: Path, tmp_path: Path) -> None:
    refused(
        home, repacked(bundle, tmp_path / "bad.tar.zst", lambda files: relisted(longer(files))), "not what its releases"
    )


def entry(kind: bytes, **more: object) -> bytes:
    """A header of any type, as other people's tar writes it."""
    info = tarfile.TarInfo("blobs/" + "ab" * 32)
    info.type = kind
    for name, value in more.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "planted",
    [
        entry(tarfile.SYMTYPE, linkname="/etc/passwd"),
        entry(tarfile.LNKTYPE, linkname="../../outside"),
        entry(tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry(tarfile.BLKTYPE, devmajor=8),
        entry(tarfile.FIFOTYPE),
        entry(tarfile.DIRTYPE),
        entry(tarfile.GNUTYPE_SPARSE),
        entry(tarfile.REGTYPE, mode=0o4755),
        entry(tarfile.XHDTYPE, size=1 << 40),  # a pax header of a terabyte, which tarfile would read into memory
        entry(tarfile.XGLTYPE, size=1 << 40),
        entry(tarfile.GNUTYPE_LONGNAME, size=1 << 40),
        entry(tarfile.GNUTYPE_LONGLINK, size=1 << 40),
    ],
    ids=["symlink", "hardlink", "chr", "blk", "fifo", "dir", "sparse", "setuid", "pax", "global", "name", "link"],
)
@pytest.mark.parametrize("where", [0, 1, -1], ids=["first", "second", "last"])
def test_nothing_but_plain_files(home: Home, bundle: Path, tmp_path: Path, planted: bytes, where: int) -> None:
    files = unpacked(bundle)
    at = where % len(files)
    bad = put(tmp_path / "bad.tar.zst", tar_of(files[:at], b"") + planted + bytes(MIB) + tar_of(files[at:]))
    refused(home, bad, "something else where|not a bundle")
    assert {path.name for path in tmp_path.iterdir()} == {"bad.tar.zst", "home"}


@pytest.mark.parametrize("dialect", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_the_same_files_packed_by_another_tar(home: Home, bundle: Path, tmp_path: Path, dialect: int) -> None:
    """Whose headers say the same in other bytes: there is one spelling."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=dialect) as tar:
        for name, data in unpacked(bundle):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    refused(home, put(tmp_path / "bad.tar.zst", made.getvalue()), "not a bundle")


def test_one_flipped_bit_in_the_tar_anywhere_is_refused(home: Home, bundle: Path, tmp_path: Path) -> None:
    tar = tar_of(unpacked(bundle))
    interesting = {0, 99, 100, 130, 156, 257, 511, 512, 600, len(tar) - 1, len(tar) - 1024, len(tar) - 1025}
    headers = [at for at in range(0, len(tar), 512) if tar[at : at + 6] in {b"blobs/", b"releas", b"metada"}]
    for at in sorted(interesting | set(headers) | {at + 300 for at in headers} | {at + 511 for at in headers}):
        bad = put(tmp_path / "bad.tar.zst", tar[:at] + bytes([tar[at] ^ 1]) + tar[at + 1 :])
        with pytest.raises(SamaraError):
            imported(home, bad)
        assert not home.blobs.exists(), at
        assert nothing_left(home), at


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        b"x", b"\0", b"\x28", bytes(4096), ZSTD_MAGIC,
        zstandard.ZstdCompressor().compress(b"more"), zstandard.ZstdCompressor().compress(b""),
        b"\x50\x2a\x4d\x18\x04\0\0\0skip",
    ],
    ids=["x", "zero", "half-magic", "zeros", "magic", "frame", "empty-frame", "skippable"],
)  # fmt: skip
def test_bytes_after_the_frame(home: Home, bundle: Path, tmp_path: Path, tail: bytes) -> None:
    bad = tmp_path / "bad.tar.zst"
    bad.write_bytes(bundle.read_bytes() + tail)
    refused(home, bad, "goes on after its end")


@pytest.mark.parametrize("tail", [b"\0", bytes(512), b"x", tar_header("blobs/" + "ab" * 32, 0)])
def test_bytes_after_the_tars_end(home: Home, bundle: Path, tmp_path: Path, tail: bytes) -> None:
    refused(home, put(tmp_path / "bad.tar.zst", tar_of(unpacked(bundle)) + tail), "goes on after its end")


def test_a_tar_without_its_end(home: Home, bundle: Path, tmp_path: Path) -> None:
    for end in (b"", bytes(512), TAR_END[:-1]):
        refused(home, put(tmp_path / "bad.tar.zst", tar_of(unpacked(bundle), end)), "ends early")


def test_a_bundle_cut_short_anywhere(home: Home, bundle: Path, tmp_path: Path) -> None:
    whole = bundle.read_bytes()
    bad = tmp_path / "bad.tar.zst"
    near_ends = [*range(1, 40), *range(len(whole) - 40, len(whole))]
    for size in [*near_ends, *range(1000, len(whole), len(whole) // 7)]:
        bad.write_bytes(whole[:size])
        with pytest.raises(MalformedError):
            imported(home, bad)
    assert not home.blobs.exists()
    assert nothing_left(home)


@pytest.mark.parametrize("last", ["checksum", "empty-block"])
def test_a_frame_that_lacks_only_what_holds_no_content(
    home: Home, bundle: Path, tmp_path: Path, last: str
) -> None:  # fmt: skip
    """All of the tar is there by then; the frame is not whole all the same."""
    checksum = int(last == "checksum")
    parameters = zstandard.ZstdCompressionParameters.from_level(1, write_checksum=checksum, write_content_size=0)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    content = packer.compress(tar_of(unpacked(bundle))) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    end = packer.flush()
    assert 3 <= len(end) <= 7
    bad = tmp_path / "bad.tar.zst"
    for size in range(len(end)):
        bad.write_bytes(content + end[:size])
        refused(home, bad, "ends early")
    bad.write_bytes(content + end)
    imported(home, bad)


# -- zstd --------------------------------------------------------------------------------------------------------------


def test_not_zstd_at_all(home: Home, tmp_path: Path) -> None:
    bad = tmp_path / "bad.tar.zst"
    bad.write_bytes(b"PK\x03\x04 no zstd")
    refused(home, bad, "is not a bundle")


def test_files_that_are_none(home: Home, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    refused(home, tmp_path / "missing", "doesn't exist", NotFoundError)
    refused(home, tmp_path, "is a folder", UsageError)
    refused(home, tmp_path / "pipe", "not a regular file", UsageError)
    refused(home, tmp_path / "empty", "is empty", UsageError)


def test_a_window_larger_than_8_mib(home: Home, bundle: Path, tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24, write_content_size=0)
    bad = tmp_path / "bad.tar.zst"
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    bad.write_bytes(packer.compress(tar_of(unpacked(bundle))) + packer.flush())
    refused(home, bad, "damaged")


MEASURE = """
import resource, sys
from pathlib import Path
from samara.fetcher.bundle_stream import BundleReader
from samara.schemas.errors import MalformedError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with BundleReader(Path(sys.argv[1])) as reader:
        ring = iter(lambda: memoryview(bytearray(1 << 20)), None)
        for member in reader.index.members:
            for _ in reader.stream(member, ring):
                pass
        reader.finish()
except MalformedError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def memory_to_read(bundle: Path) -> tuple[str, int]:
    """What a process of its own says of a bundle, and the bytes of memory that reading it took."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, bundle], capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    *message, size = done.stdout.splitlines()
    return " ".join(message), int(size) * 1024


def bombed(bundle: Path, target: Path, prefix: bytes, size: int, *, declare: bool) -> Path:
    """A frame of `prefix` and a great many zero bytes, of which the frame may tell."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, write_content_size=int(declare), window_log=23)
    total = len(prefix) + size if declare else -1
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=total)
    with target.open("wb") as file:
        file.write(packer.compress(prefix))
        for _ in range(size // MIB):
            file.write(packer.compress(bytes(MIB)))
        file.write(packer.flush())
    return target


@pytest.mark.parametrize("declare", [True, False], ids=["declared", "undeclared"])
def test_a_bomb_takes_no_memory(bundle: Path, tmp_path: Path, declare: bool) -> None:
    bomb = bombed(bundle, tmp_path / "bomb.tar.zst", b"", 2048 * MIB, declare=declare)
    assert bomb.stat().st_size < MIB
    message, memory = memory_to_read(bomb)
    assert "not a bundle" in message
    assert memory < 48 * MIB


def test_a_bomb_after_the_end_takes_no_memory(bundle: Path, tmp_path: Path) -> None:
    tar = tar_of(unpacked(bundle))
    bomb = bombed(bundle, tmp_path / "bomb.tar.zst", tar, 2048 * MIB, declare=False)
    message, memory = memory_to_read(bomb)
    assert "goes on after its end" in message
    assert memory < 48 * MIB


def test_a_list_of_a_terabyte_is_not_read(bundle: Path, tmp_path: Path) -> None:
    for size in (MAX_INDEX_BYTES + 1, 8**11 - 1):
        bomb = bombed(bundle, tmp_path / "bomb.tar.zst", tar_header(INDEX_NAME, size), 64 * MIB, declare=False)
        with pytest.raises(MalformedError, match="too large"):
            BundleReader(bomb)


# -- and what is right -------------------------------------------------------------------------------------------------


def test_a_frame_compressed_otherwise_is_taken(
    home: Home, bundle: Path, published: Shelf, tmp_path: Path
) -> None:  # fmt: skip
    """Whoever unpacks a bundle and compresses it anew by `zstd -19` still has that bundle."""
    tar = tar_of(unpacked(bundle))
    for level, checksum in ((1, True), (12, False)):
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level, write_checksum=int(checksum), window_log=23
        )  # fmt: skip
        again = tmp_path / f"again-{level}.tar.zst"
        again.write_bytes(zstandard.ZstdCompressor(compression_params=parameters).compress(tar))
        imported(home, again)
    assert_pulled(home, published)


def test_order_of_calls_is_held(bundle: Path) -> None:
    with BundleReader(bundle) as reader, pytest.raises(RuntimeError, match="does not come next"):
        reader.document(reader.index.members[1])
    with BundleReader(bundle) as reader, pytest.raises(RuntimeError, match="members left"):
        reader.finish()
