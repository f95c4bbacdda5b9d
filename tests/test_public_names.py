"""What others import, and what importing costs."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from importlib import metadata

import pytest

import samara

PUBLIC = {
    "Description",
    "DiskFullError",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Home",
    "IntegrityError",
    "MalformedError",
    "NetworkError",
    "NotFoundError",
    "PullOptions",
    "Published",
    "Pulled",
    "SamaraError",
    "StoreError",
    "SwarmOptions",
    "TrustError",
    "TrustFolder",
    "UsageError",
    "__version__",
    "audit_findings",
    "audit_outcome",
    "collect_facts",
    "export_bundle",
    "import_bundle",
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
    assert set(dir(samara)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_a_public_name_can_be_imported_and_says_what_it_is(name: str) -> None:
    found = getattr(samara, name)
    assert inspect.getdoc(found)
    own = {"audit_findings": "findings", "audit_outcome": "outcome", "collect_facts": "collect"}.get(name, name)
    assert found.__name__ == own
    assert getattr(importlib.import_module(found.__module__), own) is found


def test_type_checkers_are_told_of_the_same_names() -> None:
    (told,) = [node for node in ast.parse(inspect.getsource(samara)).body if isinstance(node, ast.If)]
    names = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(names) == PUBLIC - {"__version__"}
    for name, place in names.items():
        found = getattr(samara, name)
        assert f"{found.__module__}:{found.__name__}" == place


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
