"""Searching a catalogue of 10,000 models, through HTTP and directly: milliseconds, on SQLite and on PostgreSQL.

    python bench/registry_search.py [--models N] [--queries N] [--postgres 0] [--json FILE]

Queries are drawn as people's are: the front page, filters, one or two words, common ones more often than rare ones.
"first" is the first one after a listing was changed as a publication does it, "first, clock" after one by a clock that
is behind. "cpu" is processor time, on a busy machine the figure to look at: of a direct one its thread's, by HTTP of
server and client together (PostgreSQL's own processes aren't in it). Needs PostgreSQL's server programs.
"""

from __future__ import annotations

import gc
import http.client
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import sqlalchemy as sa
from measure import bench, machine, report

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "registry")]

from listing_kit import Listed, list_all  # noqa: E402  (tests' own listings)
from support.postgres import postgres  # noqa: E402

from samara.registry.home import Home  # noqa: E402
from samara.registry.index import Index  # noqa: E402
from samara.registry.search import SearchQuery  # noqa: E402
from samara.registry.service.app import create_app  # noqa: E402
from samara.registry.service.server import RunningServer  # noqa: E402
from samara.registry.service.service import Service  # noqa: E402
from samara.registry.service.settings import Rates, Settings  # noqa: E402

TARGET_MS = 50.0  # p95 on SQLite
FAMILIES = ("llama", "qwen2", "mistral", "phi3", "gemma", "falcon", "whisper", "starcoder", "deepseek", "yi")
QUANTISATIONS = ("Q4_K_M", "Q4_0", "Q8_0", "F16", "Q5_K_M")
LICENCES = ("Apache-2.0", "MIT", "LLAMA3.2", "CC-BY-4.0")
KINDS = ("instruct", "chat", "code", "base", "vision", "math", "tool", "story", "tiny", "long")


def catalogue(models: int, words: Sequence[str], draw: random.Random) -> list[Listed]:
    """So many models of one to three tags, described in sixty words, by forty publishers."""
    found: list[Listed] = []
    common = [1 / (rank + 5) for rank in range(len(words))]
    for number in range(models):
        family = draw.choice(FAMILIES)
        name = f"{family}-{draw.randrange(1, 90)}b-{draw.choice(KINDS)}-{number}"
        about = " ".join(draw.choices(words, common, k=60))
        for tag in draw.sample(QUANTISATIONS, draw.randrange(1, 4)):
            found.append(
                Listed(
                    model=name, tag=tag.lower(), identity="abcdefgh"[number % 8] + "abcde"[number % 5] * 51,
                    architecture=family, quantisation=tag, license=draw.choice(LICENCES), description=about,
                    size=draw.randrange(10**8, 10**11), listed_at=1.7e9 + len(found), version=len(found) + 1,
                )
            )  # fmt: skip
    return found


def asked(count: int, words: Sequence[str], draw: random.Random) -> list[dict[str, object]]:
    """What people ask."""
    common = [1 / (rank + 5) for rank in range(len(words))]
    vocabulary = [*FAMILIES, *KINDS, *words]
    weights = [0.05] * (len(FAMILIES) + len(KINDS)) + common
    found: list[dict[str, object]] = []
    for _ in range(count):
        query: dict[str, object] = {}
        kind = draw.random()
        if kind > 0.2:
            query["q"] = " ".join(draw.choices(vocabulary, weights, k=1 if kind < 0.7 else 2))
            if draw.random() < 0.15:
                query["q"] = str(query["q"])[: draw.randrange(1, 4)]  # typed half
        if draw.random() < 0.25:
            query["architecture"] = draw.choice(FAMILIES)
        if draw.random() < 0.15:
            query["quantisation"] = draw.choice(QUANTISATIONS)
        if draw.random() < 0.1:
            query["max_size"] = 10**10
        if draw.random() < 0.2:
            query["sort"] = draw.choice(("newest", "name", "size"))
        if draw.random() < 0.15:
            query["offset"] = 20 * draw.randrange(1, 10)
        found.append(query)
    return found


