"""Runs `samara` under a wall clock that is wrong, and can be set while it runs. How long things take stays true.

    python wrong_clock.py FILE python -m samara …

FILE holds how many seconds the clock is ahead. Everything in the process that asks Python for the time of day is told
so; libtorrent goes by time that passes, and files' times are the true ones, as with a network drive's. (libfaketime
would do it for any program, but breaks Python's `sleep`.)
"""

from __future__ import annotations

import datetime as datetime_module
import runpy
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path


def main() -> None:
    file = Path(sys.argv[1])
    sys.argv = sys.argv[4:]  # from "samara" on
    real, real_ns = time.time, time.time_ns

    def ahead() -> float:
        return float(file.read_text())

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Wrong:
            moment = datetime.now(UTC) + timedelta(seconds=ahead())
            there = moment.astimezone(tz).replace(tzinfo=tz) if tz else moment.astimezone().replace(tzinfo=None)
            return cls.combine(there.date(), there.timetz())

        @classmethod
        def utcnow(cls) -> Wrong:
            return cls.now(UTC).replace(tzinfo=None)

    time.time = lambda: real() + ahead()
    time.time_ns = lambda: real_ns() + int(ahead() * 1e9)
    datetime_module.datetime = Wrong  # type: ignore[misc]
    runpy.run_module("samara", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
