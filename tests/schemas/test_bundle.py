"""`samara-bundle.json`, the tar headers and the roots of a bundle: read back as written; anything else is refused."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from release_kit import GONE, HEX64, IDENTITY, edited, sample_payload

from samara.schemas.bittorrent import bencode
from samara.schemas.bundle import (
    INDEX_NAME,
    MAX_DOCUMENT_BYTES,
    MAX_INDEX_BYTES,
    MAX_RELEASES,
    ROOTS_FORMAT,
    TAR_END,
    BundledRelease,
    BundleIndex,
    Kind,
    Member,
    check_blobs,
    index_size,
    make_index,
    pack_index,
    pack_roots,
    tar_header,
    tar_padding,
    unpack_index,
    unpack_roots,
)
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError
from samara.schemas.manifest import parse_manifest
from samara.schemas.release_file import MAX_ROOT_BYTES

OTHER_IDENTITY = "a" * 52
MANIFEST, BLOB = "b3:" + HEX64, "b3:" + "cd" * 32
RELEASE = BundledRelease(identity=IDENTITY, model="tiny", tag="q8_0", manifest=MANIFEST, pinned=False)
MEMBERS = (
    Member(kind=Kind.METADATA, key=IDENTITY, size=100),
    Member(kind=Kind.RELEASE, key=MANIFEST, size=200),
    Member(kind=Kind.BLOB, key=BLOB, size=300),
)
INDEX = BundleIndex(created="2026-01-02T03:04:05Z", releases=(RELEASE,), members=MEMBERS)


def as_json() -> Any:
    return strict_json(pack_index(INDEX), "index")


class TestIndex:
    def test_it_is_read_as_it_was_written(self) -> None:
        assert unpack_index(pack_index(INDEX)) == INDEX

    def test_names_in_the_tar_say_what_each_member_is(self) -> None:
        assert [member.name for member in MEMBERS] == [
            f"metadata/{IDENTITY}",
            f"releases/{HEX64}.release.json",
            f"blobs/{'cd' * 32}",
        ]

    def test_one_set_of_releases_has_one_list_whatever_order_it_comes_in(self) -> None:
        later = BundledRelease(identity=IDENTITY, model="tiny", tag="f16", manifest="b3:" + "ef" * 32, pinned=True)
        members = [*MEMBERS, Member(kind=Kind.RELEASE, key=later.manifest, size=10)]
        made = make_index(INDEX.created, [later, RELEASE], reversed(members))
        assert made == make_index(INDEX.created, [RELEASE, later], members)
        assert [member.kind for member in made.members] == [Kind.METADATA, Kind.RELEASE, Kind.RELEASE, Kind.BLOB]

    def test_unknown_fields_are_ignored(self) -> None:
        value = {**as_json(), "comment": "carried by Ada"}
        value["members"][0]["colour"] = "green"
        assert unpack_index(canonical_json(value)) == INDEX

    @pytest.mark.parametrize(
        ("pointer", "new"),
        [
            ("/format", "samara-bundle-2"),
            ("/format", GONE),
            ("/created", "yesterday"),
            ("/created", GONE),
            ("/releases", []),
            ("/releases", {}),
            ("/releases/0/identity", "acme"),
            ("/releases/0/identity", OTHER_IDENTITY),  # whose metadata is not here
            ("/releases/0/model", "../tiny"),
            ("/releases/0/tag", "Q8"),
            ("/releases/0/manifest", BLOB),
            ("/releases/0/manifest", "sha256:" + HEX64),
            ("/releases/0/pinned", 0),
            ("/releases/0/pinned", GONE),
            ("/releases/0", "acme/tiny:q8_0"),
            ("/members", None),
            ("/members/0", None),
            ("/members/0/size", 0),
            ("/members/0/size", -1),
            ("/members/0/size", True),
            ("/members/0/size", 100.0),
            ("/members/0/size", 17 * 1024 * 1024),
            ("/members/2/size", 2**53),
            ("/members/0/name", GONE),
            ("/members/0/name", f"metadata/{OTHER_IDENTITY}"),
            ("/members/0/name", f"roots/{OTHER_IDENTITY}"),
            ("/members/2/b3", MANIFEST),
            ("/members/2/b3", GONE),
            ("/members/2/name", "blobs/" + "ce" * 32),
            ("/members/2/name", "/blobs/" + "cd" * 32),
            ("/members/2/name", "../blobs/" + "cd" * 32),
            ("/members/2/name", "blobs/../../" + "cd" * 32),
            ("/members/2/name", "blobs/" + "CD" * 32),
            ("/members/2/name", "blobs/" + "cd" * 32 + "\n"),
            ("/members/2/name", "blobs/" + "cd" * 31),
            ("/members/2/name", "samara-bundle.json"),
            ("/members/2/name", "setup.sh"),
        ],
    )
    def test_anything_else_is_refused(self, pointer: str, new: object) -> None:
        with pytest.raises(MalformedError):
            unpack_index(canonical_json(edited(as_json(), pointer, new)))

    def test_members_are_in_order_each_once(self) -> None:
        for members in ((2, 1, 0), (0, 2, 1), (0, 0, 1, 2), (0, 1, 2, 2), (0, 1, 1, 2)):
            value = as_json()
            value["members"] = [value["members"][at] for at in members]
            with pytest.raises(MalformedError, match="not in order"):
                unpack_index(canonical_json(value))

    def test_of_each_publisher_there_is_metadata_or_roots_not_both(self) -> None:
        roots = Member(kind=Kind.ROOTS, key=IDENTITY, size=10)
        with pytest.raises(MalformedError, match="publishers"):
            make_index(INDEX.created, [RELEASE], [*MEMBERS, roots])
        assert make_index(INDEX.created, [RELEASE], [roots, *MEMBERS[1:]]).of(Kind.ROOTS) == (roots,)

    def test_metadata_of_a_publisher_without_a_release_is_refused(self) -> None:
        with pytest.raises(MalformedError, match="publishers"):
            make_index(INDEX.created, [RELEASE], [*MEMBERS, Member(kind=Kind.METADATA, key=OTHER_IDENTITY, size=1)])

    def test_releases_and_their_documents_are_the_same(self) -> None:
        for members in (MEMBERS[::2], (*MEMBERS, Member(kind=Kind.RELEASE, key="b3:" + "ef" * 32, size=1))):
            with pytest.raises(MalformedError, match="documents"):
                make_index(INDEX.created, [RELEASE], members)

    def test_a_release_is_listed_once(self) -> None:
        with pytest.raises(MalformedError, match="each once"):
            make_index(INDEX.created, [RELEASE, RELEASE], MEMBERS)

    def test_documents_are_bounded_together(self) -> None:
        many = [
            BundledRelease(identity=IDENTITY, model="m", tag="t", manifest=f"b3:{at:064x}", pinned=True)
            for at in range(MAX_DOCUMENT_BYTES // (16 << 20) + 1)
        ]
        members = [Member(kind=Kind.RELEASE, key=one.manifest, size=16 << 20) for one in many]
        with pytest.raises(MalformedError, match="too large"):
            make_index(INDEX.created, many, [MEMBERS[0], *members])

    def test_the_list_itself_is_bounded(self) -> None:
        with pytest.raises(MalformedError, match="too large"):
            unpack_index(bytes(MAX_INDEX_BYTES + 1))
        value = as_json()
        value["releases"] *= MAX_RELEASES + 1
        with pytest.raises(MalformedError, match="at most"):
            unpack_index(canonical_json(value))

    @given(st.binary(max_size=200))
    def test_garbage_is_malformed(self, data: bytes) -> None:
        with pytest.raises(MalformedError):
            unpack_index(data)

    def test_blobs_are_those_of_the_manifests_but_what_is_inline(self) -> None:
        release = parse_manifest(sample_payload())
        carried = {file.b3: file.size for file in release.files if file.inline is None}
        assert 0 < len(carried) < len(release.files)
        listed = [BundledRelease(
            identity=release.identity, model=release.model, tag=release.tag, manifest=release.digest, pinned=False
        )]  # fmt: skip
        documents = [
            Member(kind=Kind.METADATA, key=release.identity, size=1),
            Member(kind=Kind.RELEASE, key=release.digest, size=1),
        ]
        blobs = [Member(kind=Kind.BLOB, key=b3, size=size) for b3, size in carried.items()]
        check_blobs(make_index(INDEX.created, listed, [*documents, *blobs]), [release])
        shorter = [Member(kind=Kind.BLOB, key=blobs[0].key, size=blobs[0].size - 1), *blobs[1:]]
        for wrong in (blobs[1:], [*blobs, MEMBERS[2]], shorter):
            with pytest.raises(MalformedError, match="not what its releases need"):
                check_blobs(make_index(INDEX.created, listed, [*documents, *wrong]), [release])


class TestTar:
    @given(st.binary(max_size=2000))
    def test_other_programs_read_it(self, data: bytes) -> None:
        name = MEMBERS[2].name
        tar = tar_header(name, len(data)) + data + bytes(tar_padding(len(data))) + TAR_END
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            (member,) = opened.getmembers()
            assert (member.name, member.size, member.mode, member.mtime) == (name, len(data), 0o644, 0)
            assert member.isreg()
            file = opened.extractfile(member)
            assert file is not None
            assert file.read() == data

    @pytest.mark.parametrize("size", [0, 1, 511, 512, 8**11 - 1, 8**11, 2**53 - 1])
    def test_sizes_have_one_spelling_that_others_read(self, size: int) -> None:
        header = tar_header(MEMBERS[1].name, size)
        assert len(header) == 512
        assert tarfile.TarInfo.frombuf(header, "ascii", "strict").size == size

    def test_the_first_header_gives_the_size_of_the_list(self) -> None:
        assert index_size(tar_header(INDEX_NAME, 1234)) == 1234

    @pytest.mark.parametrize(
        "header",
        [
            bytes(512),
            b"x" * 512,
            b"",
            tar_header("other.json", 10),
            tar_header(INDEX_NAME, 0),
            tar_header(INDEX_NAME, MAX_INDEX_BYTES + 1),
            tar_header(INDEX_NAME, 8**11),
            tar_header(INDEX_NAME, 10)[:511],
            tar_header(INDEX_NAME, 10).replace(b"0000644", b"0000777"),
            tarfile.TarInfo(INDEX_NAME).tobuf(tarfile.PAX_FORMAT),
        ],
    )
    def test_any_other_first_header_is_refused(self, header: bytes) -> None:
        with pytest.raises(MalformedError):
            index_size(header)


class TestRoots:
    def test_they_are_read_as_they_were_written(self) -> None:
        assert unpack_roots(pack_roots([b"one", b"two"])) == (b"one", b"two")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"de",
            b"le",
            pack_roots([]),
            pack_roots([b""]),
            pack_roots([bytes(MAX_ROOT_BYTES + 1)]),
            bencode({"format": ROOTS_FORMAT, "roots": [1]}),
            bencode({"format": ROOTS_FORMAT, "roots": {}}),
            bencode({"format": "samara-roots-2", "roots": [b"x"]}),
            pack_roots([b"one"]) + b"x",
        ],
    )
    def test_anything_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(MalformedError):
            unpack_roots(data)
