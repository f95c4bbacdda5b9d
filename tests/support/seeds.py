"""A pytest plugin for tests with dice: what is random is drawn from one seed, which is printed to be had again."""

from __future__ import annotations

import os
import random

import pytest

ENV_SEED = "SAMARA_SEED"


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """SAMARA_SEED, else 1; a failure shows how to have the same again."""
    chosen = int(os.environ.get(ENV_SEED, "1"))
    print(f'again: {ENV_SEED}={chosen} pytest "{request.node.nodeid}"')
    return chosen


@pytest.fixture
def dice(seed: int) -> random.Random:
    """Draws what is random."""
    return random.Random(seed)
