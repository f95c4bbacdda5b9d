"""Where the process begins: Ctrl-C and SIGTERM end it quietly even before the command line is loaded."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

INTERRUPTED = 130  # ExitCode.INTERRUPTED, which is not loaded yet


def main() -> NoReturn:
    """Load the command line and run it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from samara.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    run()
