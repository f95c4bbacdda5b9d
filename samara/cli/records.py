"""`samara records`: whom pulls were in contact with, how each was found, what came and went, what was wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.text import clean, size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, NotFoundError

if TYPE_CHECKING:
    from samara.schemas.pull_record import EndpointRecord, Evidence, PullRecord

_SHOWN = 10  # pieces of evidence of one endpoint in text; --json has all
_HEADS = ("endpoint", "kind", "found by", "in", "out", "verified", "rejected")


@common_command(
    "records",
    examples="samara records\nsamara records acme/tiny:q8_0 --last 1\nsamara records --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.STORE),
)
@click.argument("reference", required=False, metavar="[REF]")
@click.option(
    "--last", type=click.IntRange(1, 1000), default=10, show_default=True, metavar="N",
    help="At most the newest N pulls; 1,000 are kept.",
)  # fmt: skip
def command(reference: str | None, *, last: int) -> None:
    """Print the records of pulls, newest first: every endpoint, how it was found, bytes and blocks.

    REF: only pulls that asked for it, spelled as then. Asks nobody.
    """
    from samara.registry.index import Index

    index = Index.open_existing(Home.find())
    found: tuple[PullRecord, ...] = ()
    if index is not None:
        with index:
            found = index.pull_records(last, reference)
    if not found and reference is not None:
        raise NotFoundError(f"no pull of {reference} is on record here", next_step="samara records")
    if not found:
        screen.note("no pull is on record here; run: samara pull REF")
    screen.result(
        {"records": [json.loads(record.as_json()) for record in found]},
        "\n\n".join("\n".join(_lines(record)) for record in found),
    )


def _lines(record: PullRecord) -> list[str]:
    bytes_in = sum(one.bytes_in for one in record.endpoints)
    bytes_out = sum(one.bytes_out for one in record.endpoints)
    lines = [
        clean(f"{record.started} – {record.ended}  {record.outcome}"),
        *(clean(f"  {reference}") for reference in record.references),
        f"  {size(bytes_in)} in · {size(bytes_out)} out · {_number(len(record.endpoints), 'endpoint')}",
    ]
    if record.networks:
        lines.append(clean(f"  only networks {', '.join(record.networks)}"))
    cells = [_HEADS, *(_cells(one) for one in record.endpoints)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADS))]
    for row, one in zip(cells, (None, *record.endpoints), strict=True):
        if one is None and not record.endpoints:
            continue
        left, right = row[:3], row[3:]
        padded = [f"{cell:<{width}}" for cell, width in zip(left, widths[:3], strict=True)]
        padded += [f"{cell:>{width}}" for cell, width in zip(right, widths[3:], strict=True)]
        lines.append(("    " + "  ".join(padded)).rstrip())
        lines += [] if one is None else [clean(f"      {more}") for more in _more(one)]
    if record.endpoints_left_out:
        lines.append(f"    and {_number(record.endpoints_left_out, 'endpoint')} for which there was no room")
    if record.evidence_left_out:
        lines.append(f"    and {_number(record.evidence_left_out, 'wrong block')} for which there was no room")
    return lines


def _cells(one: EndpointRecord) -> tuple[str, ...]:
    return (
        clean(one.endpoint),
        one.kind,
        ", ".join(one.found) or "–",
        size(one.bytes_in),
        size(one.bytes_out),
        # of several peers nobody counts who brought which block, unless --record asks for it
        "–" if one.kind == "peer" and one.bytes_in and not one.blocks_verified else str(one.blocks_verified),
        str(one.blocks_rejected),
    )


def _more(one: EndpointRecord) -> list[str]:
    lines = [one.name] if one.name and one.name != one.endpoint else []
    if one.refused is not None:
        lines.append(f"not contacted: {one.refused}")
    lines += [_wrong(evidence) for evidence in one.evidence[:_SHOWN]]
    if len(one.evidence) > _SHOWN:
        lines.append(f"… and {len(one.evidence) - _SHOWN} more (--json has all)")
    return lines


def _wrong(evidence: Evidence) -> str:
    place = f"block {evidence.block}" if evidence.block is not None else f"piece {evidence.piece}"
    expected = "" if evidence.expected is None else f": expected {evidence.expected}"
    actual = "" if evidence.actual is None else f", got {evidence.actual}"
    return f"wrong: {place} of {evidence.file}{expected}{actual}"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
