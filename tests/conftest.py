"""Makes `tests/` importable (`from support import …`): pytest puts the folder of a conftest on the path."""

pytest_plugins = ["skips"]
