"""Makes `tests/` importable (`from support import …`): pytest puts the folder of a conftest on the path."""

import signal

from hypothesis import settings

pytest_plugins = ["skips", "support.seeds", "support.postgres"]

# No test measures time by accident: a busy machine takes a second for what usually takes a millisecond.
settings.register_profile("samara", deadline=None)
settings.load_profile("samara")

# A job that a shell started in the background ignores Ctrl-C, and so would every process a test starts to press it.
signal.signal(signal.SIGINT, signal.default_int_handler)
