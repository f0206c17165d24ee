"""Counting dancers from poses, worked by hand, and keeping the poses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm.curate.video_findings import STAGE, count_dancers, decide, stored_poses
from tiktok_dm.files import sha256_file
from tiktok_dm.runtime.store import Store


def poses(*seen: list[int]) -> np.ndarray:
    """(frames, dancers, 25, 3) from one list of 0 and 1 a dancer."""
    out = np.zeros((len(seen[0]), len(seen), 25, 3), np.float32)
    for dancer, frames in enumerate(seen):
        out[np.asarray(frames) > 0, dancer] = (10.0 * dancer + 5, 7.0, 0.9)
    return out


def test_the_largest_number_seen_together() -> None:
    alone = decide(poses([1] * 20))
    assert (alone.n, alone.coverage) == (1, 1.0)
    assert alone.reason == "one dancer is seen in 100% of the pictures"
    pair = decide(poses([1] * 20, [0] * 10 + [1] * 10))
    assert pair.n == 2
    assert pair.reason == "2 dancers are seen together in 50% of the pictures"
    # Two that are never there at once are one after the other.
    assert decide(poses([1] * 10 + [0] * 10, [0] * 10 + [1] * 10)).n == 1


def test_someone_who_passes_by_is_no_dancer_and_makes_it_less_sure() -> None:
    passer = decide(poses([1] * 20, [1, 1] + [0] * 18))
    assert passer.n == 1
    assert passer.reason == "one dancer is seen in 100% of the pictures, 2 in 10%"
    assert 0.5 < passer.confidence < 0.8 < decide(poses([1] * 20)).confidence
    assert decide(poses([1] * 20, [1, 1, 1] + [0] * 17)).n == 2  # 15 %


def test_nobody() -> None:
    assert decide(poses([0] * 20)).n == 0
    assert decide(np.zeros((20, 0, 25, 3), np.float32)) == decide(poses([0] * 20))


def test_stored_poses_follow_a_clip_whose_ends_moved(tmp_path: Path) -> None:
    def make(folder: Path) -> dict:
        np.save(folder / "poses.npy", poses([1] * 60, [0, 1] * 30))
        return {"source": "abc", "start_s": 10.0, "end_s": 12.0, "n": 2}

    Store(tmp_path).run(STAGE, "0" * 32, make)
    same = stored_poses(tmp_path, "abc", 10.0, 12.0)
    assert same is not None
    np.testing.assert_array_equal(same, poses([1] * 60, [0, 1] * 30))
    later = stored_poses(tmp_path, "abc", 10.1, 12.2)  # three pictures later, and six longer
    assert later is not None
    assert later.shape == (63, 2, 25, 3)
    np.testing.assert_array_equal(later[:57], poses([1] * 60, [0, 1] * 30)[3:])
    assert not later[57:].any()
    assert stored_poses(tmp_path, "abc", 12.0, 14.0) is None
    assert stored_poses(tmp_path, "other", 10.0, 12.0) is None


@pytest.mark.slow
def test_two_and_three_real_dancers_are_counted(shared_data: Path, tmp_path: Path) -> None:
    video = shared_data / "compilations" / "compilation_b.mp4"
    truth = json.loads((shared_data / "compilations" / "compilation_b.truth.json").read_text())
    for index in (4, 7):
        clip = truth["clips"][index]
        start = clip["start_s"] + 1.0
        found = count_dancers(video, sha256_file(video), start, start + 2.5, tmp_path)
        assert found.n == clip["n_dancers"], index
        assert found.confidence == pytest.approx(0.9, abs=0.1)
    kept = stored_poses(tmp_path, sha256_file(video), start, start + 2.5)
    assert kept is not None
    assert kept.shape[:2] == (75, 2)
    assert kept[..., 0].max() <= 640
