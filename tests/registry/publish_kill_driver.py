"""Takes publications in and dies by SIGKILL at every step of it; looks at what each kill left. Run by
test_publish_kills.

    python publish_kill_driver.py FOLDER EVERY AT-ONCE [URL-OF-A-SERVER]

A step is before or after a statement, a commit or a change to the file system. After each kill the index is sound and
holds all of the publication or nothing of it, and the same publication again brings what an unharmed registry has.
EVERY: of so many steps one, and the last ones. AT-ONCE: `all`, or `some`: names are listed one by one, each in a
transaction of its own, as very many are some at a time; then names may be missing after a kill, and nothing else.
Prints how many steps there are, how many kills left nothing, and how many all or a part of the names.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # started by its path, not as part of the tests

import sqlalchemy as sa
from service_kit import Author, author
from sqlalchemy import event
from support.kills import forked
from support.registries import TAKES_ALL
from support.world import random_file

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications import accept as accepting
from samara.registry.publications.accept import accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.search import SearchQuery
from samara.registry.tables import Base
from samara.registry.trust.own_catalog import retraction, update_catalog
from samara.schemas.publication import Publication

CALLS = ("mkdir", "replace", "rename", "unlink", "rmdir", "fsync")
ORIGIN = "http://registry.test"
RULES = replace(TAKES_ALL, claims=ClaimRules(origin=ORIGIN))
MOST = 1_000_000
LAST = 4  # steps that are never left out: among them those around the commit
Dump = dict[str, list[str]]


def main() -> None:
    folder, every, in_parts = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "some"
    places = _Files(folder) if len(sys.argv) < 5 else _Databases(folder, sys.argv[4])
    if in_parts:
        accepting._LISTED_AT_ONCE = 1
        accepting._PAUSE = 0.0
    now = datetime.now(UTC)
    acme = author(folder / "acme", "acme")
    acme.publish("blob:v1", [random_file(folder / "blob.bin", 100_000, seed=1)])
    acme.publish("gone:v1", [random_file(folder / "gone.bin", 70_000, seed=2)])
    first = _all_of(acme, "acme")
    for number in range(2):
        acme.publish(f"more:v{number}", [random_file(folder / f"{number}.bin", 90_000, seed=3 + number)])
    acme.publish("blob:v1", [random_file(folder / "new.bin", 300_000, seed=9)])
    change = retraction("gone", "v1", "wrong weights")
    update_catalog(acme.home, acme.publisher, change, signers=acme.publisher.online_keys(None), now=now)
    second = _all_of(acme, "acme-too")

    template = places.template()
    _take(template, first, now)
    before = _dump(template)
    whole = places.copy("whole")
    _take(whole, second, now)
    after = _dump(whole)
    assert before != after
    told = folder / "steps"
    assert not forked(lambda: _die(places.copy("counted"), second, now, MOST, told))
    steps = int(told.read_text())
    left: Counter[str] = Counter()
    for step in sorted({*range(1, steps + 1, every), *range(steps - LAST, steps + 1)}):
        home = places.copy(str(step))
        assert forked(lambda home=home, step=step: _die(home, second, now, step, told))  # type: ignore[misc]
        found = _dump(home)
        is_begun = in_parts and _all_but_some_names(found, after)
        assert is_begun or found in (before, after), f"killed at step {step}: half a publication is here"
        left["nothing" if found == before else "all"] += 1
        _take(home, second, now)
        assert _dump(home) == after, f"killed at step {step}: the same publication again doesn't bring the same"
        places.drop(home)
    sys.stdout.write(f"{steps} {left['nothing']} {left['all']}\n")


class _Files:
    """SQLite: homes are copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "homes"

    def template(self) -> Home:
        return Home(self._folder / "template")

    def copy(self, name: str) -> Home:
        return Home(Path(shutil.copytree(self._folder / "template", self._folder / name)))

    def drop(self, home: Home) -> None:
        shutil.rmtree(home.root)


class _Databases:
    """PostgreSQL: databases are copied. `url` is that of a server, by its socket."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, url
        self._prefix = f"kill_{os.getpid()}_"

    def template(self) -> Home:
        self._run(f'CREATE DATABASE "{self._prefix}template"')
        return self._home("template")

    def copy(self, name: str) -> Home:
        self._run(f'CREATE DATABASE "{self._prefix}{name}" TEMPLATE "{self._prefix}template"')
        return self._home(name)

    def drop(self, home: Home) -> None:
        assert home.database is not None
        self._run(f'DROP DATABASE "{sa.make_url(home.database).database}" WITH (FORCE)')

    def _home(self, name: str) -> Home:
        at = sa.make_url(self._url).set(database=f"{self._prefix}{name}")
        return Home(self._folder / "homes" / name, at.render_as_string(hide_password=False))

    def _run(self, statement: str) -> None:
        engine = sa.create_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


def _all_of(acme: Author, name: str) -> Publication:
    return acme.publication(claim=acme.claim(name, origin=ORIGIN))


def _take(home: Home, publication: Publication, now: datetime) -> None:
    with closing(Index.open(home)) as index:
        accept(index, publication, RULES, now=now)


def _die(home: Home, publication: Publication, now: datetime, step: int, told: Path) -> None:
    """At that step; `told`: where it is written how many there were, if it lives on."""
    left = step

    def count(*_told: object, **_named: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with closing(Index.open(home)) as index:
        for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(sa.Engine, moment, count)
        event.listen(sa.pool.Pool, "checkin", count)  # after a commit, before anybody hears of it
        for name in CALLS:
            setattr(os, name, _counted(getattr(os, name), count))
        accept(index, publication, RULES, now=now)
        told.write_text(str(step - left))


def _all_but_some_names(found: Dump, after: Dump) -> bool:
    """Nothing is listed that the new catalog doesn't say, and all but listings is there."""
    listings = {"listings", "search"}
    others = all(found[table] == after[table] for table in after if table not in listings)
    return others and set(found["listings"]) <= set(after["listings"])


def _counted(real: Callable[..., Any], count: Callable[[], None]) -> Callable[..., Any]:
    def step(*arguments: Any, **named: Any) -> Any:
        count()
        done = real(*arguments, **named)
        count()
        return done

    return step


def _dump(home: Home) -> Dump:
    """Every row of every table but for its numbers, and what is found by searching."""
    with closing(Index.open(home)) as index:
        assert index.damage() == ()
        with index.database.read() as session:
            found = {}
            for table in Base.metadata.sorted_tables:
                if table.name == "stores":  # which homes have opened it: each of these is another one
                    continue
                columns = [column for column in table.columns if column.name != "id" and not column.foreign_keys]
                rows = session.execute(sa.select(*columns)).all() if columns else []
                found[table.name] = sorted(repr(tuple(row)) for row in rows)
        models = index.listings.search(SearchQuery(text="acme")).found
        found["search"] = [repr((one.model, [(tag.tag, tag.manifest) for tag in one.listings])) for one in models]
    return found


if __name__ == "__main__":
    main()
