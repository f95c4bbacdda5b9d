"""Makes `tests/` importable (`from support import …`): pytest puts the folder of a conftest on the path."""

from hypothesis import settings

pytest_plugins = ["skips"]

# No test measures time by accident: a busy machine takes a second for what usually takes a millisecond.
settings.register_profile("samara", deadline=None)
settings.load_profile("samara")
