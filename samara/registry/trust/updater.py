"""The TUF client workflow (TUF §5) by `tuf.ngclient`, over any source. None of its rules is written here.

It works in a folder that it may fill and change at will: what of it is kept, and how, is `catalog_client`'s business.
Time is an argument: the library reads the clock when it starts, and is corrected at once.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samara.registry.trust.sources import MetadataSource, let_go
from samara.schemas.errors import (
    DiskFullError,
    MalformedError,
    NetworkError,
    NotFoundError,
    SamaraError,
    StoreError,
    TrustError,
)
from samara.schemas.metadata_bundle import MAX_SNAPSHOT_BYTES, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)  # nothing has expired yet
BASE = "samara-source:///"


class ExpiredCatalogError(TrustError):
    """Everything is signed as it should be, but too long ago: a stale mirror, or somebody who hides what is newer."""


class RolledBackError(TrustError):
    """A source offers older metadata than was seen before."""


def run_updater(folder: Path, source: MetadataSource, *, bootstrap: bytes | None, now: datetime) -> None:
    """Refresh the metadata in `folder` from `source`, as of `now`.

    Before: root_history/N.root.json, timestamp.json, snapshot.json and targets.json as trusted before, as far as there
    are any. After: the same as trusted now. `bootstrap` is the root that trust begins with; None means the folder's own
    root.json. Raises TrustError, MalformedError, NetworkError, NotFoundError or StoreError, with the folder changed as
    far as the workflow came.
    """
    opened = _Opened(source)
    try:
        with library_errors(source.name):
            updater(folder, opened, bootstrap=bootstrap, now=now).refresh()
    finally:
        opened.close()


class _Opened:
    """A source whose files are let go of in the end: the library reads one to its bound and then forgets it."""

    def __init__(self, source: MetadataSource) -> None:
        self._source = source
        self.name = source.name
        self._files: list[Iterator[bytes]] = []

    def read(self, name: str) -> Iterator[bytes] | None:
        pieces = self._source.read(name)
        if pieces is not None:
            self._files.append(pieces)
        return pieces

    def close(self) -> None:
        for pieces in self._files:
            let_go(pieces)


def updater(
    folder: Path, source: MetadataSource, *, bootstrap: bytes | None, now: datetime, **more: Any
) -> Any:  # fmt: skip
    """The library's own updater; for this room and the conformance wrapper. Use it inside `library_errors`."""
    from tuf.ngclient import Updater, UpdaterConfig  # type: ignore[attr-defined]
    from tuf.ngclient.fetcher import FetcherInterface

    class Fetcher(FetcherInterface):
        """Asks the source instead of a web server."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            name = url.removeprefix(BASE)
            pieces = source.read(name)
            if pieces is None:
                from tuf.api.exceptions import DownloadHTTPError

                raise DownloadHTTPError(f"{source.name} has no {name}", 404)
            return pieces

        def fetch(self, url: str) -> Iterator[bytes]:
            # the base class would wrap our own errors, which already say what to do
            return self._fetch(url)

    config = UpdaterConfig(
        max_root_rotations=MAX_ROOTS,
        root_max_length=MAX_ROOT_BYTES,
        timestamp_max_length=MAX_TIMESTAMP_BYTES,
        snapshot_max_length=MAX_SNAPSHOT_BYTES,
        targets_max_length=MAX_TARGETS_BYTES,
    )
    made = Updater(str(folder), BASE, fetcher=Fetcher(), config=config, bootstrap=bootstrap, **more)
    made._trusted_set.reference_time = now.astimezone(UTC)  # no public way (7.0.1); the version is pinned below 8
    return made


@contextlib.contextmanager
def library_errors(source: str) -> Iterator[None]:
    """What the TUF library raises → our errors, naming the source."""
    from tuf.api import exceptions as tuf

    try:
        yield
    except SamaraError:
        raise
    except tuf.ExpiredMetadataError as error:
        raise ExpiredCatalogError(
            f"the catalog from {source} has expired ({error})",
            next_step="ask its publisher to run `samara publisher refresh`; to use it knowingly: --allow-stale",
        ) from None
    except tuf.BadVersionNumberError as error:
        raise RolledBackError(
            f"{source} offers an older or mixed-up catalog ({error})",
            next_step="try another source; if all say the same, ask the publisher",
        ) from None
    except tuf.UnsignedMetadataError as error:
        raise TrustError(
            f"metadata from {source} is not signed by enough of its publisher's keys ({error})",
            next_step="don't use this source; if all say the same, ask the publisher",
        ) from None
    except tuf.LengthOrHashMismatchError as error:
        raise TrustError(
            f"metadata from {source} is not what was signed ({error})", next_step="try another source"
        ) from None
    except tuf.DownloadLengthMismatchError as error:
        raise TrustError(f"{source} sends more than was signed ({error})", next_step="try another source") from None
    except tuf.DownloadHTTPError as error:
        raise NotFoundError(f"{source} lacks a part of the catalog ({error})", next_step="try another source") from None
    except tuf.DownloadError as error:
        raise NetworkError(f"can't get the catalog from {source} ({error})", next_step="try again later") from None
    except tuf.RepositoryError as error:
        raise MalformedError(f"metadata from {source} is not TUF metadata ({error})") from None
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(
                "no room left for the catalog's working files",
                next_step="free some space in the temporary folder (TMPDIR) and run it again",
            ) from None
        raise StoreError(
            f"can't keep the catalog's working files ({error.strerror or error})",
            next_step="check that the temporary folder can be written to",
        ) from None
