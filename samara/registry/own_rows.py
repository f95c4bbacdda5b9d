"""Which rows of a table are this store's own: several stores may share one PostgreSQL database.

In an SQLite file everything is its own, whatever its rows say: it is copied and restored together with its store, and
one of an older version has no such column. Which store a session is for, `samara.registry.index_database` says.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute, Session

STORE = "samara_store"  # in a session's `info`


def own_store(session: Session) -> str:
    """The id of the store that a session is for; empty for an SQLite file, and for a machine that has no store yet."""
    return str(session.info.get(STORE, ""))


def is_own(session: Session, store: InstrumentedAttribute[Any]) -> sa.ColumnElement[bool]:
    """A condition on a table's column `store`: the row is of the session's store."""
    if session.get_bind().dialect.name == "sqlite":
        return sa.true()
    return store == own_store(session)
