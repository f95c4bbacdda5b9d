"""What others import, and what importing costs."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from importlib import metadata

import pytest
import samara

PUBLIC = {
    "Description",
    "Home",
    "PullOptions",
    "SamaraError",
    "SwarmOptions",
    "__version__",
    "collect",
    "findings",
    "init_publisher",
    "load_publisher",
    "locate",
    "parse_reference",
    "publish",
    "pull",
    "seed",
    "verify",
}
HEAVY = {"alembic", "cryptography", "libtorrent", "pydantic", "rich", "securesystemslib", "sqlalchemy", "tuf"}


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(samara.__all__) == PUBLIC
    assert sorted(samara.__all__) == list(samara.__all__)


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    found = getattr(samara, name)
    assert inspect.getdoc(found)
    assert found.__name__ == name
    assert getattr(importlib.import_module(found.__module__), name) is found


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Publisher'"):
        _ = samara.Publisher
    assert "import *" not in (inspect.getsource(samara))


def test_the_version_is_the_distributions() -> None:
    assert samara.__version__ == metadata.version("samara")


def loaded_after(code: str) -> set[str]:
    """Top-level modules that an interpreter of its own has loaded after `code`."""
    report = "import sys; print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import samara",
        "from samara.cli.main import run; assert run(['--version']) == 0",
        "from samara.cli.main import run; assert run(['--help']) == 0",
    ],
    ids=["import samara", "samara --version", "samara --help"],
)
def test_what_is_asked_most_loads_nothing_heavy(code: str) -> None:
    loaded = loaded_after(code)
    assert "samara" in loaded
    assert not loaded & HEAVY
