"""Wall clocks that are wrong and can be set, for processes that a test starts (`flaky_process/wrong_clock.py`)."""

from __future__ import annotations

import sys
from pathlib import Path

HOUR, DAY = 3600, 86400  # seconds


class Clock:
    """The wall clock of some processes, which can be set while they run."""

    def __init__(self, file: Path, ahead: int = 0) -> None:
        self._file = file
        self.set(ahead)

    @property
    def wrap(self) -> tuple[str, ...]:
        """What starts a process under it."""
        driver = Path(__file__).parent.parent / "flaky_process" / "wrong_clock.py"
        return (sys.executable, str(driver), str(self._file))

    def set(self, ahead: int) -> None:
        """So many seconds from the true time."""
        aside = self._file.with_suffix(".new")
        aside.write_text(str(ahead))
        aside.replace(self._file)
