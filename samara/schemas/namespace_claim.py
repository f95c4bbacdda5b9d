"""The claim of a name at one registry, to be signed by a publisher's targets keys. Pure.

An in-toto Statement v1 whose subject is the name (digest: SHA-256 of the identity) and whose predicate is {origin,
name, identity, issued}. Public metadata alone proves nothing about a name; this statement, for one origin, does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.manifest import STATEMENT_TYPE, Created, SafeName
from samara.schemas.references import Identity, is_identity, is_name

PREDICATE_TYPE: Final = "urn:x-samara:namespace-claim:v1"
MAX_ORIGIN = 300  # characters
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?\.?|[0-9a-f:.]+")  # a name, or an address of either kind

# First segments of a registry's own addresses, and words that would mislead: nobody's name.
RESERVED: Final = frozenset(
    {
        "about", "account", "admin", "announce", "api", "assets", "badge", "blobs", "blog", "datasets", "docs",
        "favicon.ico", "healthz", "help", "join", "login", "logout", "metrics", "models", "new", "oauth",
        "official", "organizations", "pricing", "raw", "readyz", "registry", "resolve", "resolve-cache", "robots.txt",
        "samara", "scrape", "search", "settings", "spaces", "static", "status", "v1", "v2", "well-known",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class NamespaceClaim:
    """`origin` as in `check_origin`; `issued`: aware, UTC, whole seconds."""

    origin: str
    name: str
    identity: str
    issued: datetime


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)


class _Predicate(_Wire):
    origin: str = Field(max_length=MAX_ORIGIN)
    name: SafeName
    identity: Identity
    issued: Created


class _Digest(_Wire):
    sha256: str = Field(max_length=64)


class _Subject(_Wire):
    name: str = Field(max_length=64)
    digest: _Digest


class _Statement(_Wire):
    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[_Subject] = Field(min_length=1, max_length=1)
    predicateType: Literal["urn:x-samara:namespace-claim:v1"]  # noqa: N815  (in-toto's spelling)
    predicate: _Predicate


def check_origin(text: str) -> str:
    """`scheme://host[:port]` in its one spelling: lower case, no default port, no path. Raises UsageError."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or not _HOST.fullmatch(host) or len(text) > MAX_ORIGIN:
        raise UsageError("not a registry's address", expected="http(s)://host[:port]", actual=repr(text[:120]))
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise UsageError(
            "a registry's address has no path or user", expected="http(s)://host[:port]", actual=repr(text[:120])
        )
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{shown}" + ("" if port in {None, default} else f":{port}")


def may_be_claimed(name: str) -> bool:
    """Whether a name can be anybody's at a registry."""
    return is_name(name) and name not in RESERVED and not is_identity(name)


def claim_payload(claim: NamespaceClaim) -> bytes:
    """The bytes to sign."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": claim.name, "digest": {"sha256": _digest(claim.identity)}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "origin": claim.origin,
                "name": claim.name,
                "identity": claim.identity,
                "issued": f"{claim.issued.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            },
        }
    )


def parse_claim(payload: bytes) -> NamespaceClaim:
    """Signed bytes → NamespaceClaim. Raises MalformedError."""
    try:
        statement = _Statement.model_validate(strict_json(payload, "claim"))
        said = statement.predicate
        issued = datetime.strptime(said.issued, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise MalformedError(f"claim field {place}: {first['msg']}") from None
    (subject,) = statement.subject
    if subject.name != said.name or subject.digest.sha256 != _digest(said.identity):
        raise MalformedError("the claim's subject is not its predicate's name and identity")
    return NamespaceClaim(origin=said.origin, name=said.name, identity=said.identity, issued=issued)


def _digest(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()
