"""Estimated poses against the demo's truth, as the report has them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tiktok_dm.pipeline.demo import demo_accuracy


@pytest.fixture
def item(tmp_path: Path) -> Any:
    """A clip of ten frames at 30 fps, from 1 s on, of one drawn dancer whose torso is 100 px; nobody was found yet."""
    joints = np.zeros((60, 1, 25, 2), np.float32)
    joints[30:40] = np.arange(50).reshape(25, 2) + 200
    joints[30:40, 0, 1], joints[30:40, 0, 8] = (300, 100), (300, 200)
    np.savez(tmp_path / "compilation_0.npz", joints=joints)
    (tmp_path / "compilation_0.json").write_text(json.dumps({"fps": 30}))
    np.save(tmp_path / "poses.npy", np.zeros((10, 0, 25, 3), np.float32))
    return SimpleNamespace(compilation_id=0, pose=tmp_path / "poses.npy", segment={"start_s": 1.0}, truth=joints[30:40])


def test_where_nobody_was_found_there_is_no_error_to_tell(item: Any, tmp_path: Path) -> None:
    """A share of zero can be written as JSON; the mean of nothing cannot, and is left out."""
    assert demo_accuracy(tmp_path, [item]) == {"recall": 0.0, "pck02": 0.0}


def test_the_frames_of_the_clip_are_compared(item: Any, tmp_path: Path) -> None:
    found = np.ones((10, 1, 25, 3), np.float32)
    found[..., :2] = item.truth + np.array([30, 0])
    np.save(item.pose, found)
    assert demo_accuracy(tmp_path, [item]) == {"recall": 1.0, "mean_error_torso": 0.3, "pck02": 0.0}
