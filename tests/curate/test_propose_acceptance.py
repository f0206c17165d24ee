"""Two real compilations proposed by the command, against their truth: what `propose` promises on real input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.agreement import KnownClip, match_clips, pair_agreement, proposed_clips, score, true_clips
from tests.truth_annotations import read_truth
from tiktok_dm.annotations.tables import check_annotations
from tiktok_dm.curate.proposals import Proposals, read_proposals


def run(shared_data: Path, out: Path, *more: str) -> Proposals:
    """Both compilations proposed by the command."""
    command = [sys.executable, "-m", "tiktok_dm", "propose", str(shared_data / "compilations"), "--out", str(out)]
    done = subprocess.run([*command, "--workers", "2", "--json", *more], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == {"0": 11, "1": 9}
    return read_proposals(out)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def proposed(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Proposals:
    """Cuts and songs, by pictures and sound alone."""
    return run(shared_data, tmp_path_factory.mktemp("proposed") / "films", "--no-dancers")


@pytest.fixture(scope="module")
def truth(shared_data: Path) -> list[dict[str, Any]]:
    return read_truth(shared_data)


@pytest.mark.parametrize(("number", "least"), [(0, 0.95), (1, 0.9)])
def test_cuts_within_two_frames(proposed: Proposals, truth: list[dict[str, Any]], number: int, least: float) -> None:
    found = score(proposed_clips(proposed, number), truth[number])
    assert found["cuts"]["precision"] >= least
    assert found["cuts"]["recall"] >= least
    assert found["cards_taken_for_clips"] == 0
    assert found["same_song_pairs"]["f1"] >= least


def test_zooms_and_flashes_are_no_cuts(proposed: Proposals, truth: list[dict[str, Any]]) -> None:
    used = proposed.candidates[(proposed.candidates.compilation_id == 1) & (proposed.candidates.used == "yes")]
    for distractor in truth[1]["distractors"]:
        inside = used.at_s.between(distractor["start_s"] - 0.1, distractor["end_s"] + 0.1)
        assert not inside.any(), distractor["kind"]
    assert sorted(proposed.rejected.kind) == ["outro_card", "title_card"]


def test_songs_are_found_across_both(proposed: Proposals, truth: list[dict[str, Any]]) -> None:
    found: list[KnownClip] = []
    true: list[KnownClip] = []
    for number in range(2):
        for clips, all_of_them in ((proposed_clips(proposed, number), found), (true_clips(truth[number]), true)):
            all_of_them += [KnownClip(c.start_s + 1e5 * number, c.end_s + 1e5 * number, c.song) for c in clips]
    assert pair_agreement(found, true, match_clips(found, true)).f1 >= 0.9


def test_dancers_are_counted(shared_data: Path, truth: list[dict[str, Any]], tmp_path: Path) -> None:
    proposed = run(shared_data, tmp_path / "films")
    scores = [score(proposed_clips(proposed, number), truth[number]) for number in range(2)]
    right, known = (sum(s[name] for s in scores) for name in ("dancers_right", "dancers_known"))
    assert known == 20
    assert right / known >= 0.9


def test_the_proposals_are_annotations(proposed: Proposals) -> None:
    assert check_annotations(proposed.root).problems == []
