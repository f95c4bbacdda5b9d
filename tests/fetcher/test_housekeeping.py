"""The rules of `rm`, `prune` and `du`, on facts alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samara.fetcher.housekeeping import (
    ABANDONED_AGE,
    DAY,
    HOUR,
    ORPHAN_AGE,
    BlobFact,
    Facts,
    PartialFact,
    Plan,
    ReleaseFact,
    Rules,
    StrayFact,
    ViewFact,
    frees_alone,
    held_elsewhere,
    plan_prune,
    removal,
)

NOW = 1_000 * DAY
EVERYTHING = Rules(keep_latest=0)


def release(name: str, *blobs: str, version: int = 1, age: float = 100 * DAY, **more: object) -> ReleaseFact:
    """`tiny:q8` with one file for each blob; what isn't told is nobody's current meaning."""
    model, _, tag = name.partition(":")
    return ReleaseFact(
        manifest=f"{name}#{version}", reference=f"acme/{name}", name=("acme", model, tag), version=version,
        added_at=NOW - age, blobs=frozenset(blobs), names={f"acme/{model}/{tag}/{b3}.bin": b3 for b3 in blobs},
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def blob(b3: str, *, bytes_: int = 100, age: float = 50 * DAY, links_elsewhere: int = 0) -> BlobFact:
    return BlobFact(b3=b3, path=f"blobs/{b3}", bytes=bytes_, changed=NOW - age, links_elsewhere=links_elsewhere)


def partial(b3: str, *, age: float = 50 * DAY, bytes_: int = 10, is_held: bool = False) -> PartialFact:
    return PartialFact(b3=b3, path=f"partial/{b3}", bytes=bytes_, touched=NOW - age, is_held=is_held)


def view(name: str, b3: str | None, *, bytes_: int = 0, size: int = 100, age: float = 50 * DAY) -> ViewFact:
    return ViewFact(name=name, path=f"models/{name}", b3=b3, bytes=bytes_, size=size, changed=NOW - age)


def stray(path: str, *, age: float, kind: str = "temporary") -> StrayFact:
    return StrayFact(kind=kind, path=path, bytes=1, touched=NOW - age)


def gone(plan: Plan, kind: str) -> set[str]:
    return {item.what for item in plan.of(kind)}


def why_kept(plan: Plan) -> dict[str, str]:
    return dict(plan.keeps)


class TestRemoval:
    def test_what_others_need_stays(self) -> None:
        facts = Facts(releases=(release("a:x", "1", "2"), release("b:x", "2")), blobs=(blob("1"), blob("2")))
        assert gone(removal(facts, ["a:x#1"]), "blob") == {"1"}
        assert gone(removal(facts, ["a:x#1", "b:x#1"]), "blob") == {"1", "2"}

    def test_names_go_with_their_blob_and_with_their_release(self) -> None:
        facts = Facts(
            releases=(release("a:x", "1", "2"), release("b:x", "2")),
            views=(
                view("acme/a/x/1.bin", "1"), view("acme/a/x/2.bin", "2"), view("acme/b/x/2.bin", "2"),
                view("oldname/a/x/1.bin", "1"),
            ),
        )  # fmt: skip
        plan = removal(facts, ["a:x#1"])
        assert gone(plan, "view") == {"acme/a/x/1.bin", "oldname/a/x/1.bin", "acme/a/x/2.bin"}

    def test_a_successors_names_stay(self) -> None:
        facts = Facts(
            releases=(release("a:x", "1", "2"), release("a:x", "1", "3", version=2)),
            views=(view("acme/a/x/1.bin", "1"), view("acme/a/x/3.bin", "3")),
        )
        assert gone(removal(facts, ["a:x#1"]), "view") == set()

    def test_a_copy_goes_only_if_it_can_be_one(self) -> None:
        names = ("acme/a/x/1.bin", "acme/a/x/other.bin", "acme/a/x/2.bin")
        facts = Facts(
            releases=(release("a:x", "1", "2"),),
            views=(view(names[0], None, bytes_=100, size=100), view(names[1], None, bytes_=5, size=100),
                   view(names[2], None, bytes_=7, size=7)),
            sizes={"1": 100, "2": 100},
        )  # fmt: skip
        assert gone(removal(facts, ["a:x#1"]), "view") == {names[0]}

    def test_a_transfer_that_is_held_stays(self) -> None:
        facts = Facts(releases=(release("a:x", "1", "2"),), partials=(partial("1"), partial("2", is_held=True)))
        assert gone(removal(facts, ["a:x#1"]), "partial") == {"1"}
        assert [one.b3 for one in held_elsewhere(facts, ["a:x#1"])] == ["2"]
        assert held_elsewhere(facts, ["b:x#1"]) == ()

    def test_records_before_names_before_bytes(self) -> None:
        facts = Facts(
            releases=(release("a:x", "1"),), blobs=(blob("1"),), partials=(partial("1"),),
            views=(view("acme/a/x/1.bin", "1"),),
        )  # fmt: skip
        assert [item.kind for item in removal(facts, ["a:x#1"]).items] == ["release", "view", "blob", "partial"]

    def test_bytes_that_another_name_keeps_are_not_given_back(self) -> None:
        facts = Facts(releases=(release("a:x", "1"),), blobs=(blob("1", links_elsewhere=1),))
        assert removal(facts, ["a:x#1"]).bytes == 0
        assert gone(removal(facts, ["a:x#1"]), "blob") == {"1"}


class TestWhichReleasesStay:
    def test_without_a_rule_all(self) -> None:
        plan = plan_prune(Facts(releases=(release("a:x", "1"),), blobs=(blob("1"),)), Rules(), now=NOW)
        assert plan.items == ()
        assert why_kept(plan) == {"acme/a:x": "no rule removes it"}

    def test_the_newest_of_each_name(self) -> None:
        versions = tuple(release("a:x", version=number) for number in (1, 2, 3))
        facts = Facts(releases=(*versions, release("b:x")))
        assert gone(plan_prune(facts, Rules(keep_latest=2), now=NOW), "release") == {"a:x#1"}
        assert gone(plan_prune(facts, Rules(keep_latest=1), now=NOW), "release") == {"a:x#1", "a:x#2"}

    def test_what_came_later(self) -> None:
        facts = Facts(releases=(release("a:x", age=10 * DAY), release("b:x", age=5 * DAY)))
        assert gone(plan_prune(facts, Rules(older_than=7 * DAY), now=NOW), "release") == {"a:x#1"}

    def test_both_rules_must_agree(self) -> None:
        facts = Facts(releases=(release("a:x", age=10 * DAY), release("a:x", age=5 * DAY, version=2), release("b:x")))
        rules = Rules(older_than=7 * DAY, keep_latest=1)
        assert gone(plan_prune(facts, rules, now=NOW), "release") == {"a:x#1"}

    @pytest.mark.parametrize(
        ("kept", "rules", "why"),
        [
            (release("a:x", means_now="acme/a:latest"), EVERYTHING, "acme/a:latest means it now"),
            (release("a:x"), replace(EVERYTHING, locked=frozenset({"a:x#1"})), "a lockfile names it"),
            (release("a:x"), replace(EVERYTHING, kept=frozenset({"a:x#1"})), "told to keep it"),
            (release("a:x", is_own=True), EVERYTHING, "yours, and the next version is counted from it"),
        ],
    )
    def test_never(self, kept: ReleaseFact, rules: Rules, why: str) -> None:
        plan = plan_prune(Facts(releases=(kept,)), rules, now=NOW)
        assert (plan.items, why_kept(plan)) == ((), {"acme/a:x": why})

    def test_what_another_process_pulls(self) -> None:
        facts = Facts(releases=(release("a:x", "1"),), partials=(partial("1", is_held=True),))
        plan = plan_prune(facts, EVERYTHING, now=NOW)
        assert (plan.items, why_kept(plan)) == ((), {"acme/a:x": "another process is pulling it"})


class TestLeftovers:
    HERE = release("a:x", "1")

    def plan(self, *, rules: Rules | None = None, **facts: object) -> Plan:
        given = Facts(releases=(self.HERE,))
        return plan_prune(replace(given, **facts), rules or Rules(), now=NOW)  # type: ignore[arg-type]

    def test_orphans_go_when_they_have_rested(self) -> None:
        plan = self.plan(blobs=(blob("1"), blob("old"), blob("new", age=ORPHAN_AGE - 1)))
        assert gone(plan, "blob") == {"old"}

    def test_names_of_orphans_go_with_them(self) -> None:
        views = (view("acme/z/x/old.bin", "old"), view("acme/a/x/1.bin", "1"))
        assert gone(self.plan(blobs=(blob("1"), blob("old")), views=views), "view") == {"acme/z/x/old.bin"}

    def test_an_index_that_was_lost_makes_no_orphans(self) -> None:
        everything = Facts(blobs=(blob("1"),), partials=(partial("2"),), views=(view("a/b/c/d", None),))
        plan = plan_prune(everything, EVERYTHING, now=NOW)
        assert plan.items == ()
        assert "lost" in why_kept(plan)["blobs/1"]
        begun_anew = replace(everything, releases=(release("b:x", "3", age=DAY),))
        assert plan_prune(begun_anew, Rules(), now=NOW).items == ()

    def test_half_downloads_that_nobody_went_on_with(self) -> None:
        held = (partial("1", age=ABANDONED_AGE),)
        assert gone(self.plan(partials=held), "partial") == {"1"}
        assert gone(self.plan(partials=(partial("1", age=ABANDONED_AGE - 1),)), "partial") == set()
        assert gone(self.plan(partials=(partial("1", age=ABANDONED_AGE, is_held=True),)), "partial") == set()
        week = Rules(older_than=7 * DAY, kept=frozenset({self.HERE.manifest}))
        assert gone(self.plan(partials=held, rules=week), "partial") == set(), "its release is to be kept"

    def test_half_downloads_by_the_age_that_was_told(self) -> None:
        facts = Facts(releases=(release("a:x", "1", means_now="acme/a:x"),), partials=(partial("1", age=8 * DAY),))
        assert gone(plan_prune(facts, Rules(older_than=7 * DAY), now=NOW), "partial") == {"1"}

    def test_a_transfer_whose_blob_is_here(self) -> None:
        plan = self.plan(blobs=(blob("1"),), partials=(partial("1", age=2 * HOUR, bytes_=0),))
        assert gone(plan, "partial") == {"1"}

    def test_temporaries_after_an_hour(self) -> None:
        plan = self.plan(strays=(stray("old", age=HOUR), stray("new", age=HOUR - 1)))
        assert gone(plan, "temporary") == {"old"}

    def test_empty_folders_from_the_inside(self) -> None:
        strays = tuple(stray(path, age=DAY, kind="folder") for path in ("models/a", "models/a/b", "models/a/b/c"))
        assert [item.what for item in self.plan(strays=strays).items] == ["models/a/b/c", "models/a/b", "models/a"]

    def test_notes_of_transfers_that_are_gone(self) -> None:
        assert gone(self.plan(lost_partials=("1",)), "note") == {"1"}


BLOBS = st.sampled_from("123456")
AGES = st.floats(0, 200 * DAY)


@st.composite
def worlds(draw: st.DrawFn) -> Facts:
    """Releases over a few blobs, of which some are here, on their way, named, or nobody's."""
    names = draw(
        st.lists(st.tuples(st.sampled_from(["a:x", "a:y", "b:x"]), st.integers(1, 4)), unique=True, max_size=6)
    )
    releases = tuple(
        release(
            name, *draw(st.sets(BLOBS, min_size=1, max_size=3)), version=version, age=draw(AGES),
            means_now=draw(st.sampled_from([None, None, "acme/a:z"])), is_own=draw(st.booleans()),
        )
        for name, version in names
    )  # fmt: skip
    links = st.integers(0, 1)
    views = [
        view(name, draw(st.sampled_from([b3, b3, None])), bytes_=draw(st.integers(0, 1)) * 100, age=draw(AGES))
        for one in releases
        for name, b3 in sorted(one.names.items())
    ]
    views = [replace(one, bytes=0) if one.b3 is not None else one for one in views]
    return Facts(
        releases=releases,
        blobs=tuple(blob(b3, age=draw(AGES), links_elsewhere=draw(links)) for b3 in sorted(draw(st.sets(BLOBS)))),
        partials=tuple(partial(b3, age=draw(AGES), is_held=draw(st.booleans())) for b3 in sorted(draw(st.sets(BLOBS)))),
        views=tuple({one.name: one for one in views}.values()),
        strays=tuple(stray(str(number), age=draw(AGES)) for number in range(draw(st.integers(0, 2)))),
        sizes=dict.fromkeys("123456", 100),
    )


