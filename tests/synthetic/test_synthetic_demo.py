"""Demos: counts, truth that agrees with itself, files in the project's schema, determinism."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm.errors import UserError
from tiktok_dm.media import probe, read_audio, read_frames
from tiktok_dm.synthetic import DemoParams, clip_truth, make_demo, write_demo_annotations
from tiktok_dm.synthetic.demo import compilation_frames
from tiktok_dm.synthetic.music import make_song
from tiktok_dm.synthetic.performance import find_clip
from tiktok_dm.synthetic.plan import SHORTEST, make_plan, window_of

SMALL = DemoParams(
    clips=4, songs=2, compilations=2, width=240, height=136, fps=15, shortest_s=1.0, longest_s=1.4, title_s=0.2
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"), SMALL)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("clips", "songs", "compilations"), [(8, 4, 2), (5, 2, 1), (24, 12, 3), (3, 3, 3)])
def test_counts_follow_the_parameters_and_songs_are_spread(clips, songs, compilations):
    params = DemoParams(clips=clips, songs=songs, compilations=compilations)
    plans = make_plan(params)
    assert len(plans) == compilations
    made = [clip for plan in plans for clip in plan.clips]
    assert [clip.clip_id for clip in made] == list(range(clips))
    assert {clip.song_id for clip in made} == set(range(songs))
    uses = np.bincount([clip.song_id for clip in made])
    assert uses.max() - uses.min() <= 1
    for plan in plans:
        here = [clip.song_id for clip in plan.clips]
        assert max(here.count(song) for song in here) <= int(np.ceil(len(here) / songs))


def test_the_default_demo_is_a_minute_with_solo_duo_and_trio_and_three_segments_a_clip():
    params = DemoParams()
    clips = [clip for plan in make_plan(params) for clip in plan.clips]
    seconds = [clip.frames / params.fps for clip in clips]
    assert min(seconds) >= 6.0
    assert max(seconds) < 9.0
    assert 50 < sum(seconds) < 70
    assert {len(clip.dancers) for clip in clips} == {1, 2, 3}
    assert {plan.layout for plan in make_plan(params)} == {"full", "portrait"}
    for song in range(params.songs):
        assert len({clip.compilation_id for clip in clips if clip.song_id == song}) == 2


def test_windows_are_even_and_centred():
    assert window_of("full", 768, 432) == (0, 0, 768, 432)
    assert window_of("portrait", 768, 432) == (250, 0, 268, 432)
    assert window_of("square", 768, 432) == (168, 0, 432, 432)


def test_joints_stay_inside_the_window_and_dancers_are_tall_and_apart():
    params = DemoParams(clips=18, songs=6, compilations=3, seed=2)
    for plan in make_plan(params):
        x, y, width, height = plan.window
        for clip in plan.clips:
            joints, _, _, _ = clip_truth(params, clip.clip_id)
            assert joints.shape[1:] == (len(clip.dancers), 25, 3)
            assert joints.dtype == np.float32
            assert (joints[..., 2] == 1).all()
            assert joints[..., 0].min() >= x
            assert joints[..., 0].max() < x + width
            assert joints[..., 1].min() >= y
            assert joints[..., 1].max() < y + height
            # From the eyes to the heels is 0.95 of a standing body, less when dancers crouch.
            tall = (joints[:, :, 24, 1] - joints[:, :, 15, 1]).max(0)
            assert (tall > 0.88 * SHORTEST * height).all()
            middles = np.sort(joints[:, :, 8, 0], axis=1)
            if len(clip.dancers) > 1:
                shoulders = np.abs(joints[:, :, 2, 0] - joints[:, :, 5, 0]).max()
                assert np.diff(middles, axis=1).min() > 1.5 * shoulders


def test_beats_are_periodic_at_the_tempo_and_clips_of_one_song_start_elsewhere():
    params = DemoParams()
    offsets: dict[int, list[float]] = {}
    for clip_id in range(params.clips):
        clip = find_clip(params, clip_id)
        joints, audio, beats, song_id = clip_truth(params, clip_id)
        assert song_id == clip.song_id
        assert len(joints) == clip.frames
        assert len(audio) == round(clip.frames / 30 * 22_050)
        assert 0 <= beats[0] < 60 / make_song(0, song_id).tempo_bpm
        np.testing.assert_allclose(np.diff(beats), 60 / make_song(0, song_id).tempo_bpm)
        assert np.sqrt((audio**2).mean()) > 0.1
        offsets.setdefault(song_id, []).append(clip.song_offset_s)
    for starts in offsets.values():
        assert abs(starts[0] - starts[1]) > 1.0


def test_speed_minima_of_the_lead_fall_on_beats():
    params = DemoParams(clips=6, songs=6, compilations=1, seed=1, layouts=("full",), groove="exact")
    for clip_id in range(6):
        joints, _, beats, song_id = clip_truth(params, clip_id)
        song = make_song(1, song_id)
        speed = np.linalg.norm(np.diff(joints[:, 0, :, :2], axis=0), axis=-1).mean(-1)
        times = (np.arange(len(speed)) + 0.5) / 30
        rest = [
            times[k]
            for k in range(1, len(speed) - 1)
            if speed[k] < speed[k - 1] and speed[k] <= speed[k + 1] and speed[k] < np.median(speed)
        ]
        rest = [t for t in rest if beats[0] <= t <= beats[-1]]
        assert len(rest) >= len(beats) // song.style.step_beats - 2
        distance = np.array([np.abs(beats - t).min() for t in rest])
        assert (distance < 0.05).mean() > 0.6
        assert np.median(distance) < 0.025
        chance = 0.05 * 2 / (60 / song.tempo_bpm)
        assert (distance < 0.05).mean() > 2 * chance


def test_truth_is_the_same_again_differs_by_seed_and_has_the_same_instants_at_any_frame_rate():
    params = DemoParams()
    first, again = clip_truth(params, 2), clip_truth(DemoParams(), 2)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0][:60], clip_truth(replace(params, seed=1), 2)[0][:60])
    slower, _, beats, _ = clip_truth(replace(params, fps=25), 2)
    count = min(len(slower), len(first[0]))
    np.testing.assert_allclose(slower[:count], first[0][:count], atol=0.6)
    np.testing.assert_allclose(beats[:8], first[2][:8])


def test_annotations_are_in_the_schema(demo):
    compilations, clips, songs = (
        rows(demo / "annotations" / f"{name}.csv") for name in ("compilations", "clips", "songs")
    )
    assert list(compilations[0]) == ["compilation_id", "title", "url", "file", "license", "sha256"]
    assert list(clips[0]) == ["clip_id", "compilation_id", "song_id", "start_s", "end_s", "n_dancers"]
    assert list(songs[0]) == ["song_id", "title", "artist"]
    assert [row["file"] for row in compilations] == ["compilation_0.mp4", "compilation_1.mp4"]
    assert (len(compilations), len(clips), len(songs)) == (2, 4, 2)
    assert len({row["title"] for row in songs}) == 2
    for compilation in compilations:
        own = [row for row in clips if row["compilation_id"] == compilation["compilation_id"]]
        length = probe(demo / "media" / compilation["file"]).duration_s
        assert float(own[0]["start_s"]) == pytest.approx(0.2)
        assert float(own[-1]["end_s"]) == pytest.approx(length, abs=0.01)
        for before, after in pairwise(own):
            assert before["end_s"] == after["start_s"]
    assert "license: cc0-1.0" in (demo / "annotations" / "dataset.yaml").read_text()
    assert "provenance" in (demo / "annotations" / "README.md").read_text()


def test_annotations_can_be_written_before_anything_is_rendered(demo, tmp_path):
    write_demo_annotations(tmp_path, SMALL)
    for name in ("clips.csv", "songs.csv", "dataset.yaml", "README.md"):
        assert (tmp_path / name).read_bytes() == (demo / "annotations" / name).read_bytes()
    assert [row["sha256"] for row in rows(tmp_path / "compilations.csv")] == ["", ""]
    assert [len(row["sha256"]) for row in rows(demo / "annotations" / "compilations.csv")] == [64, 64]


def test_truth_files_agree_with_annotations_and_with_the_fast_path(demo):
    clips = {int(row["clip_id"]): row for row in rows(demo / "annotations" / "clips.csv")}
    for number in range(2):
        told = json.loads((demo / "truth" / f"compilation_{number}.json").read_text())
        joints = np.load(demo / "truth" / f"compilation_{number}.npz")["joints"]
        assert joints.dtype == np.float32
        assert joints.shape[0] == told["frames"]
        assert np.isnan(joints[: told["clips"][0]["first_frame"]]).all()
        for clip in told["clips"]:
            row = clips[clip["clip_id"]]
            assert float(row["start_s"]) == pytest.approx(clip["start_s"], abs=1e-6)
            assert float(row["end_s"]) == pytest.approx(clip["end_s"], abs=1e-6)
            assert clip["start_s"] in told["cuts_s"]
            assert int(row["song_id"]) == clip["song_id"]
            fast, _, beats, _ = clip_truth(SMALL, clip["clip_id"])
            np.testing.assert_allclose(clip["beats_s"], beats, atol=1e-6)
            own = joints[clip["first_frame"] : clip["first_frame"] + clip["frames"], : clip["n_dancers"]]
            np.testing.assert_allclose(own, fast[::2, :, :, :2][: len(own)], atol=1e-3)  # 15 pictures a second
    songs = json.loads((demo / "truth" / "songs.json").read_text())
    assert [song["style"] for song in songs] == ["house", "hip-hop"]


def test_videos_show_window_decoration_and_dancers_and_carry_the_songs(demo):
    portrait = json.loads((demo / "truth" / "compilation_1.json").read_text())
    video = demo / "media" / "compilation_1.mp4"
    info = probe(video)
    assert (info.width, info.height) == (240, 136)
    assert float(info.fps) == 15
    start = portrait["clips"][0]["start_s"]
    frames = [rgb.astype(int) for _, rgb in read_frames(video, start_s=start, end_s=info.duration_s, fps=15)]
    x, _, width, _ = portrait["content_box"]
    left = np.stack([frame[:, : x - 6] for frame in frames])
    inside = np.stack([frame[:, x + 4 : x + width - 4] for frame in frames])
    assert np.abs(left - left[0]).mean() < 3  # static decoration, up to compression
    assert np.abs(np.diff(inside, axis=0)).mean() > 1
    # The lead's shirt is where the truth says: around the chest the picture has the top's colour.
    clip = find_clip(SMALL, portrait["clips"][0]["clip_id"])
    joints = np.load(demo / "truth" / "compilation_1.npz")["joints"][clip.first_frame + 8, 0]
    chest = joints[1] * 0.6 + joints[8] * 0.4
    patch = (
        frames[8][int(chest[1]) - 1 : int(chest[1]) + 2, int(chest[0]) - 1 : int(chest[0]) + 2].reshape(-1, 3).mean(0)
    )
    colours = [np.array(c) for c in (clip.looks[0].top, clip.looks[0].top_trim)]
    hues = [patch @ c / np.linalg.norm(patch) / np.linalg.norm(c) for c in colours]
    assert max(hues) > 0.93
    sound = read_audio(video, sample_rate=22_050, mono=True)
    clip_start = round(start * 22_050)
    truth = clip_truth(SMALL, clip.clip_id)[1]
    got = sound[clip_start : clip_start + len(truth)][2000:-2000]
    assert np.corrcoef(got, truth[2000 : 2000 + len(got)])[0, 1] > 0.97
    assert np.abs(sound[: clip_start - 1500]).max() < 0.02  # silence under the title card


def test_the_same_parameters_give_the_same_bytes_with_any_number_of_workers(demo, tmp_path):
    told: list[tuple[int, int, str]] = []
    again = make_demo(tmp_path, SMALL, workers=2, progress=lambda *what: told.append(what))
    files = sorted(path.relative_to(demo) for path in demo.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for file in files:
        assert (demo / file).read_bytes() == (again / file).read_bytes(), file
    assert told[-1][:2] == (4, 4)


def test_cross_fades_lie_between_clips_and_mix_both():
    params = replace(SMALL, crossfade_s=0.4, compilations=1, layouts=("full",))
    plan = make_plan(params)[0]
    first, second = plan.clips[:2]
    assert second.first_frame - first.first_frame - first.frames == 6
    frames = list(compilation_frames(params, plan))
    assert len(frames) == plan.frames
    end = first.first_frame + first.frames
    a, b = frames[end - 1].astype(float), frames[second.first_frame].astype(float)
    corner = (slice(0, 20), slice(0, 20))  # background only
    middle = frames[end + 3][corner].astype(float).mean()
    low, high = sorted((a[corner].mean(), b[corner].mean()))
    assert low - 3 <= middle <= high + 3
    assert np.abs(frames[end].astype(float) - a).mean() < np.abs(frames[end + 5].astype(float) - a).mean()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clips": 1, "compilations": 2}, "cannot fill 2 compilations"),
        ({"songs": 9}, "1 to 8 songs, not 9"),
        ({"songs": 0}, "1 to 8 songs, not 0"),
        ({"compilations": 0}, "at least one compilation"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"width": 641}, "even sides"),
        ({"fps": 1000}, "frame rate"),
        ({"shortest_s": 9.0}, "1 to 30 seconds"),
        ({"layouts": ("round",)}, "not round"),
        ({"groove": "funky"}, "human or exact, not funky"),
    ],
)
def test_impossible_parameters_get_a_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        DemoParams(**changes)


def test_a_clip_that_does_not_exist_gets_a_sentence():
    with pytest.raises(UserError, match="clips 0 to 7, and no clip 8"):
        clip_truth(DemoParams(), 8)
