"""Music for datasets of segments: AIST++'s motion and genres, and sets without clips; then scored by their ids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from d2m_model.codec.files import write_codec
from d2m_model.codec.interface import freeze
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
from d2m_model.config import ModelConfig
from d2m_model.sampling.dance import Dance, dance_from_segment, read_segments
from d2m_model.sampling.sampler import DanceToMusic
from d2m_model.sampling.windows import motion_windows, plan_windows
from tests.importers.aist_factory import write_dance, write_layout, write_music
from tiktok_dm.errors import UserError
from tiktok_dm.importers.aist.driver import AistOptions, build_aist
from tiktok_dm.importers.demo_segments import SegmentSetParams, write_demo_segments

CONFIGS = Path(__file__).parents[2] / "d2m_model" / "configs"
# 130, 120 and 110 beats a minute: dances of 3, 4 and 4 segments; test of 3 and 4.
TRAIN = ("gBR_sBM_cAll_d05_mBR5_ch03", "gHO_sBM_cAll_d19_mHO2_ch04", "gPO_sBM_cAll_d10_mPO3_ch05")
TEST = ("gLH_sBM_cAll_d17_mLH4_ch02", "gWA_sBM_cAll_d25_mWA5_ch07")
FRAMES = {TRAIN[0]: 443, TRAIN[1]: 480, TRAIN[2]: 524, TEST[0]: 480, TEST[1]: 443}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AIST++ set, a set of demo segments, and a codec."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("segments")
    write_layout(root / "ann", TRAIN, TEST)
    for seed, (name, frames) in enumerate(FRAMES.items()):
        write_dance(root / "ann", name, frames, seed)
        write_music(root / "music", name.split("_")[4], 9.0, 200.0 + 50 * seed)
    build_aist(AistOptions(root / "ann", root / "music", root / "aist"))
    write_demo_segments(
        root / "demo", SegmentSetParams(songs=3, clips=3, shortest_s=4.1, longest_s=4.3, test_share=0.4)
    )
    torch.manual_seed(1)
    codec = JukeboxVQVAE(2, JukeboxConfig(width=8, depth=2, latent_channels=8, n_codes=16))
    freeze(codec)
    (root / "codec").mkdir()
    write_codec(codec, root / "codec")
    return root


def run(*arguments: object) -> str:
    """A `d2m` command that ends well."""
    from d2m_model.cli.main import app

    result = CliRunner().invoke(app, [str(word) for word in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def train(root: Path, out: Path, config: str, dataset: str, **changes: Any) -> None:
    small = {
        **{"dataset": root / dataset, "codec": root / "codec", "cache": root / "cache", "out": out},
        **{"model.latent_channels": 8, "model.pose_axis": 80, "model.width": 0.03125, "model.visual_features": 0},
        **{"batch": 2, "steps": 1, "threads": 1, "workers": 0, "validation_songs": 1, "samples": 0},
        **{"log_every": 1, "validate_every": 1, "save_every": 1, "logger": "none", "accelerator": "cpu"},
    } | changes
    run("train", CONFIGS / f"{config}.yaml", *(f"{key}={value}" for key, value in small.items()))


def test_aist_from_training_to_scores(root: Path, tmp_path: Path) -> None:
    from tiktok_dm.cli.main import app

    train(root, tmp_path / "run", "released_aist_high", "aist")
    music = tmp_path / "music"
    run("sample", tmp_path / "run" / "last", root / "aist", "--device", "cpu", "--no-video", "--out", music)
    records = json.loads((music / "samples.json").read_text())["samples"]
    names = [f"{name.replace('cAll', 'c01')}_seg{k + 1}" for name, count in zip(TEST, (4, 3), strict=True)
             for k in range(count)]  # fmt: skip
    assert [record["name"] for record in records] == sorted(names)
    # The released preset has the authors' 344 frames of 128 samples for 2 s.
    assert {(record["seconds"], record["windows"]) for record in records} == {(round(344 * 128 / 22050, 6), 1)}
    assert sorted(path.stem for path in music.glob("*.wav")) == sorted(names)
    words = ["evaluate", "--reference", root / "aist", "--generated", music, "--embedder", "none", "--json"]
    scored = CliRunner().invoke(app, [*map(str, words), "--resamples", "100", "--workers", "1"])
    assert scored.exit_code == 0, (scored.output, scored.exception)
    told = json.loads(scored.stdout)
    assert told["counts"]["clips"] == 7
    assert told["counts"]["songs"] == 2
    assert "beat_coverage_d2m" in told["metrics"]
    assert not [name for name in told["metrics"] if name.startswith("beat_align")], "no poses in the picture"


def test_each_segment_is_its_own_motion_and_genre(root: Path) -> None:
    """What the network is given, to the last bit: the stored motion, and the genre of its row."""
    rows = list(read_segments(root / "aist", "train"))
    dances = [dance_from_segment(row) for row in rows]
    assert [dance.genre for dance in dances] == [0] * 3 + [5] * 4 + [1] * 4
    assert {(dance.fps, dance.duration_s, dance.poses.shape) for dance in dances} == {(60.0, 2.0, (120, 219))}
    config = ModelConfig("released", "high", 120, 219, visual_features=0, genres=10)
    plan = plan_windows(2.0, 344, 128, 22_050)
    for row, dance in zip(rows, dances, strict=True):
        seen = motion_windows(dance.poses, dance.fps, plan, config, dance.name)
        np.testing.assert_array_equal(seen[0], np.asarray(row["motion"], np.float32))
    with pytest.raises(UserError, match="Unknown split 'tests'"):
        next(read_segments(root / "aist", "tests"))


class Listening(torch.nn.Module):
    """A model that keeps what it is given and answers zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.config = ModelConfig("released", "high", 120, 219, visual_features=3, genres=10, latent_channels=8)
        self.heard: list[list[Any]] = []

    def __deepcopy__(self, memo: dict) -> Listening:
        return self

    def forward(self, motion: torch.Tensor, visual: torch.Tensor, genre: torch.Tensor) -> torch.Tensor:
        self.heard.append([motion.numpy(), visual.numpy(), genre.tolist()])
        return torch.zeros(len(motion), 8, 344)