@st.composite
def rules_for(draw: st.DrawFn, facts: Facts) -> Rules:
    some = st.frozensets(st.sampled_from([one.manifest for one in facts.releases] or ["none"]), max_size=2)
    return Rules(
        keep_latest=draw(st.none() | st.integers(0, 3)), older_than=draw(st.none() | AGES),
        kept=draw(some), locked=draw(some),
    )  # fmt: skip


@given(st.data())
def test_nothing_that_is_needed_ever_goes(data: st.DataObject) -> None:
    facts = data.draw(worlds())
    rules = data.draw(rules_for(facts))
    plan = plan_prune(facts, rules, now=NOW)
    going = gone(plan, "release")
    staying = [one for one in facts.releases if one.manifest not in going]
    assert all(one.means_now is None and one.manifest not in rules.kept | rules.locked for one in facts.releases
               if one.manifest in going)  # fmt: skip
    needed = {b3 for one in staying for b3 in one.blobs}
    assert not gone(plan, "blob") & needed
    named = {name: b3 for one in staying for name, b3 in one.names.items()}
    assert not {item.what for item in plan.of("view")} & {v.name for v in facts.views if v.b3 and v.name in named}
    assert not gone(plan, "partial") & {one.b3 for one in facts.partials if one.is_held}
    spoken_for = rules.kept | rules.locked
    assert not gone(plan, "partial") & {b3 for r in facts.releases if r.manifest in spoken_for for b3 in r.blobs}


