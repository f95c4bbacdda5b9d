"""Claims of names: one spelling of origins, and no document that could be taken for another kind."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.manifest import parse_manifest
from samara.schemas.namespace_claim import NamespaceClaim, check_origin, claim_payload, may_be_claimed, parse_claim
from samara.schemas.release_file import unpack_release

DOCS = Path(__file__).parents[2] / "docs"
VECTORS = Path(__file__).parents[1] / "vectors"
IDENTITY = "a" * 52
CLAIM = NamespaceClaim(
    origin="https://models.example.org", name="acme", identity=IDENTITY, issued=datetime(2026, 1, 31, 12, tzinfo=UTC)
)


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Models.Example.ORG/", "https://models.example.org"),
        ("https://models.example.org:443", "https://models.example.org"),
        ("http://nas.lan:80", "http://nas.lan"),
        ("http://nas.lan:8642", "http://nas.lan:8642"),
        ("http://[2001:DB8::1]:8642", "http://[2001:db8::1]:8642"),
    ],
)
def test_an_origin_has_one_spelling(text: str, origin: str) -> None:
    assert check_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    ["models.example.org", "ftp://x", "http://", "http://a/b", "http://u@a", "http://a?q", "http://a#f", "http://a:x",
     "http://" + "a" * 300, "http://ä"],
)  # fmt: skip
def test_what_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        check_origin(text)


def test_a_claim_is_read_as_it_was_written_whatever_the_writers_zone() -> None:
    east = CLAIM.issued.astimezone(timezone(timedelta(hours=5)))
    written = claim_payload(NamespaceClaim(origin=CLAIM.origin, name="acme", identity=IDENTITY, issued=east))
    assert written == claim_payload(CLAIM)
    assert parse_claim(written) == CLAIM


def test_the_document_shows_these_fields() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    start = text.index('    {"_type"')
    shown = text[start : text.index("\n\n", start)]
    value = json.loads(claim_payload(CLAIM))
    assert re.findall(r'"([A-Za-z_0-9]+)":', shown) == re.findall(r'"([A-Za-z_0-9]+)":', json.dumps(value))
    assert claim_payload(CLAIM) == json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_a_claim_is_no_manifest_and_a_manifest_no_claim() -> None:
    with pytest.raises(MalformedError):
        parse_manifest(claim_payload(CLAIM))
    manifest = unpack_release((VECTORS / "example.samara").read_bytes()).envelope.payload
    assert parse_manifest(manifest).files
    with pytest.raises(MalformedError):
        parse_claim(manifest)
    kind = json.loads(manifest)["predicateType"]
    with pytest.raises(MalformedError, match="predicateType"):
        parse_claim(json.dumps(json.loads(claim_payload(CLAIM)) | {"predicateType": kind}).encode())


def test_a_subject_that_is_not_what_is_claimed_is_refused() -> None:
    value = json.loads(claim_payload(CLAIM))
    for change in ({"name": "umbra"}, {"digest": {"sha256": "0" * 64}}):
        other = value | {"subject": [value["subject"][0] | change]}
        with pytest.raises(MalformedError, match="subject"):
            parse_claim(json.dumps(other).encode())


@pytest.mark.parametrize(
    "name",
    ["v1", "api", "static", "announce", "metrics", "oauth", "resolve", "well-known", IDENTITY, "../x", "Acme", ""],
)
def test_some_names_can_be_nobodys(name: str) -> None:
    assert not may_be_claimed(name)
    assert may_be_claimed("acme")