def test_genres_and_features_go_with_their_windows(root: Path) -> None:
    codec = JukeboxVQVAE(2, JukeboxConfig(width=8, depth=2, latent_channels=8, n_codes=16))
    model = Listening()
    rng = np.random.default_rng(0)
    # 2 s, and 4 s in three windows that overlap; every row tells its dance and its frame.
    short, long = (np.full((frames, 219), 1_000 * k, np.float32) + np.arange(frames)[:, None]
                   for k, frames in ((1, 120), (2, 240)))  # fmt: skip
    dances = [
        Dance("short", short.astype(np.float32), 2.0, 60, visual=rng.normal(size=(1, 3)).astype(np.float32), genre=7),
        Dance("long", long.astype(np.float32), 4.0, 60, visual=rng.normal(size=(2, 3)).astype(np.float32), genre=2),
    ]
    made = DanceToMusic(model, codec, "cpu").many(dances)
    assert [len(music.audio) for music in made] == [44_032, 88_200]  # released: one window is the authors' 344 frames
    ((motion, visual, genre),) = model.heard
    assert genre == [7, 2, 2, 2]
    np.testing.assert_array_equal(motion[0], short)
    frames = np.round(made[1].plan.starts_s[:, None] * 60 + np.arange(120))
    np.testing.assert_array_equal(motion[1:, :, 0], 2_000 + np.minimum(frames, 239))
    np.testing.assert_allclose(visual[0, 0], dances[0].visual[0], rtol=1e-6)
    model.heard.clear()
    DanceToMusic(model, codec, "cpu").many(dances, genre=4)
    assert model.heard[0][2] == [4, 4, 4, 4]
    with pytest.raises(UserError, match="trained with genres; give one of 0 to 9"):
        DanceToMusic(model, codec, "cpu").many([Dance("x", short, 2.0, 60, visual=dances[0].visual)])
    with pytest.raises(UserError, match="This model takes 219 numbers a pose, and those of y are 75"):
        DanceToMusic(model, codec, "cpu").prepare(Dance("y", short[:, :75], 2.0, 60))


def test_a_set_without_clips_is_sampled_by_its_segments(root: Path, tmp_path: Path) -> None:
    """As the authors' archives are: BODY_25, and nothing but segments."""
    train(root, tmp_path / "run", "released_tiktok_high", "demo")
    run(
        "sample", tmp_path / "run" / "last", root / "demo", "--device", "cpu", "--split", "all", "--out", tmp_path / "m"
    )
    names = {row["segment_id"] for row in read_segments(root / "demo", "all")}
    assert len(names) == 6
    assert {path.stem for path in (tmp_path / "m").glob("*.wav")} == names
