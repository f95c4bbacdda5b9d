"""A pytest plugin: no test is skipped silently. A skip that allowed_skips.txt does not name fails the run.

Each line of the list is `TEST  REASON`, two spaces between: a test's id, where * stands for anything, and the exact
reason the skip gives. Works under pytest-xdist: the process that collects the results judges them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.txt")


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A test, or a whole file, that did not run, and why."""

    test: str
    reason: str

    def __str__(self) -> str:
        return f"{self.test}  {self.reason}"


@dataclass(frozen=True, kw_only=True)
class AllowedSkip:
    """One line of the list."""

    test: re.Pattern[str]
    reason: str

    def allows(self, skip: Skip) -> bool:
        return self.test.fullmatch(skip.test) is not None and self.reason == skip.reason


def parse_allowed(text: str) -> tuple[AllowedSkip, ...]:
    """The list's lines, without comments and blanks. Raises ValueError."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        test, gap, reason = line.partition("  ")
        if not gap or not reason.strip():
            raise ValueError(f"{ALLOWED.name}: expected TEST, two spaces and a reason, got {line!r}")
        pattern = ".*".join(map(re.escape, test.split("*")))
        found.append(AllowedSkip(test=re.compile(pattern), reason=reason.strip()))
    return tuple(found)


def skip_in(report: pytest.TestReport | pytest.CollectReport) -> Skip | None:
    """The skip a report tells of; expected failures (xfail) are none."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return None
    reason = report.longrepr[2] if isinstance(report.longrepr, (tuple, list)) else str(report.longrepr)
    return Skip(test=report.nodeid, reason=" ".join(reason.removeprefix("Skipped: ").split()))


@dataclass(kw_only=True, eq=False)
class SkipGuard:
    """Watches one run."""

    allowed: tuple[AllowedSkip, ...]
    forbidden: list[Skip] = field(default_factory=list)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(skip_in(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(skip_in(report))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.forbidden and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.forbidden:
            return
        terminalreporter.section("skips that tests/allowed_skips.txt does not allow", red=True)
        for skip in self.forbidden:
            terminalreporter.write_line(str(skip))

    def _note(self, skip: Skip | None) -> None:
        if skip is not None and not any(item.allows(skip) for item in self.allowed):
            self.forbidden.append(skip)


def pytest_configure(config: pytest.Config) -> None:
    """Watch, except in xdist's workers: their reports come to the process that started them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipGuard(allowed=parse_allowed(ALLOWED.read_text(encoding="utf-8"))))
