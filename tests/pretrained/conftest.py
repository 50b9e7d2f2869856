from __future__ import annotations

import pytest
from random_checkpoint import random_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A folder with every head, random weights."""
    return random_checkpoint(tmp_path_factory.mktemp("pretrained") / "checkpoint")
