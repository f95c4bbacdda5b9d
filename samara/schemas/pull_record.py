"""The record of one pull: whom it was in contact with, how each was found, what came and went, what was wrong. Pure.

    {"format": "samara-pull-record-1", "started": "2026-01-02T03:04:05Z", "ended": …, "references": […],
     "outcome": "done", "networks": […], "endpoints": [{"endpoint": "192.0.2.7:6901", "kind": "peer", …}], …}

For places that must be able to show afterwards where their bytes came from. It is a note of this machine about itself:
unsigned, and only as true as whoever writes it. What is written is sorted, bounded and says how much was left out;
passwords and queries of URLs never get into it. Unknown fields are ignored by readers. Sizes are bytes, times UTC.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from samara.schemas.endpoints import format_endpoint, parse_endpoint
from samara.schemas.envelope import canonical_json, strict_json
from samara.schemas.errors import MalformedError, UsageError
from samara.schemas.manifest import MAX_SIZE, Created
from samara.schemas.references import looks_like_reference, parse_reference

FORMAT: Final = "samara-pull-record-1"
DONE = "done"

MAX_RECORD_BYTES = 16 << 20  # no record within the bounds below is larger
MAX_ENDPOINTS = 2048
MAX_EVIDENCE = 1024  # of all endpoints together
MAX_REFERENCES = 1024
MAX_NETWORKS = 1024
MAX_REFERENCE = 512  # characters, as the following ones
MAX_NAME = 512
MAX_REASON = 256
MAX_FILE = 1024
_MAX_HOST = 290

Kind = Literal["peer", "mirror", "catalog", "dht", "proxy"]
Found = Literal["told", "dht", "lan", "tracker", "exchange", "incoming", "manifest", "configured"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Wrong bytes that an endpoint gave.

    `block`: index in the file's blocks, None where only a BitTorrent piece is known. Digests: `b3:`, `sha256:` or
    `sha1:` and hex; `actual` is None where the bytes were thrown away unseen.
    """

    file: str
    block: int | None = None
    piece: int | None = None
    expected: str | None = None
    actual: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointRecord:
    """One endpoint that was contacted, or that was found and refused.

    `endpoint`: HOST:PORT, the address if there was one. `name`: the URL or the host as told, else empty. `refused`: why
    it was not contacted, None if it was allowed. Of one endpoint under one kind and name there is one.
    """

    endpoint: str
    kind: Kind
    name: str = ""
    found: tuple[Found, ...] = ()
    bytes_in: int = 0
    bytes_out: int = 0
    blocks_verified: int = 0
    blocks_rejected: int = 0
    refused: str | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class PullRecord:
    """One pull. `outcome`: "done", or the class of the error it ended with. `networks`: all that were allowed; none
    named means any. A clock may have been set meanwhile: `ended` may lie before `started`.
    """

    started: str
    ended: str
    references: tuple[str, ...]
    outcome: str
    networks: tuple[str, ...] = ()
    endpoints: tuple[EndpointRecord, ...] = ()
    endpoints_left_out: int = 0
    evidence_left_out: int = 0

    def as_json(self) -> bytes:
        """Canonical JSON of the record, tidied. Raises ValueError for what no pull can have done, as bytes below 0."""
        tidied = asdict(tidy(self))
        return canonical_json(PullRecordDocument(format=FORMAT, **tidied).model_dump(mode="json", exclude_none=True))

    @classmethod
    def from_json(cls, data: bytes) -> PullRecord:
        """What `as_json` wrote. Raises MalformedError naming the first offending field."""
        if len(data) > MAX_RECORD_BYTES:
            raise MalformedError("a pull record of that size", expected=f"≤ {MAX_RECORD_BYTES} bytes", actual=len(data))
        value = strict_json(data, "pull record")
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise MalformedError("not a pull record", expected=f'{{"format": "{FORMAT}", …}}')
        try:
            document = PullRecordDocument.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "document"
            raise MalformedError(f"pull record field {place}: {first['msg']}") from None
        return document.record()


