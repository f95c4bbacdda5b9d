"""The index in PostgreSQL: opening it, who may change its schema, writers, what its errors say. Real servers.

What the index keeps is tested by test_index, on both databases.
"""

from __future__ import annotations

from pathlib import Path

from index_kit import signed

from samara.registry.home import Home
from samara.registry.index import Index


def test_it_works(tmp_path: Path, postgres_url: str) -> None:
    home = Home(tmp_path, postgres_url)
    with Index.open(home) as index:
        signed().add_to(index)
        assert index.counts().releases == 1
