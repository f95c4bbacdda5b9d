"""Searching a catalogue of 10,000 models, through HTTP and directly: milliseconds, on SQLite and on PostgreSQL.

    python bench/registry_search.py [--models N] [--queries N] [--postgres 0] [--json FILE]

Queries are drawn as people's are: the front page, filters, one or two words, common ones more often than rare ones.
"first" is how long the first one takes after a change of a listing, "cpu" the processor time of a direct one: on a busy
machine the figure to look at. Needs nothing for SQLite, and PostgreSQL's server programs for the rest.
"""

from __future__ import annotations

import gc
import http.client
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

    def change() -> None:
        with index.database.write() as session:
            session.execute(sa.text("UPDATE listings SET listed_at = listed_at + 1 WHERE id = 1"))

    def direct(query: dict[str, object]) -> None:
        given = {("text" if name == "q" else name): value for name, value in query.items()}
        index.listings.search(SearchQuery(**given))  # type: ignore[arg-type]

    def after_change(query: dict[str, object]) -> None:
        change()
        direct(query)

    settings = Settings(origin="http://127.0.0.1:8642", rates=Rates(reads=0))
    half = len(queries) // 3
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
            "http": timed(queries[:half], by_http),
            "direct": timed(queries[half : 2 * half], direct),
            "direct, cpu": timed(queries[2 * half :], direct, time.thread_time),
            "direct, first": timed(queries[:10], after_change),
        }
        connection.close()
    return {how: {"p50": one[len(one) // 2], "p95": one[int(len(one) * 0.95)]} for how, one in times.items()}


def main() -> None:
    with bench(__doc__, preset="short", models=10_000, queries=600, postgres=1) as (folder, options):
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
                    with index.database.write() as session:
                        session.execute(sa.text("ANALYZE"))
                found = measured(index, home, queries)
            result[name] = found
            for how, times in found.items():
                p95 = times["p95"]
                rows.append((f"{name}: {how}", f"{times['p50']:.1f}", f"{p95:.1f}", f"{p95 / TARGET_MS:.2f}"))

        run("sqlite", Home(folder / "sqlite"))
        if options.postgres:
            with postgres() as server, server.database() as database:
                run("postgresql", Home(folder / "postgresql", server.url(database)))
        report({**result, "machine": machine()}, rows, options.json)


if __name__ == "__main__":
    main()
