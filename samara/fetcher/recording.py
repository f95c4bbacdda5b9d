"""The record of a pull, written when it ends, however it ends: into the index, and to a file if one was named."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from samara.fetcher.later import LaterIndex
from samara.fetcher.options import PullOptions
from samara.fetcher.session import Session
from samara.registry.durable import make_folder, write_durably
from samara.schemas.errors import SamaraError, StoreError, UsageError
from samara.schemas.events import OnEvent, Warned
from samara.schemas.pull_record import DONE, PullRecord


@contextlib.contextmanager
def recorded(
    references: Callable[[], tuple[str, ...]],
    index: LaterIndex,
    session: Session,
    options: PullOptions,
    on_event: OnEvent,
) -> Iterator[None]:
    """Note whom the work inside was in contact with. `references`: of what, as far as that is known by then.

    A record that can't be written to the file asked for is an error where the work itself was none.
    """
    started = _now()
    if options.record is not None:
        _require_place(options.record)
    try:
        yield
    except BaseException as error:
        record = _record(references(), started, type(error).__name__, session, options)
        try:
            _write(record, index, options.record)
        except SamaraError as trouble:  # what ended the work is the news
            on_event(Warned(message=f"the record of this pull could not be kept: {trouble}"))
        raise
    _write(_record(references(), started, DONE, session, options), index, options.record)


def _require_place(path: Path) -> None:
    """Said before the work, not after it. Whatever isn't a file (/dev/null, a pipe) must not be replaced by one."""
    if path.is_symlink() or (path.exists() and not path.is_file()) or not path.name:
        raise UsageError(f"the record can't be written to {str(path)!r}", expected="a file, there already or not")
    make_folder(path.absolute().parent)
    if not os.access(path.absolute().parent, os.W_OK):
        raise StoreError(f"can't write to {path.absolute().parent}", next_step="choose another place for the record")


def _record(
    references: tuple[str, ...], started: str, outcome: str, session: Session, options: PullOptions
) -> PullRecord:
    return PullRecord(
        started=started,
        ended=_now(),
        references=references,
        outcome=outcome,
        networks=tuple(map(str, options.networks)),
        endpoints=session.contacts.endpoints(),
    )


def _write(record: PullRecord, index: LaterIndex, path: Path | None) -> None:
    """Into the index, and to the file whatever becomes of that."""
    try:
        index.get().add_pull_record(record)
    finally:
        if path is not None:
            make_folder(path.absolute().parent)
            write_durably(path, record.as_json() + b"\n")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
