"""No test is skipped silently: a skip that the list does not name fails the run, alone and under xdist."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from skips import Skip, parse_allowed

TESTS = """
import pytest

@pytest.mark.skip(reason="no printer here")
def test_printing():
    pass

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_to_fail():
    raise AssertionError

def test_passing():
    pass
"""
WHOLE_FILE = 'import pytest\npytest.skip("no scanner", allow_module_level=True)\n'


LISTED = "test_it.py::test_printing  no printer here\ntest_file.py  no scanner\n"


@pytest.mark.parametrize(
    ("allowed", "workers", "status"),
    [
        pytest.param(LISTED, 0, 0, id="both-listed"),
        pytest.param(LISTED, 1, 0, id="both-listed-under-xdist"),
        pytest.param(LISTED.replace("no printer here", "out of paper"), 0, 1, id="another-reason"),
        pytest.param("test_it.py::test_printing  no printer here\n", 1, 1, id="a-whole-file-unlisted-under-xdist"),
        pytest.param("test_file.py  no scanner\n", 1, 1, id="a-test-unlisted-under-xdist"),
    ],
)
def test_a_run_fails_exactly_when_a_skip_is_not_listed(
    tmp_path: Path, allowed: str, workers: int, status: int
) -> None:  # fmt: skip
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "test_file.py").write_text(WHOLE_FILE)
    (tmp_path / "allowed_skips.txt").write_text(allowed)
    (tmp_path / "skips.py").write_bytes(Path(__file__).with_name("skips.py").read_bytes())
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["skips"]\n')
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", str(workers), "-p", "no:cacheprovider", "."],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    assert ("does not allow" in done.stdout) == bool(status)
    assert "1 passed" in done.stdout


def test_the_list_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match="two spaces and a reason"):
        parse_allowed("test_it.py::test_printing no printer here")


def test_a_star_stands_for_anything_and_nothing_else_does() -> None:
    (allowed,) = parse_allowed("# comment\n\ntest_it.py::test_x[*]  because\n")
    assert allowed.allows(Skip(test="test_it.py::test_x[a-b]", reason="because"))
    assert not allowed.allows(Skip(test="test_it.py::test_xa", reason="because"))
    assert not allowed.allows(Skip(test="test_it.py::test_x[a]", reason="because of that"))