def tidy(record: PullRecord) -> PullRecord:
    """The record as it is written: sorted, one entry for each endpoint, within the bounds, without secrets. Idempotent.

    Of too many endpoints those stay that gave wrong bytes, then those with most traffic, then those refused.
    """
    merged = merge(record.endpoints)
    kept = sorted(merged, key=_rank)[:MAX_ENDPOINTS]
    endpoints, room = [], MAX_EVIDENCE
    for endpoint in sorted(kept, key=_identity):
        endpoints.append(replace(endpoint, evidence=endpoint.evidence[:room]))
        room -= len(endpoints[-1].evidence)
    listed = sum(len(endpoint.evidence) for endpoint in endpoints)
    return replace(
        record,
        references=tuple(sorted(set(map(as_recorded, record.references)))[:MAX_REFERENCES]),
        outcome=_printable(record.outcome, 64),
        networks=tuple(
            sorted({str(ipaddress.ip_network(one, strict=False)) for one in record.networks})[:MAX_NETWORKS]
        ),
        endpoints=tuple(endpoints),
        endpoints_left_out=record.endpoints_left_out + len(merged) - len(kept),
        evidence_left_out=record.evidence_left_out + sum(len(one.evidence) for one in merged) - listed,
    )


def merge(endpoints: Iterable[EndpointRecord]) -> tuple[EndpointRecord, ...]:
    """One entry for each endpoint, kind and name, with the sums of what was noted of it at several times; sorted."""
    known: dict[tuple[str, str, str], EndpointRecord] = {}
    for one in map(_tidy_endpoint, endpoints):
        before = known.get(_identity(one))
        known[_identity(one)] = one if before is None else _sum(before, one)
    return tuple(known[key] for key in sorted(known))


def as_recorded(reference: str) -> str:
    """A reference as records spell it: with its tag, and a URL without what is secret in it. Idempotent."""
    if looks_like_reference(reference):
        return str(parse_reference(reference))
    return _printable(without_secrets(reference), MAX_REFERENCE)


def without_secrets(url: str) -> str:
    """A URL without user, password, query and fragment; anything else is left as it is."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    body = min((rest.partition(end)[0] for end in "?#"), key=len)
    authority, slash, path = body.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def _identity(one: EndpointRecord) -> tuple[str, str, str]:
    return one.kind, one.endpoint, one.name


def _rank(one: EndpointRecord) -> tuple[bool, int, bool, tuple[str, str, str]]:
    is_innocent = not one.evidence and not one.blocks_rejected
    return is_innocent, -(one.bytes_in + one.bytes_out), one.refused is None, _identity(one)


def _tidy_endpoint(one: EndpointRecord) -> EndpointRecord:
    return replace(
        one,
        endpoint=_endpoint(one.endpoint),
        name=_printable(without_secrets(one.name if "://" in one.name else one.name.rpartition("@")[2]), MAX_NAME),
        found=tuple(sorted(set(one.found))),
        refused=None if one.refused is None else _printable(one.refused, MAX_REASON),
        evidence=_sorted(replace(each, file=_printable(each.file, MAX_FILE)) for each in one.evidence),
    )


def _sum(one: EndpointRecord, other: EndpointRecord) -> EndpointRecord:
    return replace(
        one,
        found=tuple(sorted({*one.found, *other.found})),
        bytes_in=one.bytes_in + other.bytes_in,
        bytes_out=one.bytes_out + other.bytes_out,
        blocks_verified=one.blocks_verified + other.blocks_verified,
        blocks_rejected=one.blocks_rejected + other.blocks_rejected,
        refused=one.refused if one.refused is not None else other.refused,
        evidence=_sorted((*one.evidence, *other.evidence)),
    )


def _sorted(evidence: Iterable[Evidence]) -> tuple[Evidence, ...]:
    def place(one: Evidence) -> tuple[str, int, int, str, str]:
        block, piece = (-1 if at is None else at for at in (one.block, one.piece))
        return one.file, block, piece, one.expected or "", one.actual or ""

    return tuple(sorted(set(evidence), key=place))


def _printable(text: str, limit: int) -> str:
    """Other people's words: what isn't printable, also bytes that are no UTF-8, becomes a question mark."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _endpoint(text: str) -> str:
    """An endpoint as records spell it, whatever somebody out there calls himself; port 0 where there is none."""
    shown = "".join(c if "!" <= c <= "~" else "?" for c in text)
    try:
        host, port = parse_endpoint(shown)
    except UsageError:
        host, port = shown, 0
    return format_endpoint((host.strip("[]")[:_MAX_HOST].strip("[]") or "?", port))


