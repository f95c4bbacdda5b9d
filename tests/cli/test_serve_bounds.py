"""What an operator says of bounds is what the service gets; what can't be meant is refused before anything listens."""

from __future__ import annotations

import os

import click
import pytest

from samara.cli.serve import command, plan_of
from samara.cli.serve_bounds import MAX_PUBLICATION
from samara.cli.serving import ServePlan
from samara.fetcher.intake import Limits
from samara.registry.service.guard import UPLOADED
from samara.registry.service.settings import Quotas, Rates, Settings
from samara.registry.service.wire_limits import WireLimits
from samara.registry.tracker import Rules
from samara.schemas.errors import UsageError


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SAMARA_SERVE_"):
            monkeypatch.delenv(name)


def planned(*arguments: str) -> ServePlan:
    with command.make_context("serve", list(arguments)) as context:
        return plan_of((), **context.params)


def test_nothing_said_leaves_what_the_rooms_have() -> None:
    plan = planned()
    assert (plan.settings.quotas, plan.settings.rates) == (Quotas(), Rates())
    assert plan.rules == Rules()
    assert (plan.limits.connections, plan.limits.per_address) == (WireLimits().connections, WireLimits().per_address)
    assert (plan.settings.contact, plan.settings.serves_all) == (None, False)


def test_every_bound_arrives_where_it_counts() -> None:
    plan = planned(
        "--max-publishers=1", "--max-publisher-releases=2", "--max-publisher-tags=3", "--max-publisher-names=0",
        "--max-publisher-bytes=4GiB", "--max-publication=5MiB", "--publications=6", "--reads=0", "--announces=7",
        "--connections=500", "--connections-per-address=8", "--max-peers=9", "--max-swarm-peers=10",
        "--pull-through", "--no-discovery", "--pull-at-once=11", "--pull-waiting=0", "--contact", " abuse@a.example ",
        "--serve-all",
    )  # fmt: skip
    assert plan.settings.quotas == Quotas(
        publishers=1, releases=2, names=3, namespaces=0, stored_bytes=4 << 30, publish_bytes=5 << 20
    )
    assert plan.settings.rates == Rates(publishes=6, reads=0, announces=7)
    assert (plan.limits.connections, plan.limits.per_address) == (500, 8)
    assert (plan.rules.peers, plan.rules.swarm_peers) == (9, 10)
    assert plan.provide is not None
    assert (plan.provide.limits, plan.provide.serves_all) == (Limits(for_readers=11, waiting=0), True)
    assert (plan.settings.contact, plan.settings.serves_all) == ("abuse@a.example", True)
    assert isinstance(plan.settings, Settings)


def test_the_environment_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMARA_SERVE_MAX_PUBLISHER_BYTES", "50GB")
    monkeypatch.setenv("SAMARA_SERVE_CONTACT", "https://a.example/abuse")
    plan = planned()
    assert plan.settings.quotas.stored_bytes == 50 * 10**9
    assert plan.settings.contact == "https://a.example/abuse"


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["--max-publisher-bytes=1kB"], "--max-publisher-bytes out of bounds"),
        (["--max-publication=1TB"], "--max-publication out of bounds"),
        (["--max-publication=257MiB"], "--max-publication out of bounds"),
        (["--max-publication=many"], "not a size"),
        (["--connections=20", "--connections-per-address=21"], "more connections of one address than in all"),
        (["--pull-waiting=0"], "--pull-waiting is about what is fetched"),
        (["--pull-at-once=3"], "--pull-at-once is about what is fetched"),
        (["--contact="], "not a contact"),
        (["--contact=\x1b[31m"], "not a contact"),
        (["--contact=" + "x" * 301], "not a contact"),
        (["--title="], "not a title"),
        (["--title=\x1b[31m"], "not a title"),
    ],
)
def test_what_cant_be_meant_is_refused(arguments: list[str], about: str) -> None:
    with pytest.raises(UsageError) as refused:
        planned(*arguments)
    assert about in str(refused.value)


def test_no_time_that_is_no_number() -> None:
    with pytest.raises(click.BadParameter, match="not a finite number"):
        planned("--follow=http://a.example", "--follow-every=nan")


def test_the_largest_publication_that_may_be_allowed_fits_into_what_is_held_in_memory() -> None:
    plan = planned(f"--max-publication={MAX_PUBLICATION[1]}")
    assert plan.settings.quotas.publish_bytes <= UPLOADED