def timed(
    queries: Sequence[dict[str, object]], ask: Callable[[dict[str, object]], None],
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:  # fmt: skip
    """Milliseconds of each, in order of size."""
    found = []
    for query in queries:
        started = clock()
        ask(query)
        found.append((clock() - started) * 1000)
    return sorted(found)


def measured(index: Index, home: Home, queries: Sequence[dict[str, object]]) -> dict[str, dict[str, float]]:
    """What is asked and how → p50 and p95 in milliseconds."""

    def change(when: str) -> None:
        with index.database.write() as session:
            session.execute(sa.text(f"UPDATE listings SET listed_at = {when} WHERE id = 1"))

    def direct(query: dict[str, object]) -> None:
        given = {("text" if name == "q" else name): value for name, value in query.items()}
        index.listings.search(SearchQuery(**given))  # type: ignore[arg-type]

    def firsts(when: str, some: Sequence[dict[str, object]]) -> list[float]:
        found = []
        for query in some:
            change(when)
            found += timed([query], direct, time.thread_time)
        return sorted(found)

    settings = Settings(origin="http://127.0.0.1:8642", rates=Rates(reads=0))
    part = len(queries) // 4
    with RunningServer(create_app(Service(home=home, index=index, settings=settings))) as server:
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(str(address.hostname), address.port)

        def by_http(query: dict[str, object]) -> None:
            connection.request("GET", f"/v1/search?{urlencode(query)}")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, (query, answer.status)

        gc.collect()
        gc.freeze()  # as `samara serve` does
        timed(queries[:5], by_http)
        times = {  # each query is asked once: nothing is known of it
            "http": timed(queries[:part], by_http),
            "http, cpu": timed(queries[part : 2 * part], by_http, time.process_time),
            "direct": timed(queries[2 * part : 3 * part], direct),
            "direct, cpu": timed(queries[3 * part :], direct, time.thread_time),
            "first, cpu": firsts("(SELECT max(listed_at) FROM listings) + 1", queries[:20]),
            "first, clock, cpu": firsts("listed_at + 1 - 1e6", queries[20:40]),
        }
        connection.close()
    return {how: {"p50": one[len(one) // 2], "p95": one[int(len(one) * 0.95)]} for how, one in times.items()}


def _tidy_up(url: str) -> None:
    """What PostgreSQL does by itself within a minute of so many rows."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("VACUUM (ANALYZE)"))
    engine.dispose()


def main() -> None:
    with bench(__doc__, preset="short", models=10_000, queries=800, postgres=1) as (folder, options):
        draw = random.Random(1)
        ends = ("ko", "la", "mi", "ter")
        words = [f"{a}{b}{c}{n or ''}" for n in range(15) for a in "bdfgklmnprst" for b in "aeio" for c in ends]
        draw.shuffle(words)
        listed = catalogue(options.models, words, draw)
        queries = asked(options.queries, words, draw)
        result: dict[str, object] = {"models": options.models, "tags": len(listed), "target_ms": TARGET_MS}
        rows = [("searches in", "p50 ms", "p95 ms", "of target")]

        def run(name: str, home: Home) -> None:
            with Index.open(home) as index:
                list_all(index, listed)
                if home.database is not None:
                    _tidy_up(home.database)
                found = measured(index, home, queries)
            result[name] = found
            for how, times in found.items():
                p95 = times["p95"]
                rows.append((f"{name}: {how}", f"{times['p50']:.1f}", f"{p95:.1f}", f"{p95 / TARGET_MS:.2f}"))

        run("sqlite", Home(folder / "sqlite"))
        if options.postgres:
            with postgres() as server, server.database() as database:
                run("postgresql", Home(folder / "postgresql", server.url(database)))
        # others at work, whom wall seconds depend on
        result["load_average"] = round(os.getloadavg()[0], 1)
        report({**result, "machine": machine()}, rows, options.json)


if __name__ == "__main__":
    main()
