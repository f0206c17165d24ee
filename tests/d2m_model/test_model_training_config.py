"""Training configurations: the files in configs/, settings on top, and what a user may get wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from d2m_model.config import preset_config
from d2m_model.training.config import (
    TrainingConfig,
    difference,
    plain_config,
    read_training_config,
    shared_otherwise,
    training_config,
)
from d2m_model.training.losses import WEIGHTS
from tiktok_dm.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "d2m_model" / "configs"
EXPERIMENTS = sorted(path for path in CONFIGS.rglob("*.yaml") if "codec" not in path.relative_to(CONFIGS).parts)


def named(name: str) -> TrainingConfig:
    return read_training_config(CONFIGS / f"{name}.yaml")


def test_the_experiments_that_the_readme_promises_are_there():
    names = {path.stem for path in EXPERIMENTS}
    presets = {f"released_{data}_{level}" for data in ("tiktok", "aist") for level in ("high", "low")}
    assert {"paper_high", "paper_low", "demo", *presets} <= names
    for data in ("tiktok", "aist"):
        for level in ("high", "low"):
            assert named(f"released_{data}_{level}").model == preset_config("released", level, data)
    for level in ("high", "low"):
        assert named(f"paper_{level}").model == preset_config("paper", level)
        assert named(f"paper_{level}").losses == WEIGHTS


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_line_is_explained_and_every_key_is_known(path: Path):
    config = read_training_config(path)
    assert config.out.startswith("runs/")
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    assert head.startswith("# ")
    block = False  # whether the line above carried an explanation that this one continues
    for line in lines:
        explained = "#" in line or line.endswith(":") or line.startswith("out:")
        assert explained or block or not line.strip(), line
        block = bool(line.strip()) and (explained or block)


def test_an_ablation_differs_from_its_base_in_what_it_says():
    base, no_audio = named("paper_high"), named("ablations/no_audio")
    assert no_audio.losses == {**base.losses, "waveform": 0.0, "mel": 0.0}
    assert {k for k, v in plain_config(no_audio).items() if v != plain_config(base)[k]} == {"losses", "out"}
    assert named("ablations/motion_only").model == preset_config("paper", "high", visual_features=0)
    visual = named("ablations/visual_only").model
    assert (visual.motion_features, visual.fused_features) == (0, 2048)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: d\ncodec: c\nmodel:\n  visual_features: 0\n")
    return path


def test_settings_on_top_are_typed(file):
    config = read_training_config(
        file, ["steps=7", "learning_rate=1e-3", "losses.mel=0", "model.width=0.5", "gains=[1, 0.5]", "compile=true"]
    )
    assert (config.steps, config.learning_rate, config.compile, config.gains) == (7, 0.001, True, [1.0, 0.5])
    assert config.losses == {**WEIGHTS, "mel": 0.0}
    assert config.model == preset_config("paper", "high", visual_features=0, width=0.5)
    assert config.out == "runs/mine"


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("lerning_rate=1", "Unknown key 'lerning_rate' in the configuration of .*; did you mean 'learning_rate'"),
        ("model.levle=high", "Unknown key 'levle' in the configuration of the model in .*; did you mean 'level'"),
        ("losses.waveforms=1", "Unknown loss 'waveforms' .did you mean 'waveform'"),
        ("losses.mel=loud", "weight of the loss 'mel' in .* is 'loud'; give a number"),
        ("losses.mel=-1", "weight of the loss 'mel' is -1.0; give 0 or more"),
        ("steps=many", "Key 'steps' .* is 'many'; it must be of type int"),
        ("steps=0", "steps is 0; give 1 or more"),
        ("steps", "'steps' is no setting; write key=value"),
        ("precision=16", "Key 'precision' .* must be of type str"),
        ("precision=fp16", "Unknown precision 'fp16'"),
        ("schedule=cosin", "Unknown schedule 'cosin' .did you mean 'cosine'"),
        ("gains=[0]", "gains are .0.0.; give a list of numbers above 0"),
        ("gains=0.5", "'gains' .* must be a list"),
        ("model=3", "'model' in the configuration of .* must be a section"),
        ("devices=3", "batch of 16 cannot be shared equally by 3 devices"),
        ("accumulate=3", "batch of 16 cannot be shared equally by 1 devices in 3 parts each"),
        ("cuda_graphs=true", "cuda_graphs needs compiled networks: add compile=true"),
        ("dataset=", "must be of type str"),
        ("ema=1.0", "ema is 1.0; give a number from 0 to below 1"),
    ],
)
def test_a_mistake_is_one_sentence(file, setting, sentence):
    with pytest.raises(UserError, match=sentence):
        read_training_config(file, [setting])


def test_files_that_are_none_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"There is no configuration .*no\.yaml', neither a file nor a shipped one"):
        read_training_config(tmp_path / "no.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(UserError, match="holds no keys"):
        read_training_config(tmp_path / "list.yaml")
    (tmp_path / "empty.yaml").write_text("steps: 3")
    with pytest.raises(UserError, match="has no dataset: write it into the configuration or add dataset=PATH"):
        read_training_config(tmp_path / "empty.yaml")


def test_what_may_change_between_a_run_and_its_continuation(file):
    one = read_training_config(file)
    old = yaml.safe_load(yaml.safe_dump(plain_config(one)))
    assert difference(old, read_training_config(file, ["steps=9", "log_every=1", "workers=3"])) is None
    assert difference(old, read_training_config(file, ["batch=8"])) == "batch is 8, was 16"
    cosine = read_training_config(file, ["schedule=cosine"])
    longer = read_training_config(file, ["schedule=cosine", "steps=9"])
    assert difference(plain_config(cosine), longer) == "steps is 9, was 100000"
    # A run that has made all its steps may be given more, whatever the schedule; another machine shares a step
    # otherwise; and what an older run knows nothing of had its default.
    assert difference(plain_config(cosine), longer, finished=True) is None
    elsewhere = read_training_config(file, ["devices=2", "threads=3", "accumulate=4"])
    assert difference(old, elsewhere) is None
    assert shared_otherwise(old, elsewhere) == "devices is 2, was 1, threads is 3, was 0, accumulate is 4, was 1"
    older = {key: value for key, value in old.items() if key not in ("init", "accumulate", "cuda_graphs")}
    assert difference(older, one) is None
    assert shared_otherwise(older, one) == ""
    assert difference(older, read_training_config(file, ["init=a"])) == "init is 'a', was ''"
    younger = {**old, "model": {key: value for key, value in old["model"].items() if key != "genre_embedding"}}
    assert difference(younger, one) is None
    assert difference(younger, read_training_config(file, ["model.width=0.5"])) == "model.width is 0.5, was 1.0"
    other_genres = read_training_config(file, ["model.genre_embedding=3"])
    assert difference(younger, other_genres) == "model.genre_embedding is 3, was 256"
    assert difference(old, read_training_config(file, ["losses.mel=1"])) == "losses.mel is 1.0, was 15.0"
    fewer = {**old, "losses": {"mel": 15.0, "latent": 5.0}}
    assert difference(fewer, training_config({**old, "losses": {"mel": 15.0}}, "x")) is not None
