"""Which database holds a home's index: its SQLite file, or the PostgreSQL database that its URL names. Either is loaded
only where it is used.
"""

from __future__ import annotations

from samara.registry.home import Home
from samara.registry.index_database import Database


def open_database(home: Home, lock_wait: float, *, make: bool) -> Database:
    """The database of a home. Opens no connection yet. Raises UsageError for a URL that means no database of ours.

    `lock_wait`: seconds to wait for another writer. `make`: whether there may be no file yet.
    """
    if home.database is not None:
        from samara.registry.index_postgres import PostgresDatabase

        return PostgresDatabase(home.database, lock_wait)
    from samara.registry.index_sqlite import SqliteDatabase

    return SqliteDatabase(home.index, lock_wait, make=make)
