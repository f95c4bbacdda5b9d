"""A release file that was changed on its way: refused before anything is fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.pulls import Pull, options
from support.world import MIB, one_blob, trusting_home

from samara.schemas.errors import ExitCode
from samara.schemas.release_file import pack_release, unpack_release


def test_a_bit_flipped_anywhere_in_a_release_file_is_refused(tmp_path: Path) -> None:
    """In the container or in what it holds; a bit that unpacks to the very same parts is the only one that may pass."""
    shelved = one_blob(tmp_path / "shelf", MIB)
    home = trusting_home(tmp_path / "home", shelved)
    whole = shelved.file.read_bytes()
    bundle = unpack_release(whole)
    damaged = tmp_path / "damaged.samara"
    for offset in range(0, len(whole), max(1, len(whole) // 60)):
        changed = whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :]
        damaged.write_bytes(changed)
        error = Pull(home, damaged, options()).error()
        if error.exit_code not in {ExitCode.INTEGRITY, ExitCode.TRUST}:
            assert "nobody to ask" in str(error), f"byte {offset}"
            assert unpack_release(changed) == bundle, f"byte {offset}"
        assert not home.partials.exists()


@pytest.mark.parametrize(("part", "status"), [("payload", 6), ("signature", 6), ("torrent", 5), ("root", 6)])
def test_one_changed_byte_in_each_part_of_a_release(tmp_path: Path, part: str, status: int) -> None:
    shelved = one_blob(tmp_path / "shelf", MIB)
    bundle = unpack_release(shelved.file.read_bytes())
    envelope = bundle.envelope
    if part == "payload":
        changed = replace(
            bundle, envelope=replace(envelope, payload=envelope.payload.replace(b"blob.bin", b"blob.bim"))
        )
    elif part == "signature":
        first = envelope.signatures[0]
        wrong = replace(first, sig=bytes([first.sig[0] ^ 1]) + first.sig[1:])
        changed = replace(bundle, envelope=replace(envelope, signatures=(wrong,)))
    elif part == "torrent":
        torrent = bundle.torrents[0]
        changed = replace(bundle, torrents=(torrent[:-40] + bytes([torrent[-40] ^ 1]) + torrent[-39:],))
    else:
        root = bundle.roots[0]
        changed = replace(bundle, roots=(root.replace(b'"expires":"20', b'"expires":"21', 1),))
        assert changed != bundle
    damaged = tmp_path / "damaged.samara"
    damaged.write_bytes(pack_release(changed))
    home = trusting_home(tmp_path / "home", shelved)
    assert Pull(home, damaged, options()).error().exit_code == status
    assert not home.partials.exists()
