"""The demo model's check: constructed click tracks, and p-values worked by hand."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from tiktok_dm.errors import UserError

TOOL = Path(__file__).resolve().parents[1] / "tools" / "score_demo_model.py"
RATE = 22_050


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("score_demo_model", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def dance(tool, clip_id, bpm, first_s=0.25, seconds=8.0, song_id=None, motion_bpm=None):
    beats = np.arange(first_s, seconds, 60 / bpm)
    return tool.Danced(clip_id, clip_id if song_id is None else song_id, seconds, bpm, beats, motion_bpm or bpm)


def test_octaves_off_takes_half_and_double_for_right(tool):
    assert tool.octaves_off(120, 120) == 0
    assert tool.octaves_off(60, 120) == pytest.approx(0)
    assert tool.octaves_off(200, 100) == pytest.approx(0)
    assert tool.octaves_off(110, 100) == pytest.approx(math.log2(1.1))
    assert tool.octaves_off(150, 100) == pytest.approx(1 - math.log2(1.5))  # nearer to double
    assert tool.octaves_off(None, 100) == tool.octaves_off(100, None) == 0.5
    assert tool.percent(tool.octaves_off(104, 100)) == pytest.approx(4)


@pytest.mark.parametrize(
    ("found", "wanted", "f"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1.0),
        ([1.069, 1.931], [1.0, 2.0], 1.0),
        ([1.071, 1.929], [1.0, 2.0], 0.0),
        ([1.0, 1.5, 2.0, 2.5], [1.0, 2.0], 2 * 2 / 6),
        ([0.98, 1.02], [1.0], 2 * 1 / 3),  # one beat takes one event only
        # The nearest pair alone would leave the others single; the largest matching has two.
        ([1.0, 1.06], [1.05, 1.12], 1.0),
        ([], [1.0], 0.0),
        ([1.0], [], 0.0),
    ],
)
def test_f_measure(tool, found, wanted, f):
    assert tool.f_measure(np.array(found), np.array(wanted)) == pytest.approx(f)


def test_f_measure_finds_the_largest_matching(tool):
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(0)
    for _ in range(200):
        a, b = np.sort(rng.uniform(0, 1, rng.integers(1, 9))), np.sort(rng.uniform(0, 1, rng.integers(1, 9)))
        near = (np.abs(a[:, None] - b) <= 0.07).astype(float)
        rows, columns = linear_sum_assignment(-near)
        assert tool.f_measure(a, b) == pytest.approx(2 * near[rows, columns].sum() / (len(a) + len(b)))


def test_permutation_p_by_hand(tool):
    # Of the two pairings of two pairs, only the true one sums to 0.
    assert tool.permutation_p(np.array([[0.0, 1.0], [1.0, 0.0]])) == 1 / 2
    # The other one is better: both are no larger than the true one.
    assert tool.permutation_p(np.array([[1.0, 0.0], [0.0, 1.0]])) == 1
    # Sums of the six pairings of three, the true one first; two of them are no larger than 3.
    table = np.array([[0.0, 1.0, 4.0], [2.0, 1.0, 1.0], [3.0, 1.0, 2.0]])
    sums = [table[range(3), list(order)].sum() for order in itertools.permutations(range(3))]
    assert sums == [3, 2, 5, 5, 7, 8]
    assert tool.permutation_p(table) == 2 / 6
    # Ties count: a system that makes the same for all says nothing.
    assert tool.permutation_p(np.full((5, 5), 0.3)) == 1


def test_permutation_p_draws_when_there_are_many(tool):
    table = np.abs(np.subtract.outer(np.arange(12.0), np.arange(12.0)))
    p = tool.permutation_p(table)
    assert p == 1 / 10_001  # no drawn pairing is the true one, which counts once
    assert tool.permutation_p(np.ones((12, 12))) == 1


def test_clicks_are_heard_where_they_are(tool):
    heard = tool.hear(tool.clicks(8, 110, first_s=0.25), RATE)
    assert tool.octaves_off(heard.bpm, 110) < math.log2(1.005)
    wanted = dance(tool, 0, 110)
    assert tool.pair_f(heard.onsets_s, heard, wanted) == 1
    assert tool.pair_f(heard.beats_s, heard, wanted) > 0.95
    # Of a shorter dance only the common part is looked at.
    short = dance(tool, 0, 110, seconds=4.0)
    assert tool.pair_f(heard.onsets_s, heard, short) == 1


def test_another_rate_and_stereo_are_heard_alike(tool):
    import soxr

    mono = tool.clicks(6, 96, first_s=0.1)
    stereo = np.repeat(soxr.resample(mono, RATE, 44_100)[:, None], 2, axis=1)
    one, two = tool.hear(mono, RATE), tool.hear(stereo, 44_100)
    assert two.bpm == pytest.approx(one.bpm, rel=1e-3)
    assert two.onsets_s == pytest.approx(one.onsets_s, abs=0.03)
    assert two.seconds == pytest.approx(6)


def test_silence_has_no_tempo(tool):
    heard = tool.hear(np.zeros(RATE * 4, np.float32), RATE)
    assert heard.bpm is None
    assert len(heard.beats_s) == len(heard.onsets_s) == 0


def test_music_on_the_beats_beats_shuffled_pairs(tool):
    tempi = (88.0, 97.0, 109.0, 121.0, 135.0)
    dances = [dance(tool, k, bpm) for k, bpm in enumerate(tempi)]
    heard = [tool.hear(tool.clicks(8, bpm, first_s=0.25), RATE) for bpm in tempi]
    row = tool.compare(heard, dances)
    assert row["clips"] == 5
    assert row["without_tempo"] == 0
    for name in ("tempo", "motion"):
        assert row[name]["true"]["median_percent"] < 0.5
        assert row[name]["true"]["within_4"] == 1
        assert row[name]["true"]["log2_strict"] < 0.01
        assert row[name]["shuffled"]["within_4"] == 0  # neighbours are 10 % apart
        assert row[name]["shuffled"]["median_percent"] > 9
        assert row[name]["p"] == 1 / 120
    assert row["f_onsets"]["true"] == 1
    assert row["f_beats"]["true"] > 0.95
    assert row["f_onsets"]["shuffled"] < 0.45
    assert row["f_onsets"]["p"] == 1 / 120


def test_the_same_clicks_for_all_are_no_better_than_shuffled(tool):
    dances = [dance(tool, k, bpm) for k, bpm in enumerate((88.0, 97.0, 109.0))]
    heard = [tool.hear(tool.clicks(8, 120), RATE)] * 3
    row = tool.compare(heard, dances)
    assert row["tempo"]["p"] == row["motion"]["p"] == row["f_beats"]["p"] == 1
    assert row["tempo"]["true"]["log2"] == pytest.approx(row["tempo"]["shuffled"]["log2"], abs=1e-3)


def test_dances_to_one_song_are_not_shuffled_with_each_other(tool):
    heard = [tool.Heard(8, bpm, np.zeros(0), np.zeros(0)) for bpm in (100.0, 100.0, 130.0)]
    dances = [dance(tool, 0, 100, song_id=7), dance(tool, 1, 100, song_id=7), dance(tool, 2, 130, song_id=8)]
    row = tool.compare(heard, dances)
    assert row["tempo"]["shuffled"]["within_8"] == 0
    with pytest.raises(UserError, match="one song"):
        tool.compare(heard[:2], dances[:2])


def test_motion_tempo_reads_the_speed(tool):
    """Hands that swing to and fro, at rest on every beat at 105 a minute."""
    time_s = np.arange(300) / 30
    poses = np.zeros((300, 25, 3), np.float32)
    poses[..., 2] = 0.9
    poses[:, 4, 0] = 300 + 80 * np.cos(np.pi * 105 / 60 * time_s)
    poses[:, 7, 2] = 0.0  # a joint that is not seen jumps about
    poses[:, 7, 0] = np.random.default_rng(0).uniform(0, 900, 300)
    bpm = tool.motion_tempo(poses)
    assert tool.octaves_off(bpm, 105) < math.log2(1.01)
    still = np.ones((300, 25, 3), np.float32)
    assert tool.motion_tempo(still) is None


def test_read_generated(tool, tmp_path):
    for name in ("clip_000012.wav", "clip_000003.wav", "dance.wav", "clip_000003.mp4"):
        (tmp_path / name).touch()
    assert list(tool.read_generated(tmp_path)) == [3, 12]
    with pytest.raises(UserError, match="no clip_000012"):
        tool.read_generated(tmp_path.parent)
    with pytest.raises(UserError, match="is no folder"):
        tool.read_generated(tmp_path / "nowhere")


class Rows(list):
    """A split as `open_dataset` gives it, as far as the tool looks."""

    def select_columns(self, names):
        return [{name: row[name] for name in names} for row in self]


@pytest.fixture
def dataset(tool, monkeypatch):
    """Three clips with clicks at 90, 110 and 130 a minute, in two splits; the poses stand still."""
    from tiktok_dm import reading
    from tiktok_dm.media import encode_audio

    rows = Rows()
    for clip_id, bpm in enumerate((90.0, 110.0, 130.0)):
        rows.append(
            {
                "clip_id": clip_id,
                "song_id": clip_id,
                "duration_s": 6.0,
                "tempo_bpm": bpm,
                "beats_s": list(np.arange(0.2, 6, 60 / bpm)),
                "pose": np.zeros((180, 5, 25, 3), np.float32),
                "audio": {"bytes": encode_audio(tool.clicks(6, bpm, first_s=0.2), RATE), "path": "a.flac"},
            }
        )
    splits = {"train": Rows(rows[:1]), "test": Rows(rows[1:])}
    monkeypatch.setattr(reading, "open_dataset", lambda path: splits)
    return splits


def test_score_writes_a_table_and_json(tool, dataset, tmp_path, monkeypatch, capsys):
    for clip_id, bpm in ((0, 90.0), (1, 110.0), (2, 130.0)):
        soundfile.write(tmp_path / f"clip_{clip_id:06d}.wav", tool.clicks(6, bpm, first_s=0.2), RATE)
    monkeypatch.setattr(
        sys, "argv", ["score", str(tmp_path), "DS", "--split", "all", "--json", str(tmp_path / "s.json")]
    )
    assert tool.main() == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "s.json").read_text())
    assert [clip["clip_id"] for clip in result["clips"]] == [0, 1, 2]
    assert [clip["motion_bpm"] for clip in result["clips"]] == [None, None, None]
    made = result["systems"]["generated"]
    assert made == result["systems"]["ground truth"]  # but for 16 bits they are the same
    assert made["tempo"]["true"]["within_4"] == 1
    assert made["tempo"]["p"] == made["f_onsets"]["p"] == 1 / 6
    assert made["motion"]["true"]["log2"] == 0.5  # a dance without tempo gives the worst error
    clicks = result["systems"]["clicks at 120 bpm"]
    assert clicks["tempo"]["p"] == 1
    assert clicks["tempo"]["true"]["within_4"] == 0
    assert shown.splitlines()[0].startswith("3 clips of all")
    assert shown.splitlines()[2].split()[:4] == [
        "generated",
        "true",
        f"{made['tempo']['true']['median_percent']:.1f}",
        "%",
    ]


def test_score_says_what_is_missing(tool, dataset, tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "clip_000002.wav", tool.clicks(6, 130), RATE)
    with pytest.raises(UserError, match="music for 1 clips"):
        tool.score(tmp_path, Path("DS"))
    with pytest.raises(UserError, match="it has train, test"):
        tool.score(tmp_path, Path("DS"), "validation")
    monkeypatch.setattr(sys, "argv", ["score", str(tmp_path), "DS"])
    assert tool.main() == 1
    assert "two or more are needed" in capsys.readouterr().err
