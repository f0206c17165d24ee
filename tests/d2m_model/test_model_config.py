from __future__ import annotations

from pathlib import Path

import pytest

from d2m_model.config import LEVELS, ModelConfig, preset_config, read_model_config
from tiktok_dm.errors import UserError


def test_levels_are_those_of_the_appendix():
    assert (LEVELS["high"].hop, LEVELS["high"].frames) == (128, 344)
    assert (LEVELS["low"].hop, LEVELS["low"].frames) == (32, 1378)


def test_fused_features_hold_only_what_the_model_has():
    assert preset_config("paper", "high").fused_features == 1024 + 2048
    assert preset_config("paper", "high", visual_features=0).fused_features == 1024
    assert preset_config("released", "low", "aist").fused_features == 1024 + 2048 + 256
    assert preset_config("paper", "high", motion_frames=0, motion_features=0).fused_features == 2048


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"motion_frame": 60}, "did you mean 'motion_frames'"),
        ({"motion_frames": "60"}, "must be of type int"),
        ({"width": 0.0}, "width is 0.0"),
        ({"motion_frames": 0}, "both motion_frames and motion_features"),
        ({"motion_frames": 0, "motion_features": 0, "visual_features": 0}, "neither motion nor visual"),
        ({"visual_features": -1}, "visual_features is -1"),
    ],
)
def test_a_configuration_that_cannot_be_is_one_sentence(changes, words):
    with pytest.raises(UserError, match=words):
        preset_config("paper", "high", **changes)


def test_unknown_words_name_the_nearest():
    with pytest.raises(UserError, match="did you mean 'released'"):
        preset_config("relased", "high")
    with pytest.raises(UserError, match="did you mean 'low'"):
        preset_config("paper", "loww")


def test_released_high_makes_344_frames_only():
    with pytest.raises(UserError, match="344 frames only"):
        preset_config("released", "high", latent_frames=100)


def test_configuration_is_read_from_the_models_section_or_the_whole_file(tmp_path: Path):
    nested, flat = tmp_path / "nested.yaml", tmp_path / "flat.yaml"
    nested.write_text("model:\n  preset: released\n  level: low\n  width: 1\nother: 3\n")
    flat.write_text("preset: released\nlevel: low\n")
    expected = ModelConfig(preset="released", level="low")
    assert read_model_config(nested) == expected == read_model_config(flat)
    assert expected.latent_frames == 1378


@pytest.mark.parametrize(
    ("text", "words"),
    [("preset: [", "not valid YAML"), ("", "holds no keys"), ("presett: paper", "did you mean 'preset'")],
)
def test_a_broken_configuration_file_is_one_sentence(tmp_path: Path, text: str, words: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        read_model_config(path)
    assert "\n" not in str(caught.value)
