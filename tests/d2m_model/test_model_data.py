"""Segments as training data: values, cache, order, and what a user may get wrong."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from segments_factory import segment_row, write_segments

from d2m_model.codec.interface import Quantised
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import ModelConfig, preset_config
from d2m_model.motion import at_times, check_motion, to_units
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.training import data
from d2m_model.training.data import TrainingBatches, hold_out, load_segments
from tiktok_dm.errors import UserError
from tiktok_dm.reading import decode_audio


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_segments(tmp_path_factory.mktemp("segments") / "set")


@pytest.fixture
def model() -> ModelConfig:
    return preset_config("paper", "high", visual_features=0, latent_channels=8, width=1 / 32)


def test_truth_is_what_the_codec_makes_of_each_segment_and_gain(dataset, model, small_codec, tmp_path):
    segments = load_segments(str(dataset), "train", small_codec, model, [1.0, 0.5], tmp_path)
    assert len(segments) == 12
    assert segments.songs.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    row = segment_row(7, 2, 0.5)
    audio, _ = decode_audio(row["audio"])
    batch = segments.batch(np.array([7, 7]), np.array([0, 1]))
    assert batch.audio is not None
    assert torch.equal(batch.audio[0, 0], torch.from_numpy(audio))
    assert torch.equal(batch.audio[1], 0.5 * batch.audio[0])
    latent = small_codec.encode(batch.audio)
    torch.testing.assert_close(batch.latent, latent, rtol=1e-4, atol=1e-5)
    assert torch.equal(batch.codes.long(), small_codec.quantise(batch.latent).codes)
    motion = to_units(np.asarray(row["motion"], np.float32)[None], "movement")
    assert batch.motion is not None
    assert np.array_equal(batch.motion[0].numpy(), motion[0])


class Pooling(torch.nn.Linear):
    """A codec that costs nothing: means of 128 samples, rounded."""

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        return audio[..., : 344 * 128].unflatten(-1, (344, 128)).mean(-1)

    def quantise(self, latent: torch.Tensor) -> Quantised:
        return Quantised(latent[:, 0].round().long(), latent.round())


def test_filling_the_cache_takes_the_same_memory_for_any_number_of_segments(tmp_path):
    def rows(n: int) -> Iterator[dict]:
        for k in range(n):
            audio = np.full(44100, k, np.float32)
            yield {"id": f"s{k}", "song": k, "audio": audio, "motion": np.full((60, 75), k, np.float32)}

    peaks = {}
    for n in (32, 200):
        (tmp_path / str(n)).mkdir()
        tracemalloc.start()
        data._fill(tmp_path / str(n), n, rows(n), Pooling(1, 1), [1.0, 0.5], "x")
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # A chunk of 16 rows of sound and motion (194 kB each) is there as rows and as arrays, while the next one is read.
    assert peaks[200] <= peaks[32] + 200 * 200 < 3.5 * 16 * 199_000
    segments = data._open(tmp_path / "200", "key")
    assert segments.ids == [f"s{k}" for k in range(200)]
    assert np.array_equal(segments.audio[:, 7], np.arange(200))
    assert np.array_equal(segments.motion[:, 3, 4], np.arange(200))
    assert np.array_equal(segments.latent[:, :, 0, 5], np.arange(200)[:, None] * np.array([1.0, 0.5]))
    assert np.array_equal(segments.codes[:, 0, 9], np.arange(200))


def test_the_cache_is_used_again_and_belongs_to_data_codec_and_gains(dataset, model, small_codec, tmp_path):
    first = load_segments(str(dataset), "train", small_codec, model, [1.0], tmp_path)
    stamp = (tmp_path / first.key / "latent.npy").stat().st_mtime_ns
    assert load_segments(str(dataset), "train", small_codec, model, [1.0], tmp_path).key == first.key
    assert (tmp_path / first.key / "latent.npy").stat().st_mtime_ns == stamp
    other_gain = load_segments(str(dataset), "train", small_codec, model, [0.9], tmp_path)
    with torch.no_grad():
        small_codec.codebook.k[0, 0] += 1
    other_codec = load_segments(str(dataset), "train", small_codec, model, [1.0], tmp_path)
    assert len({first.key, other_gain.key, other_codec.key}) == 3
    # A stop while writing leaves no half: only folders with an index count, and those are renamed into place.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({first.key, other_gain.key, other_codec.key})


def test_sound_is_brought_to_the_peak_before_its_gain(dataset, model, small_codec, tmp_path):
    as_it_is = load_segments(str(dataset), "train", small_codec, model, [1.0], tmp_path)
    at_peak = load_segments(str(dataset), "train", small_codec, model, [1.0, 0.5], tmp_path, peak=0.95)
    assert as_it_is.key != at_peak.key
    np.testing.assert_allclose(np.abs(at_peak.audio).max(axis=1), 0.95, rtol=1e-6)
    scale = 0.95 / np.abs(as_it_is.audio).max(axis=1, keepdims=True)
    np.testing.assert_allclose(at_peak.audio, as_it_is.audio * scale, rtol=1e-5, atol=1e-7)
    softer = at_peak.batch(np.arange(2), np.array([1, 1]))
    torch.testing.assert_close(softer.audio[:, 0], 0.5 * torch.from_numpy(at_peak.audio[:2].copy()))
    torch.testing.assert_close(softer.latent, small_codec.encode(softer.audio), rtol=1e-4, atol=1e-5)


def test_a_batch_is_a_function_of_seed_and_step_shared_by_processes(dataset, model, small_codec, tmp_path):
    segments = load_segments(str(dataset), "train", small_codec, model, [1.0, 0.5], tmp_path)
    rows = np.arange(12)
    whole = TrainingBatches(segments, rows, 4, seed=3, audio=False)
    again = TrainingBatches(segments, rows, 4, seed=3, audio=False)
    for step in (0, 5, 31):
        assert torch.equal(whole[step].latent, again[step].latent)
        halves = [TrainingBatches(segments, rows, 4, 3, False, rank, 2)[step].latent for rank in (0, 1)]
        assert torch.equal(torch.stack(halves, dim=1).flatten(0, 1), whole[step].latent)
        assert whole[step].audio is None
    one_pass = torch.cat([whole[step].latent for step in range(3)])
    every = torch.from_numpy(segments.latent.reshape(24, -1).copy())
    seen = [int((every == latent.flatten()).all(dim=1).nonzero()[0, 0]) // 2 for latent in one_pass]
    assert sorted(seen) == list(range(12))
    assert not torch.equal(whole[0].latent, TrainingBatches(segments, rows, 4, 4, False)[0].latent)
    with pytest.raises(UserError, match="12 segments to train on, fewer than one batch of 13"):
        TrainingBatches(segments, rows, 13, 0, False)


def test_whole_songs_are_held_out(dataset, model, small_codec, tmp_path):
    segments = load_segments(str(dataset), "train", small_codec, model, [1.0], tmp_path)
    train, held = hold_out(segments, 2, seed=0)
    assert sorted([*train, *held]) == list(range(12))
    assert len(held) == 6
    assert not set(segments.songs[train]) & set(segments.songs[held])
    with pytest.raises(UserError, match="4 songs are to be held out, but the training split has 4"):
        hold_out(segments, 4, 0)


def nan_motion(number: int, row: dict) -> dict:
    if number == 5:
        row["motion"][10][3] = float("nan")
    return row


def short_audio(number: int, row: dict) -> dict:
    from tiktok_dm.media import encode_audio

    sound = encode_audio(np.zeros(44000, np.float32), 22050, "flac")
    return row if number != 2 else {**row, "audio": {"bytes": sound, "path": "x.flac"}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (nan_motion, "motion of segment 000000_1_5_seg1 of .* holds NaN or infinite values"),
        (short_audio, "audio of segment 000000_0_2_seg1 of .* is 44000 samples"),
        (lambda n, row: {**row, "motion": [[0.0] * 70] * 60}, "is 60x70; this model takes windows of 60x75"),
        (lambda n, row: {k: v for k, v in row.items() if k != "motion"}, "have no column 'motion'"),
    ],
)
def test_bad_rows_are_named(tmp_path, model, small_codec, change, sentence):
    folder = write_segments(tmp_path / "bad", songs=2, change=change)
    with pytest.raises(UserError, match=sentence):
        load_segments(str(folder), "train", small_codec, model, [1.0], tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*")) if (tmp_path / "cache").exists() else True


def test_datasets_that_do_not_serve_are_one_sentence(tmp_path, dataset, model, small_codec):
    clips = write_segments(tmp_path / "clips", songs=2, config="clips")
    with pytest.raises(UserError, match="cannot be opened with its segments"):
        load_segments(str(clips), "train", small_codec, model, [1.0], tmp_path / "cache")
    with pytest.raises(UserError, match="no dataset at"):
        load_segments(str(tmp_path / "nowhere"), "train", small_codec, model, [1.0], tmp_path / "cache")
    with pytest.raises(UserError, match="no segments in its split test; it has train"):
        load_segments(str(dataset), "test", small_codec, model, [1.0], tmp_path / "cache")
    wants_visual = preset_config("paper", "high", latent_channels=8, width=1 / 32)
    with pytest.raises(UserError, match="no column 'visual', which this model reads"):
        load_segments(str(dataset), "train", small_codec, wants_visual, [1.0], tmp_path / "cache")
    other_level = preset_config("paper", "low", visual_features=0, latent_channels=8)
    with pytest.raises(UserError, match="codec's latent of 2 s is 8 x 344, the model's 8 x 1378"):
        load_segments(str(dataset), "train", small_codec, other_level, [1.0], tmp_path / "cache")


def test_visual_features_and_genres_are_read_where_the_model_wants_them(tmp_path, small_codec: JukeboxVQVAE):
    def change(number: int, row: dict) -> dict:
        return {**row, "visual": [float(number)] * 6, "genre": [0, 0, 1] if number % 2 else [1, 0, 0]}

    folder = write_segments(tmp_path / "set", songs=2, change=change)
    config = preset_config("paper", "high", visual_features=6, genres=3, latent_channels=8, width=1 / 32)
    segments = load_segments(str(folder), "train", small_codec, config, [1.0], tmp_path / "cache")
    batch = segments.batch(np.array([4, 3]))
    assert batch.visual is not None
    assert batch.genre is not None
    assert batch.visual.tolist() == [[[4.0] * 6], [[3.0] * 6]]
    assert batch.genre.tolist() == [0, 2]
    narrow = preset_config("paper", "high", visual_features=6, genres=2, latent_channels=8, width=1 / 32)
    with pytest.raises(UserError, match="is 2; the model knows 0 to 1"):
        load_segments(str(folder), "train", small_codec, narrow, [1.0], tmp_path / "cache")
    index = json.loads((tmp_path / "cache" / segments.key / "index.json").read_text())
    assert index["songs"] == [0, 0, 0, 1, 1, 1]


def test_torso_units_forget_size_and_place():
    row = np.asarray(segment_row(0, 0, 0.4)["motion"], np.float32)[None]
    joints = row.reshape(1, 60, 25, 3).copy()
    joints[0, 7, 4] = 0  # an unseen hand
    here = to_units(joints.reshape(1, 60, 75), "torso").reshape(60, 25, 3)
    # Neck and mid-hip stand 100 px apart, the mid-hip at (320, 220).
    assert here[0, 1].tolist() == pytest.approx([0.0, -1.0, 0.9])
    assert here[:, 8, :2] == pytest.approx(0)
    assert here[7, 4].tolist() == [0, 0, 0]
    moved = joints.copy()
    moved[..., :2] = np.where(joints[..., 2:] > 0, 2.5 * joints[..., :2] + 40, 0)
    there = to_units(moved.reshape(1, 60, 75), "torso").reshape(60, 25, 3)
    assert there == pytest.approx(here, abs=1e-5)
    assert not to_units(np.zeros((1, 60, 75), np.float32), "torso").any()

    # Movement is the same with each joint's own mean taken away, and nothing of where it is unseen.
    moves = to_units(moved.reshape(1, 60, 75), "movement").reshape(60, 25, 3)
    seen = joints[0, :, 4, 2] > 0
    assert moves[seen, 4, :2] == pytest.approx(here[seen, 4, :2] - here[seen, 4, :2].mean(axis=0), abs=1e-5)
    assert moves[:, 3, :2] == pytest.approx(here[:, 3, :2] - here[:, 3, :2].mean(axis=0), abs=1e-5)
    assert not moves[7, 4].any()
    assert not moves[..., 2].any()
    assert to_units(row, "as_given") is row


def test_a_model_divides_movement_by_its_spread(model):
    network = D2MGAN(model)
    motion = np.zeros((2, 60, 75), np.float32)
    motion[:, ::2, 3], motion[:, 1::2, 3] = 0.5, -0.5
    motion[:, :, 4] = 0.001
    network.fit_motion(motion)
    spread = network.motion_spread.clone()
    assert (spread[3], spread[4], spread[5]) == pytest.approx((0.5, 0.02, 0.02))
    with torch.no_grad():
        one = network(torch.from_numpy(motion))
        network.motion_spread.fill_(1.0)
        other = network(torch.from_numpy(motion) / spread)
    torch.testing.assert_close(one, other)
    assert "motion_spread" not in D2MGAN(dataclasses.replace(model, motion_units="torso")).state_dict()


def test_poses_between_frames_are_linear_and_keep_what_one_side_shows():
    poses = np.zeros((3, 25, 3), np.float32)
    poses[:, 0] = [[0, 0, 1], [10, 20, 0.5], [20, 40, 0.5]]
    poses[1, 1] = [5, 5, 1]
    out = at_times(poses, 10.0, np.array([0.0, 0.05, 0.125, 9.0]))
    assert out[:, 0].tolist() == [[0, 0, 1], [5, 10, 0.75], [12.5, 25, 0.5], [20, 40, 0.5]]
    assert out[:, 1].tolist() == [[0, 0, 0], [5, 5, 1], [5, 5, 1], [0, 0, 0]]


def test_motion_of_another_shape_is_one_sentence():
    assert check_motion(np.zeros((60, 75)), 60, 75, "x").shape == (1, 60, 75)
    with pytest.raises(UserError, match="motion of x is 59x75; this model takes windows of 60x75"):
        check_motion(np.zeros((2, 59, 75)), 60, 75, "x")
