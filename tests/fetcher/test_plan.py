"""Planning a pull, as a function of facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.plan import RESERVE, FileFacts, Plan, has_stalled, plan_pull, require_room, require_sources
from samara.schemas.errors import DiskFullError, NetworkError
from samara.schemas.manifest import ReleaseFile


def file(name: str, size: int, *, inline: bool = False) -> ReleaseFile:
    """A file whose bytes are told apart by its name."""
    return ReleaseFile(
        path=f"{name}.bin",
        size=size,
        b3="b3:" + name * 64,
        sha256="sha256:" + name * 64,
        role="weights",
        layout="fixed-4MiB-v1",
        blocks=(),
        torrent=None,
        mirrors=(),
        gguf=None,
        inline=b"x" * size if inline else None,
    )


def test_what_is_here_is_not_fetched() -> None:
    plan = plan_pull([FileFacts(file=file("a", 10), is_here=True), FileFacts(file=file("b", 7), is_here=False)])
    assert plan == Plan(total=17, here=10, to_fetch=(file("b", 7),), room_needed=7)


def test_two_files_of_the_same_bytes_are_one_transfer() -> None:
    twin = replace(file("a", 10), path="twin.bin")
    plan = plan_pull([FileFacts(file=file("a", 10), is_here=False), FileFacts(file=twin, is_here=False)])
    assert len(plan.to_fetch) == 1
    assert (plan.total, plan.room_needed) == (20, 10)


def test_inline_files_are_never_fetched() -> None:
    plan = plan_pull([FileFacts(file=file("a", 10, inline=True), is_here=False)])
    assert plan.to_fetch == ()
    assert plan.room_needed == 0


def test_a_partial_needs_only_what_it_lacks_even_if_it_takes_more_than_it_should() -> None:
    facts = [
        FileFacts(file=file("a", 1000), is_here=False, allocated=400),
        FileFacts(file=file("b", 1000), is_here=False, allocated=4096),
    ]
    assert plan_pull(facts).room_needed == 600


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.integers(0, 3000)), max_size=12))
def test_a_plan_adds_up(rows: list[tuple[str, bool, int]]) -> None:
    facts = [FileFacts(file=file(name, 1000), is_here=here, allocated=taken) for name, here, taken in rows]
    plan = plan_pull(facts)
    assert plan.total == 1000 * len(rows)
    assert plan.here == 1000 * sum(here for _, here, _ in rows)
    assert {found.b3 for found in plan.to_fetch} == {fact.file.b3 for fact in facts if not fact.is_here}
    assert 0 <= plan.room_needed <= 1000 * len(plan.to_fetch)


def plan_of(room: int) -> Plan:
    return Plan(total=room, here=0, to_fetch=(file("a", room),) if room else (), room_needed=room)


def test_room_is_needed_beyond_the_model_itself() -> None:
    require_room(plan_of(100), RESERVE + 100, "/x")
    with pytest.raises(DiskFullError, match="not enough room at /x: expected 67,108,964 bytes free, got 67,108,963"):
        require_room(plan_of(100), RESERVE + 99, "/x")


def test_where_nothing_is_fetched_a_full_disk_is_no_matter() -> None:
    require_room(plan_of(0), 0, "/x")


@pytest.mark.parametrize(
    "who", [{"peers": 1}, {"discovery": True}, {"mirrors": True}], ids=["a-peer", "discovery", "a-mirror"]
)
def test_anybody_to_ask_is_enough(who: dict[str, Any]) -> None:
    require_sources(3, **{"peers": 0, "discovery": False, "mirrors": False, **who})


def test_nobody_to_ask_is_an_error_only_if_something_is_missing() -> None:
    require_sources(0, peers=0, discovery=False, mirrors=False)
    with pytest.raises(NetworkError, match="nobody to ask"):
        require_sources(3, peers=0, discovery=False, mirrors=False)


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.1, 1e4))
def test_a_stall_is_a_silence_longer_than_allowed(last: float, silence: float, allowed: float) -> None:
    assert has_stalled(now=last + silence, last_progress=last, give_up_after=allowed) == (
        (last + silence) - last > allowed
    )
