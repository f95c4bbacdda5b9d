"""The pure parts of pages: words, numbers, charts, badges, QR codes, key histories, paging."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.registry.service.pages import words
from samara.registry.service.pages.badge import badge
from samara.registry.service.pages.charts import HEIGHT, WIDTH, buckets, chart, round_up
from samara.registry.service.pages.key_history import key_history
from samara.registry.service.pages.qr import MAX_TEXT, QUIET, qr_code
from samara.registry.service.pages.rendering import is_known, paged
from samara.registry.swarm_samples import SwarmSample
from samara.registry.trust.roots import ROLES, RoleKeys, RootView


class TestWords:
    @pytest.mark.parametrize(
        ("count", "said"),
        [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
         (773_200_000, "773.2 MB"), (5 * 10**16, "50,000.0 TB")],
    )  # fmt: skip
    def test_sizes(self, count: int, said: str) -> None:
        assert words.size(count) == said

    @pytest.mark.parametrize(
        ("count", "said"),
        [(0, "0"), (999, "999"), (861_312, "861 K"), (1_240_000_000, "1.24 B"), (70_600_000_000, "70.6 B"),
         (2**62, "4,611,686 T")],
    )  # fmt: skip
    def test_parameters(self, count: int, said: str) -> None:
        assert words.short_count(count) == said

    @given(st.integers(0, 2**60), st.integers(1, 2**60))
    def test_a_share_is_never_rounded_to_all_or_nothing(self, part: int, whole: int) -> None:
        part = min(part, whole)
        said = words.percent(part, whole)
        assert (said == "100 %") == (part == whole)
        assert (said == "0 %") == (part == 0)

    @given(st.text())
    def test_cleaned_text_has_nothing_that_reorders_or_hides(self, text: str) -> None:
        found = words.clean(text)
        assert len(found) == len(text)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", found)
        assert words.clean(found) == found

    def test_other_scripts_stay_as_they_are(self) -> None:
        for text in ("مرحبا \u200fبالعالم", "नमस्\u200dते", "日本語\n\tok", "naïve – “quoted” 🌱"):
            assert words.clean(text) == text

    @pytest.mark.parametrize(
        "text", ["https://example.org", "http://a.example:8080/x?y=1#z", "HTTPS://EXAMPLE.ORG/%20"]
    )
    def test_plain_addresses_are_links(self, text: str) -> None:
        assert words.web_link(text) == text

    @pytest.mark.parametrize(
        "text",
        ["javascript:alert(1)", " https://example.org", "https://", "https:///x", "//example.org", "data:text/html,x",
         "https://user:secret@example.org/", "https://example.org@evil.example", "https://example.org\\@evil",
         "https://example.org/\n", "https://exämple.org", "ftp://example.org", "https://example.org:99999999/",
         "https://example.org:70000/", "https://example.org/" + "x" * 2000, "example/tiny"],
    )  # fmt: skip
    def test_everything_else_is_not(self, text: str) -> None:
        assert words.web_link(text) is None

    def test_moments(self) -> None:
        assert words.moment(0) == "1970-01-01 00:00 UTC"
        assert words.moment(1e30) == words.day(float("nan")) == "unknown"
        assert (words.day_of("2026-01-02T03:04:05Z"), words.iso(0)) == ("2 Jan 2026", "1970-01-01T00:00:00Z")

    @given(st.text(max_size=300), st.integers(1, 50))
    def test_one_line_is_one_and_short(self, text: str, limit: int) -> None:
        found = words.one_line(text, limit)
        assert len(found) <= limit
        assert len(found.splitlines()) <= 1


samples = st.lists(
    st.builds(
        SwarmSample, at=st.integers(0, 10_000), seeders=st.integers(0, 10**6), leechers=st.integers(0, 10**6),
        completed=st.just(0),
    )
)  # fmt: skip


class TestChart:
    @given(samples)
    def test_it_stays_within_its_frame(self, some: list[SwarmSample]) -> None:
        found = chart(some, since=1000, until=9000)
        inside = [one for one in some if 1000 <= one.at < 9000]
        peak = max((max(one.seeders, one.leechers) for one in inside), default=0)
        assert (found is None) == (peak == 0)
        if found is None:
            return
        assert found.highest >= peak
        for path in (found.seeders, found.leechers):
            ys = [int(y) for y in re.findall(r"[ML]\d+ (\d+)", path)]
            xs = [int(x) for x in re.findall(r"[HL](\d+)", path)]
            assert xs == sorted(xs)
            assert (max(xs), min(ys) >= 0, max(ys) <= HEIGHT) == (WIDTH, True, True)
            assert len(path) < 4000
        assert max(row.seeders for row in found.rows) == max(one.seeders for one in inside)
        assert max(row.leechers for row in found.rows) == max(one.leechers for one in inside)

    def test_a_moment_counts_where_it_belongs(self) -> None:
        some = [SwarmSample(at=at, seeders=at, leechers=0, completed=0) for at in (10, 19, 20, 29)]
        assert [one.seeders for one in buckets(some, since=10, until=30, count=2)] == [19, 29]

    def test_no_time_is_no_chart(self) -> None:
        with pytest.raises(ValueError, match="no time"):
            chart([], since=5, until=5)

    def test_round_numbers(self) -> None:
        assert [round_up(n) for n in (1, 2, 3, 6, 11, 21, 999)] == [1, 2, 5, 10, 20, 50, 1000]


class TestBadge:
    @pytest.mark.parametrize(
        ("tag", "withdrawn", "said"),
        [
            ("q4_0", False, "samara: q4_0 · v3"),
            ("q4_0", True, "samara: withdrawn"),
            (None, False, "samara: not listed"),
        ],
    )
    def test_it_says_what_is_listed(self, tag: str | None, withdrawn: bool, said: str) -> None:
        root = ElementTree.fromstring(badge(tag=tag, version=3 if tag else None, withdrawn=withdrawn))
        assert root.attrib["aria-label"] == said
        assert root.attrib["role"] == "img"

    def test_words_of_others_stay_words(self) -> None:
        root = ElementTree.fromstring(badge(tag="<x onload=\"'&", version=1, withdrawn=False))
        assert "<x" in root.attrib["aria-label"]


class TestQrCode:
    def test_it_can_be_drawn_and_has_its_quiet_zone(self) -> None:
        code = qr_code("SAMARA:" + "A2" * 26)
        assert code is not None
        runs = [tuple(map(int, one)) for one in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", code.path)]
        assert min(x for x, _, _ in runs) == min(y for _, y, _ in runs) == QUIET
        assert max(x + length for x, _, length in runs) == code.side - QUIET
        assert (QUIET, QUIET, 7) in runs  # the upper edge of a finder pattern

    def test_what_is_too_long_has_none(self) -> None:
        assert qr_code("x" * (MAX_TEXT + 1)) is None


def view(version: int, *, threshold: int = 1, beacon: bytes = b"b", **keys: str) -> RootView:
    """A root whose roles have these keys, `a` each if nothing is said."""
    ids = {role: tuple(keys.get(role, "a")) for role in ROLES}
    return RootView(
        version=version,
        expires=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=version),
        keys={},
        roles={
            role: RoleKeys(threshold=threshold if role == "root" else 1, keyids=tuple(one * 64 for one in found))
            for role, found in ids.items()
        },
        beacon=beacon,
        signed_sha256=b"",
    )


def changes(before: RootView, after: RootView) -> tuple[str, ...]:
    """What is said of the second one."""
    return key_history([before, after])[0].changes


class TestKeyHistory:
    def test_the_newest_comes_first(self) -> None:
        history = key_history([view(1), view(2), view(3)])
        assert [line.version for line in history] == [3, 2, 1]
        assert "first root" in history[-1].changes[0]
        assert history[0].changes == ("The same keys, renewed for a longer time.",)

    def test_a_key_that_signs_for_several_roles_is_told_once(self) -> None:
        online = {"targets": "o", "snapshot": "o", "timestamp": "o"}
        new = dict.fromkeys(online, "n")
        assert changes(view(1, **online), view(2, **new)) == (  # type: ignore[arg-type]
            f"targets, snapshot, timestamp: {'o' * 16} replaced by {'n' * 16}.",
        )

    def test_keys_thresholds_and_the_beacon(self) -> None:
        assert changes(view(1), view(2, root="ab", threshold=2, beacon=b"c")) == (
            f"root: {'b' * 16} added.",
            "root: 2 of its keys must sign instead of 1.",
            "The beacon key, which signs where the newest catalog is to be found, was replaced.",
        )
        assert changes(view(1, root="ab"), view(2)) == (f"root: {'b' * 16} removed.",)


class TestPaging:
    @given(st.integers(0, 100), st.integers(-5, 200), st.integers(1, 30))
    def test_a_page_is_some_of_them(self, total: int, number: int, per_page: int) -> None:
        found = paged(range(total), number, per_page)
        assert found.items == tuple(range(found.first - 1, found.last)) if total else found.items == ()
        assert len(found.items) <= per_page
        assert 1 <= found.number <= found.pages

    def test_together_they_are_all(self) -> None:
        assert [one for n in range(1, 5) for one in paged(range(10), n, 3).items] == list(range(10))

    @pytest.mark.parametrize("header", ['"x"', 'W/"x"', '"a", "x"', "*"])
    def test_who_has_it_already(self, header: str) -> None:
        assert is_known(header, '"x"')
        assert not is_known('"y"', '"x"')
        assert not is_known(None, '"x"')