@given(st.data())
def test_nothing_that_came_just_now_goes_as_a_leftover(data: st.DataObject) -> None:
    facts = data.draw(worlds())
    plan = plan_prune(facts, Rules(), now=NOW)
    assert gone(plan, "release") == set()
    young = {found.path for found in facts.blobs if NOW - found.changed < ORPHAN_AGE}
    young |= {named.path for named in facts.views if NOW - named.changed < ORPHAN_AGE}
    young |= {begun.path for begun in facts.partials if NOW - begun.touched < HOUR}
    young |= {left.path for left in facts.strays if NOW - left.touched < HOUR}
    assert not young & {item.path for item in plan.items if item.path} - {
        one.path for one in facts.views if one.b3 is not None
    }


@given(worlds(), st.data())
def test_a_second_time_there_is_nothing_to_do(facts: Facts, data: st.DataObject) -> None:
    rules = data.draw(rules_for(facts))
    plan = plan_prune(facts, rules, now=NOW)
    paths = {item.path for item in plan.items if item.path}
    left = replace(
        facts,
        releases=tuple(one for one in facts.releases if one.manifest not in gone(plan, "release")),
        blobs=tuple(one for one in facts.blobs if one.path not in paths),
        partials=tuple(one for one in facts.partials if one.path not in paths),
        views=tuple(one for one in facts.views if one.path not in paths),
        strays=tuple(one for one in facts.strays if one.path not in paths),
    )
    again = plan_prune(left, rules, now=NOW)
    # what a release left behind that was held or that is older than what the index knows now is told, not removed
    assert not gone(again, "release") - {one.manifest for one in left.releases if one.is_own}
    assert not gone(again, "blob")


@given(worlds())
def test_what_each_would_free_alone(facts: Facts) -> None:
    alone = frees_alone(facts)
    assert alone == {one.manifest: removal(facts, [one.manifest]).bytes for one in facts.releases}


@given(st.data())
def test_each_thing_once_and_in_order(data: st.DataObject) -> None:
    facts = data.draw(worlds())
    plan = plan_prune(facts, data.draw(rules_for(facts)), now=NOW)
    order = ["release", "note", "view", "blob", "partial", "temporary", "folder"]
    kinds = [order.index(item.kind) for item in plan.items]
    assert kinds == sorted(kinds)
    paths = [item.path for item in plan.items if item.path]
    assert len(paths) == len(set(paths))
