"""What one training of a codec is told, from a flat YAML file with `key=value` on top. Not for what it computes."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2m_model.codec.jukebox import JukeboxConfig
from d2m_model.config import LEVELS, from_mapping, one_of
from d2m_model.configs import CODEC, find, read_yaml
from d2m_model.training.config import SCHEDULES, first_difference, overridden
from tiktok_dm.errors import UserError

PRECISIONS = ("32-true", "bf16-mixed")
WAVEFORMS = ("l1", "l2")
ACCELERATORS = ("auto", "cpu", "cuda", "mps")
LOGGERS = ("tensorboard", "none")

# What may differ between a run and its continuation: nothing that a step's numbers depend on but by rounding. The audio
# is held to its fingerprint instead, since a folder may move.
MAY_CHANGE = frozenset(
    {"audio", "out", "accelerator", "threads", "logger", "log_every", "validate_every", "save_every"}
)

_PUBLIC_SIZES = JukeboxConfig()


@dataclass(frozen=True)
class CodecTrainingConfig:
    """Training of one level of a codec.

    Args:
        audio: a folder of sound files (and its sub-folders), or a built dataset, of which the training segments serve.
        out: the run's folder.
        level: `high` (the codec's level 2) or `low` (level 1).
        init: a codec folder or public checkpoint to go on from; empty to start from nothing. Its sizes count then.
        codec: sizes; with `init`, left at the public checkpoint's or equal to what is given there.
        crop_frames: latent frames of a training crop.
        batch: crops per step.
        steps: updates.
        quietest_gain: crops are multiplied by a random factor from this to 1; 1 for none.
        learning_rate: AdamW's, at its highest.
        schedule: `constant`, or `cosine` down to zero at `steps`.
        warmup: steps over which the learning rate rises linearly.
        beta1, beta2, weight_decay: AdamW's.
        clip: greatest norm of the gradient; 0 for no limit.
        waveform: `l1` (mean absolute difference) or `l2` (mean squared difference).
        waveform_weight, spectral_weight, commitment_weight, guide_weight: of the four losses.
        guided_channels: first channels of the latent that are to tell how loud as many mel bands are, see `guide`; 0
            for none.
        guide_scale: size of the guided channels beside the others, see `guide`.
        ffts: FFT sizes of the spectral loss, samples.
        ema: decay of the code-book's moving averages.
        dead_below: a code used less than this part of the even share is restarted; 0 for never.
        quantise_from: step at which the code-book starts from the encoder's output; before it, the latent goes to the
            decoder as it is. Without meaning with `init`.
        validation_share: part of the audio that is held out, by songs of a dataset and by files of a folder.
        validation_batches: batches of fixed crops from it at each validation.
        log_every, validate_every, save_every: steps between losses, validations and checkpoints.
        precision: `32-true` or `bf16-mixed`.
        accelerator: `auto`, `cpu`, `cuda` or `mps`.
        threads: of PyTorch on a CPU; 0 leaves its own choice.
        seed: of initialisation, crops and what is held out.
        logger: `tensorboard` or `none`; `losses.csv` is always written.

    Raises:
        UserError: values that make no training.
    """

    audio: str = ""
    out: str = ""
    level: str = "high"
    init: str = ""
    codec: JukeboxConfig = _PUBLIC_SIZES
    crop_frames: int = 64
    batch: int = 8
    steps: int = 100_000
    quietest_gain: float = 1.0
    learning_rate: float = 3e-4
    schedule: str = "constant"
    warmup: int = 100
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    clip: float = 1.0
    waveform: str = "l1"
    waveform_weight: float = 1.0
    spectral_weight: float = 1.0
    commitment_weight: float = 0.02
    guide_weight: float = 1.0
    guided_channels: int = 0
    guide_scale: float = 1.0
    ffts: tuple[int, ...] = (2048, 1024, 512)
    ema: float = 0.99
    dead_below: float = 0.1
    quantise_from: int = 0
    validation_share: float = 0.1
    validation_batches: int = 4
    log_every: int = 50
    validate_every: int = 500
    save_every: int = 500
    precision: str = "32-true"
    accelerator: str = "auto"
    threads: int = 0
    seed: int = 0
    logger: str = "tensorboard"

    def __post_init__(self) -> None:
        def number(name: str, ok: bool, wanted: str) -> None:
            if not ok:
                raise UserError(f"The codec training's {name} is {getattr(self, name)}; give {wanted}.")

        for name in ("audio", "out"):
            if not getattr(self, name):
                raise UserError(
                    f"The codec training has no {name}: write it into the configuration or add {name}=PATH."
                )
        for name in (
            "crop_frames",
            "batch",
            "steps",
            "validation_batches",
            "log_every",
            "validate_every",
            "save_every",
        ):
            number(name, getattr(self, name) >= 1, "1 or more")
        for name in ("warmup", "quantise_from", "threads", "seed"):
            number(name, getattr(self, name) >= 0, "0 or more")
        for name in ("beta1", "beta2", "ema", "validation_share", "dead_below"):
            number(name, 0 <= getattr(self, name) < 1, "a number from 0 to below 1")
        for name in ("waveform_weight", "spectral_weight", "commitment_weight", "guide_weight", "weight_decay", "clip"):
            number(name, getattr(self, name) >= 0, "0 or more")
        number("guide_scale", self.guide_scale > 0, "a number above 0")
        number("learning_rate", self.learning_rate > 0, "a number above 0")
        number("quietest_gain", 0 < self.quietest_gain <= 1, "a number above 0 and up to 1")
        number("ffts", all(isinstance(n, int) and n >= 16 for n in self.ffts), "a list of FFT sizes of at least 16")
        number("quantise_from", self.quantise_from < self.steps, "a number below steps")
        most = self.codec.latent_channels
        number("guided_channels", 0 <= self.guided_channels <= most, f"0 to latent_channels ({most})")
        one_of("level", self.level, LEVELS)
        one_of("waveform", self.waveform, WAVEFORMS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("accelerator", self.accelerator, ACCELERATORS)
        one_of("logger", self.logger, LOGGERS)
        if not self.waveform_weight and not (self.spectral_weight and self.ffts):
            raise UserError(
                "Neither the waveform nor the spectral loss has a weight; give one of them a weight above 0."
            )


def read_codec_training_config(config: str | Path, overrides: Iterable[str] = ()) -> CodecTrainingConfig:
    """The configuration of that name or file, with `key=value` (or `codec.key=value`) on top, values written as YAML.

    `out` is `runs/<name>` where it is not given.

    Raises:
        UserError: a file that cannot be read, an unknown key (the nearest is named), or a value of another type.
    """
    path = find(config, CODEC)
    values: dict[str, Any] = read_yaml(path)
    for override in overrides:
        values = overridden(values, override)
    values.setdefault("out", f"runs/{path.stem}")
    return codec_training_config(values, str(path))


def codec_training_config(values: Mapping[str, Any], where: str) -> CodecTrainingConfig:
    """A configuration from plain values, as read from YAML; `where` they came from is said in messages."""
    values = {str(key): tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    sizes = values.pop("codec", {})
    if not isinstance(sizes, Mapping):
        raise UserError(f"Key 'codec' in the configuration of {where} must be a section of keys.")
    sizes = {str(key): tuple(value) if isinstance(value, list) else value for key, value in sizes.items()}
    config = from_mapping(JukeboxConfig, sizes, f"the codec in {where}")
    _check_sizes(config, str(values.get("level", "high")))
    for field in dataclasses.fields(CodecTrainingConfig):
        # YAML 1.1 takes 1e-4 for a word.
        if isinstance(field.default, float) and isinstance(values.get(field.name), str):
            with contextlib.suppress(ValueError):
                values[field.name] = float(values[field.name])
    return from_mapping(CodecTrainingConfig, {**values, "codec": config}, where)


def _check_sizes(config: JukeboxConfig, level: str) -> None:
    """Sizes that no codec of a level that the model knows can be made of are refused here, in words."""
    one_of("level", level, LEVELS)
    for name in ("width", "depth", "latent_channels", "n_codes", "dilation_growth"):
        if getattr(config, name) < 1:
            raise UserError(f"The codec's {name} is {getattr(config, name)}; give 1 or more.")
    for name in ("multipliers", "downs"):
        entries = getattr(config, name)
        if len(entries) < 3 or not all(type(n) is int and n >= 1 for n in entries):
            raise UserError(f"The codec's {name} are {list(entries)}; give three whole numbers of at least 1.")
    wanted = LEVELS[level]
    hop = 2 ** sum(config.downs[: wanted.codec_level + 1])
    if hop != wanted.hop:
        raise UserError(f"These downs make a hop of {hop}; level {level} has a hop of {wanted.hop}.")
    if config.sample_rate != 22050:
        raise UserError(f"The codec's sample_rate is {config.sample_rate}; the project's audio has 22050 Hz.")


def plain_config(config: CodecTrainingConfig) -> dict[str, Any]:
    """The configuration as YAML and JSON take it."""
    return {
        name: _plain(value) if isinstance(value, dict) else value
        for name, value in _plain(dataclasses.asdict(config)).items()
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def difference(old: Mapping[str, Any], new: CodecTrainingConfig, finished: bool = False) -> str | None:
    """The first setting in which a run's configuration and its continuation differ and may not; None if none.

    More steps are no other run where the learning rate does not depend on their number, or where the run is finished.
    """
    may = MAY_CHANGE | ({"steps"} if finished or new.schedule == "constant" else set())
    defaults = {field.name: field.default for field in dataclasses.fields(CodecTrainingConfig)}
    return first_difference(old, plain_config(new), may, defaults)
