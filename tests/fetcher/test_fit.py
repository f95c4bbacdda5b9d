"""What is said of a model before it is fetched: from its manifest, and this machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pulls import Pull, options
from support.swarms import seeding
from support.world import FIXTURES, MIB, random_file, shelf, trusting_home

from samara.fetcher.fit import GB, Memory, facts_of, memory_of_this_machine
from samara.schemas.events import Event, Note, PullProgress


def test_facts_come_before_the_first_byte(tmp_path: Path) -> None:
    shelved = shelf(tmp_path, [FIXTURES / "tiny.gguf"], reference="acme/tiny:f16")
    home = trusting_home(tmp_path / "home", shelved)
    with seeding(shelved) as peer:
        pull = Pull(home, shelved.file, options(peer.endpoint))
        pull.result()
    said = next(e for e in pull.events if isinstance(e, Note) and "llama" in e.message)
    assert "F16" in said.message
    assert "fit" in said.message
    first = next(e for e in pull.events if isinstance(e, PullProgress))
    assert _place(pull.events, said) < _place(pull.events, first)


def _place(events: list[Event], event: Event) -> int:
    return next(at for at, one in enumerate(events) if one is event)


@pytest.mark.parametrize(("memory", "said"), [(1 << 40, "fit into"), (1 << 20, "do NOT fit")])
def test_whether_it_fits(tmp_path: Path, memory: int, said: str) -> None:
    shelved = shelf(tmp_path, [FIXTURES / "tiny.gguf"], reference="acme/tiny:f16")
    (line,) = facts_of(shelved.release.files, Memory(total=memory, free=memory))
    assert said in line
    assert f"{memory / GB:.1f} GB" in line


def test_where_the_memory_is_not_told(tmp_path: Path) -> None:
    shelved = shelf(tmp_path, [FIXTURES / "tiny.gguf"], reference="acme/tiny:f16")
    (line,) = facts_of(shelved.release.files, None)
    assert "fit" not in line


def test_of_what_is_no_model_nothing_is_said(tmp_path: Path) -> None:
    shelved = shelf(tmp_path, [random_file(tmp_path / "notes.txt", MIB, seed=1)])
    assert list(facts_of(shelved.release.files, None)) == []


def test_this_machine_has_memory() -> None:
    memory = memory_of_this_machine()
    assert memory is None or 0 < memory.free <= memory.total
