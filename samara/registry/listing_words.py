"""The full-text index of listings, as each database has it: FTS5 in SQLite, a tsvector with a GIN index in PostgreSQL.

Words come in as `search_words` makes them (the column's type sees to that), so neither database's own idea of a word
matters. Used by `tables` and `search`; migration 0003 makes the same for an index that is older.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Session

from samara.registry.search_words import searchable

# kept by triggers: whoever changes a listing need not know; its text is the table's own ("external content")
_SQLITE = (
    "CREATE VIRTUAL TABLE listing_words USING fts5("
    "words, content='listings', content_rowid='id', tokenize='unicode61 remove_diacritics 2', prefix='1 2 3')",
    "CREATE TRIGGER listing_words_insert AFTER INSERT ON listings BEGIN "
    "INSERT INTO listing_words (rowid, words) VALUES (new.id, new.words); END",
    "CREATE TRIGGER listing_words_delete AFTER DELETE ON listings BEGIN "
    "INSERT INTO listing_words (listing_words, rowid, words) VALUES ('delete', old.id, old.words); END",
    "CREATE TRIGGER listing_words_update AFTER UPDATE OF id, words ON listings BEGIN "
    "INSERT INTO listing_words (listing_words, rowid, words) VALUES ('delete', old.id, old.words); "
    "INSERT INTO listing_words (rowid, words) VALUES (new.id, new.words); END",
)
# a column that PostgreSQL computes, not an expression: it keeps statistics of it, and need not compute it again
_POSTGRESQL = (
    "ALTER TABLE listings ADD COLUMN word_vector tsvector GENERATED ALWAYS AS "
    "(array_to_tsvector(array_remove(string_to_array(words, ' '), ''))) STORED",
    "CREATE INDEX ix_listings_words ON listings USING gin (word_vector)",
)


class SearchText(sa.TypeDecorator[str]):
    """A text that is only searched in: kept as its words."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """What the database gets."""
        return None if value is None else searchable(value)


def index_words(table: sa.Table) -> None:
    """Let the full-text index be made together with the table of listings."""
    for name, statements in (("sqlite", _SQLITE), ("postgresql", _POSTGRESQL)):
        for statement in statements:
            ddl = sa.DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", ddl.execute_if(dialect=name))


def numbers_with(session: Session, words: Sequence[str]) -> set[int]:
    """The numbers of listings that have all of these words (of `words_of`), or longer ones that begin with them."""
    connection = session.connection()
    found = connection.execute(_QUESTIONS[connection.dialect.name], {"asked": _asked(words, connection.dialect.name)})
    return set(json.loads(f"[{found.scalar_one() or ''}]"))


def _asked(words: Sequence[str], dialect: str) -> str:
    if dialect == "sqlite":
        return " ".join(f'"{word}"*' for word in words)
    return " & ".join(f"'{word}':*" for word in words)


# one text of all numbers: of a common word there are some ten thousand, and each row would cost more than finding it
_QUESTIONS = {
    "sqlite": sa.text("SELECT group_concat(rowid) FROM listing_words WHERE listing_words MATCH :asked"),
    "postgresql": sa.text(
        "SELECT string_agg(id::text, ',') FROM listings WHERE word_vector @@ CAST(:asked AS tsquery)"
    ),
}
