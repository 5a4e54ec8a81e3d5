"""Fixtures of the tests of synthetic clips."""

from __future__ import annotations

import pytest

from musetalk.errors import InputError, MuseTalkError
from musetalk.training.synthetic.espeak import Voice, speak


@pytest.fixture(scope="session")
def espeak() -> None:
    """Skips where libespeak-ng is not installed, and only there."""
    try:
        speak("a", Voice("en-us"))
    except InputError:
        raise
    except MuseTalkError as error:
        pytest.skip(f"NOT RUN: {error}")
