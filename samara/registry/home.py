"""Where everything this machine keeps lies: the folders of SAMARA_HOME, and the database of SAMARA_DATABASE. Names
paths; creates and reads nothing except through `prepare`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from samara.schemas.errors import StoreError

ENV_HOME = "SAMARA_HOME"
ENV_DATABASE = "SAMARA_DATABASE"


@dataclass(frozen=True, slots=True)
class Home:
    """The root folder and the names below it (layout: docs/store.md).

    `database`: the URL of a PostgreSQL database that holds the index instead of a file here; it may hold a password.
    """

    root: Path
    database: str | None = field(default=None, repr=False)

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """SAMARA_HOME, else the platform's data folder; SAMARA_DATABASE. Raises StoreError for `~nobody/…`."""
        told = environ.get(ENV_HOME)
        database = environ.get(ENV_DATABASE) or None
        if told:
            try:
                return cls(Path(told).expanduser().absolute(), database)
            except RuntimeError:
                raise StoreError(
                    f"{ENV_HOME}={told} names a user that doesn't exist", next_step=f"set {ENV_HOME} to a folder"
                ) from None
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("samara", appauthor=False)), database)

    @property
    def index(self) -> Path:
        """The SQLite index, unless `database` says where the index is."""
        return self.root / "index.sqlite3"

    @property
    def may_have_index(self) -> bool:
        """Whether something may be recorded already: False only where there is surely nothing."""
        return self.database is not None or self.index.exists()

    @property
    def blobs(self) -> Path:
        """Read-only, complete, verified blobs: blobs/ab/<b3 hex>."""
        return self.root / "blobs"

    @property
    def partials(self) -> Path:
        """One folder per transfer in progress: partial/<b3 hex>/{data,record,lock}."""
        return self.root / "partial"

    @property
    def models(self) -> Path:
        """Hard-linked views for other programs: models/<publisher>/<model>/<tag>/<file>."""
        return self.root / "models"

    @property
    def trust(self) -> Path:
        """Pinned identities and their root chains: trust/<identity>/."""
        return self.root / "trust"

    @property
    def keys(self) -> Path:
        """Publisher side only: keys/<name>/."""
        return self.root / "keys"

    def blob(self, b3_hex: str) -> Path:
        """Where a committed blob lies."""
        return self.blobs / b3_hex[:2] / b3_hex

    def prepare(self) -> None:
        """Create the folder if needed. Raises StoreError when it can't be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"can't create {self.root} ({error.strerror})", next_step=f"set {ENV_HOME} to a folder you can write to"
            ) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise StoreError(
                f"can't write to {self.root}", next_step=f"fix its permissions or set {ENV_HOME} to another folder"
            )
