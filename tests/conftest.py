"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from browser import headless_chromium
from google_drive import Drive, google_drive

# How long an example takes says something of the machine alone.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser of the module's own."""
    with headless_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    """What stands in the place of Google Drive."""
    with google_drive(monkeypatch) as drive:
        yield drive


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch on one thread, for a module's networks."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
