"""The drawn things, once for all tests of a process."""

from __future__ import annotations

import pytest

from bt_cli.datasets.scenes.sprites import SpriteSheet
from bt_cli.errors import NotFound


@pytest.fixture(scope="session")
def sheet() -> SpriteSheet:
    """The sprites of all things; skips where the emoji font is not installed."""
    try:
        return SpriteSheet.load()
    except NotFound as error:
        pytest.skip(str(error))
