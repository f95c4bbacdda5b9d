"""The identity of a publisher."""

from __future__ import annotations

import pytest

from samara.registry.trust.identity import (
    MAX_ROOT_V1_BYTES,
    grouped,
    identity_of,
    identity_uri,
    infohash_of,
    read_identity,
    root_magnet,
)
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.references import is_identity

VECTOR = b'{"signatures":[],"signed":{}}'
IDENTITY = "3vlamkvw7cst7sjxjea62ju74z6tmzw4cxnaiafhjynji7jtrsja"


def test_the_published_vector_gives_the_published_identity() -> None:
    assert identity_of(VECTOR) == IDENTITY
    assert is_identity(IDENTITY)


def test_the_identity_is_an_infohash_and_thereby_an_address() -> None:
    infohash = infohash_of(IDENTITY)
    assert len(infohash) == 64
    assert root_magnet(IDENTITY) == f"magnet:?xt=urn:btmh:1220{infohash}"
    assert identity_uri(IDENTITY) == f"samara:{IDENTITY}"


def test_any_other_byte_is_another_identity() -> None:
    assert identity_of(VECTOR + b"\n") != IDENTITY


@pytest.mark.parametrize("size", [0, MAX_ROOT_V1_BYTES + 1])
def test_a_root_that_is_no_single_leaf_has_no_identity(size: int) -> None:
    with pytest.raises(MalformedError, match="root version 1"):
        identity_of(b"x" * size)


def test_the_largest_root_has_one() -> None:
    assert is_identity(identity_of(b"x" * MAX_ROOT_V1_BYTES))


@pytest.mark.parametrize(
    "text", [IDENTITY, IDENTITY.upper(), grouped(IDENTITY), f"samara:{IDENTITY}", f" {IDENTITY}\n"]
)
def test_an_identity_may_be_pasted_in_any_form(text: str) -> None:
    assert read_identity(text) == IDENTITY


@pytest.mark.parametrize("text", ["", "acme", IDENTITY[:-1], IDENTITY[:-1] + "b", IDENTITY + "a", "../" + IDENTITY])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a publisher identity"):
        read_identity(text)