def _check_endpoint(text: str) -> str:
    try:
        parse_endpoint(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _check_network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


_Endpoint = Annotated[
    str, StringConstraints(min_length=3, max_length=300, pattern="^[!-~]+$"), AfterValidator(_check_endpoint)
]
_Network = Annotated[str, StringConstraints(max_length=64), AfterValidator(_check_network)]
_Digest = Annotated[str, StringConstraints(pattern="^(?:(?:b3|sha256):[0-9a-f]{64}|sha1:[0-9a-f]{40})$")]
_Count = Annotated[int, Field(ge=0, lt=MAX_SIZE)]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)


class EvidenceDocument(_Wire):
    """Wrong bytes that an endpoint gave."""

    file: str = Field(max_length=MAX_FILE)
    block: _Count | None = None
    piece: _Count | None = None
    expected: _Digest | None = None
    actual: _Digest | None = None


class EndpointDocument(_Wire):
    """One endpoint that was contacted, or that was found and refused."""

    endpoint: _Endpoint = Field(description="HOST:PORT or [IPV6]:PORT")
    kind: Kind
    name: str = Field(max_length=MAX_NAME, description="URL or host as told, without secrets")
    found: Annotated[tuple[Found, ...], Field(strict=False, max_length=len(get_args(Found)))]
    bytes_in: _Count
    bytes_out: _Count
    blocks_verified: _Count
    blocks_rejected: _Count
    refused: str | None = Field(default=None, max_length=MAX_REASON, description="why it was not contacted")
    evidence: Annotated[tuple[EvidenceDocument, ...], Field(strict=False, max_length=MAX_EVIDENCE)]


class PullRecordDocument(_Wire):
    """The wire form of a pull record."""

    format: Literal["samara-pull-record-1"]
    started: Created
    ended: Created
    references: Annotated[
        tuple[Annotated[str, StringConstraints(max_length=MAX_REFERENCE)], ...],
        Field(strict=False, max_length=MAX_REFERENCES),
    ]
    outcome: str = Field(min_length=1, max_length=64, examples=[DONE, "NetworkError"])
    networks: Annotated[tuple[_Network, ...], Field(strict=False, max_length=MAX_NETWORKS)]
    endpoints: Annotated[tuple[EndpointDocument, ...], Field(strict=False, max_length=MAX_ENDPOINTS)]
    endpoints_left_out: _Count
    evidence_left_out: _Count

    @model_validator(mode="after")
    def _lists_each_once(self) -> Self:
        named = [(one.kind, one.endpoint, one.name) for one in self.endpoints]
        if len(set(named)) != len(named):
            raise ValueError("one endpoint is listed twice")
        if sum(len(one.evidence) for one in self.endpoints) > MAX_EVIDENCE:
            raise ValueError(f"more than {MAX_EVIDENCE} pieces of evidence")
        return self

    def record(self) -> PullRecord:
        """The same as a value."""
        endpoints = tuple(
            EndpointRecord(
                **one.model_dump(exclude={"evidence"}),
                evidence=tuple(Evidence(**each.model_dump()) for each in one.evidence),
            )
            for one in self.endpoints
        )
        return PullRecord(**self.model_dump(exclude={"format", "endpoints"}), endpoints=endpoints)
