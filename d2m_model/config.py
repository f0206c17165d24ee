"""What a D2M-GAN is made of, as plain data: preset, level, input sizes. Not for training or sampling options.

Two presets, named apart everywhere because they are two models: `paper` (the appendix's Tables 1-5) and `released`
(the layers of the authors' released code). Each has two levels, named after the code-book they predict: `high` (hop
128, 344 latent frames per 2 s) and `low` (hop 32, 1378 frames), at 22,050 Hz.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tiktok_dm.errors import UserError
from tiktok_dm.schema import nearest_name

T = TypeVar("T")

SAMPLE_RATE = 22050
SEGMENT_SAMPLES = 44100
"""Samples of the 2-s segment that the model is trained on."""

PRESETS = ("paper", "released")
UNITS = ("as_given", "torso", "movement")


@dataclass(frozen=True)
class Level:
    """One level of the codec as the model uses it.

    Args:
        codec_level: index in JukeBox's VQ-VAE (0 bottom, 1 middle, 2 top).
        hop: samples per latent frame.
        frames: latent frames of one 2-s segment (44,100 samples through stride-2 convolutions, rounded down each).
    """

    codec_level: int
    hop: int
    frames: int


LEVELS = {"high": Level(codec_level=2, hop=128, frames=344), "low": Level(codec_level=1, hop=32, frames=1378)}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one motion encoder, generator and discriminator.

    Args:
        preset: `paper` or `released`.
        level: `high` or `low`.
        motion_frames: pose frames of one 2-s window (60 for TikTok, 120 for AIST++); 0 for a model without motion.
        motion_features: numbers per pose frame (75 for TikTok, 219 for AIST++); 0 for a model without motion.
        visual_features: length of the visual vector of one window (2048 for I3D); 0 for a motion-only model, which
            then has no input columns for it.
        genres: number of genres whose embedding is appended to the fused vector; 0 for none.
        latent_channels: width of a code-book row.
        latent_frames: latent frames of one window; 0 means the level's own number.
        pose_axis: length to which the pose features are projected; the motion encoder convolves along it.
        motion_embedding: length of the motion vector.
        genre_embedding: length of one genre's vector.
        motion_units: what the poses are turned into, see `motion.to_units`; where it is left empty, `movement` for
            BODY_25 poses in the `paper` preset and `as_given` otherwise (the authors' code takes pixels as they are).
        output_scale: the generator's output is this many times its last layer's.
        width: factor on the channels of every hidden layer, for small models; 1 is the published size.

    Raises:
        UserError: a value that no network can be made of.
    """

    preset: str = "paper"
    level: str = "high"
    motion_frames: int = 60
    motion_features: int = 75
    visual_features: int = 2048
    genres: int = 0
    latent_channels: int = 64
    latent_frames: int = 0
    pose_axis: int = 800
    motion_embedding: int = 1024
    genre_embedding: int = 256
    motion_units: str = ""
    output_scale: float = 100.0
    width: float = 1.0

    def __post_init__(self) -> None:
        one_of("preset", self.preset, PRESETS)
        one_of("level", self.level, LEVELS)
        for name in ("motion_frames", "motion_features", "visual_features", "genres", "latent_frames"):
            if getattr(self, name) < 0:
                raise UserError(f"The model's {name} is {getattr(self, name)}; give 0 or more.")
        for name in ("latent_channels", "pose_axis", "motion_embedding", "genre_embedding", "output_scale", "width"):
            if not getattr(self, name) > 0:
                raise UserError(f"The model's {name} is {getattr(self, name)}; give a number above 0.")
        if (self.motion_frames == 0) != (self.motion_features == 0):
            raise UserError("A model without motion has both motion_frames and motion_features 0; one of them is not.")
        if not self.motion_frames and not self.visual_features:
            raise UserError("The model has neither motion nor visual input; give it at least one.")
        if not self.motion_units or not self.motion_features:
            body_25 = self.preset == "paper" and self.motion_features == 75
            object.__setattr__(self, "motion_units", "movement" if body_25 else "as_given")
        one_of("motion_units", self.motion_units, UNITS)
        if self.motion_units != "as_given" and self.motion_features != 75:
            raise UserError(
                f"motion_units {self.motion_units} is for BODY_25 poses of 75 numbers; use motion_units as_given."
            )
        if not self.latent_frames:
            object.__setattr__(self, "latent_frames", LEVELS[self.level].frames)
        if self.preset == "released" and self.level == "high" and self.latent_frames != LEVELS["high"].frames:
            raise UserError("The released high-level generator makes 344 frames only; use the paper preset for others.")

    @property
    def fused_features(self) -> int:
        """Length of the vector that the generator's first projection takes."""
        motion = self.motion_embedding if self.motion_frames else 0
        return motion + self.visual_features + (self.genre_embedding if self.genres else 0)


# Sizes of the two data sets that the authors' code reads.
DATASETS: dict[str, dict[str, int]] = {
    "tiktok": {"motion_frames": 60, "motion_features": 75, "visual_features": 2048, "genres": 0},
    "aist": {"motion_frames": 120, "motion_features": 219, "visual_features": 2048, "genres": 10},
}


def preset_config(preset: str, level: str, dataset: str = "tiktok", **changes: Any) -> ModelConfig:
    """The configuration of a preset and level for a data set (`tiktok` or `aist`), with `changes` on top."""
    one_of("dataset", dataset, DATASETS)
    return from_mapping(ModelConfig, {"preset": preset, "level": level, **DATASETS[dataset], **changes}, "the model")


def one_of(name: str, value: object, known: Iterable[str]) -> None:
    """Raise `UserError`, naming the nearest known word, unless `value` is one of `known`."""
    words = list(known)
    if value not in words:
        near = nearest_name(str(value), words)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise UserError(f"Unknown {name} {value!r}{hint}; choose one of {', '.join(words)}.")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """A configuration dataclass from a mapping, as read from YAML.

    Args:
        kind: a dataclass whose fields are numbers, words and truth values.
        values: field name to value.
        where: what the mapping configures or the file it came from, for messages.

    Raises:
        UserError: an unknown key (the nearest known one is named) or a value of another type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    kept: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            near = nearest_name(str(key), list(fields))
            hint = f"; did you mean {near!r}?" if near else f"; known are {', '.join(fields)}."
            raise UserError(f"Unknown key {key!r} in the configuration of {where}{hint}")
        wanted = type(fields[key].default)
        if wanted is float and isinstance(value, int | str) and not isinstance(value, bool):
            with contextlib.suppress(ValueError):  # also a word: YAML 1.1 takes 1e-4 for one
                value = float(value)
        if fields[key].default is not dataclasses.MISSING and type(value) is not wanted:
            raise UserError(
                f"Key {key!r} in the configuration of {where} is {value!r}; it must be of type {wanted.__name__}."
            )
        kept[key] = value
    return kind(**kept)


def read_model_config(path: Path) -> ModelConfig:
    """The model's configuration from a YAML file (its `model` section where it has one)."""
    from d2m_model.configs import read_yaml

    values = read_yaml(path)
    model = values.get("model")
    return from_mapping(ModelConfig, model if isinstance(model, Mapping) else values, str(path))
