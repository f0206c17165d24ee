"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _shared_data() -> Path | None:
    told = os.environ.get("TIKTOK_DM_TEST_DATA")
    candidates = [Path(told)] if told else [Path(__file__).resolve().parents[2] / "shared" / "data"]
    return next((path for path in candidates if (path / "compilations").is_dir()), None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real footage and its truth (`clips/`, `compilations/`); never part of the project."""
    path = _shared_data()
    if path is None:
        pytest.skip("real footage is absent: set TIKTOK_DM_TEST_DATA to the folder that holds clips/ and compilations/")
    return path
