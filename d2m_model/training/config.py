"""What one training run is told, read from a flat YAML file with `key=value` on top; its learning rate over time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2m_model.config import ModelConfig, from_mapping, one_of
from d2m_model.configs import find, read_yaml
from d2m_model.training.losses import WEIGHTS, check_weights
from tiktok_dm.errors import UserError

PRECISIONS = ("32-true", "tf32", "bf16-mixed")
SCHEDULES = ("constant", "cosine")
LOGGERS = ("tensorboard", "wandb", "none")

# How a step is shared out: its gradients are the same up to rounding, whatever these are.
SHARING = ("devices", "nodes", "threads", "accumulate")

# What may differ between a run and its continuation: nothing that a training step's numbers depend on but by rounding.
MAY_CHANGE = frozenset(
    {
        *SHARING,
        *("log_every", "validate_every", "save_every", "samples", "workers", "logger", "accelerator", "cache", "out"),
        *("dataset", "codec"),  # held to their fingerprints instead: a folder may move
    }
)


@dataclass(frozen=True)
class TrainingConfig:
    """One experiment.

    Args:
        dataset: folder (or hub id) of a built dataset with the `segments` configuration.
        codec: codec folder, or JukeBox's `vqvae.pth.tar`.
        out: the run's folder.
        init: a model folder (of a run, or of `d2m convert`) or a hub id, whose weights training starts from; fresh ones
            if empty. The discriminator starts anew.
        cache: folder for cached latents and codes; the user's cache folder if empty.
        model: sizes, preset and level.
        losses: loss name to weight; a name that is left out weighs nothing.
        peak: each segment's audio is scaled to this greatest absolute value first (silence stays); 0 leaves it.
        gains: factors on the audio after that. One of them is drawn per segment and pass over the data, and the cache
            holds the latents of each; `[1.0]` means no random gain.
        batch: segments per step, over all devices together.
        accumulate: parts that each device's share of the batch goes through the networks in, one after the other: less
            memory, the same gradients up to rounding, and one more pass through the generator.
        decoded_frames: latent frames, at a place drawn for each step, that are decoded for the waveform and mel terms,
            which cuts their cost; 0 decodes all.
        steps: updates of the generator.
        learning_rate, discriminator_learning_rate, beta1, beta2: Adam's, for generator side and discriminator.
        clip: greatest norm of the generator's gradient; 0 for no limit.
        schedule: `constant`, or `cosine` down to zero at `steps`.
        warmup: steps over which the learning rates rise linearly.
        adversarial_from: first step (from 0) in which the discriminator takes part.
        ema: decay of the generator's moving average, which is what is validated, sampled and published; 0 for none.
        precision: `32-true`; `tf32`, which lets an NVIDIA GPU round the factors of its products to 11 bits; or
            `bf16-mixed`.
        accelerator, devices, nodes: where to run, as Lightning Fabric takes them; several devices train one batch
            together (DDP).
        compile: whether the networks go through `torch.compile`; it pays on a GPU only.
        cuda_graphs: whether the compiled networks are replayed as CUDA graphs, which pays where a GPU computes a step
            faster than the processor can launch its kernels (small batches); needs `compile` and a GPU.
        fused: whether Adam's update is one fused kernel.
        threads: of PyTorch on a CPU; 0 leaves its own choice.
        workers: processes that read batches; 0 reads in the main one.
        seed: of initialisation, order and gains.
        validation_songs: songs of the training split that are held out; unused where there is a validation split.
        log_every, validate_every, save_every: steps between losses, validations and checkpoints.
        samples: segments of the validation rendered to sound and picture at each validation.
        logger: `tensorboard`, `wandb` or `none`; `losses.csv` is always written.

    Raises:
        UserError: values that make no training.
    """

    dataset: str = ""
    codec: str = ""
    out: str = ""
    init: str = ""
    cache: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    peak: float = 0.0
    gains: list[float] = field(default_factory=lambda: [1.0])
    batch: int = 16
    accumulate: int = 1
    decoded_frames: int = 0
    steps: int = 100_000
    learning_rate: float = 1e-4
    discriminator_learning_rate: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.9
    clip: float = 0.0
    schedule: str = "constant"
    warmup: int = 0
    adversarial_from: int = 0
    ema: float = 0.999
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    compile: bool = False
    cuda_graphs: bool = False
    fused: bool = False
    threads: int = 0
    workers: int = 0
    seed: int = 0
    validation_songs: int = 4
    log_every: int = 50
    validate_every: int = 1000
    save_every: int = 1000
    samples: int = 4
    logger: str = "tensorboard"

    def __post_init__(self) -> None:
        for name in ("dataset", "codec", "out"):
            if not getattr(self, name):
                raise UserError(f"The training has no {name}: write it into the configuration or add {name}=PATH.")
        for name in ("batch", "accumulate", "steps", "devices", "nodes", "log_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise UserError(f"The training's {name} is {getattr(self, name)}; give 1 or more.")
        counts = ("decoded_frames", "warmup", "adversarial_from", "threads", "workers", "validation_songs", "samples")
        for name in (*counts, "clip"):
            if getattr(self, name) < 0:
                raise UserError(f"The training's {name} is {getattr(self, name)}; give 0 or more.")
        for name in ("ema", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"The training's {name} is {getattr(self, name)}; give a number from 0 to below 1.")
        if not 0 <= self.peak <= 1:
            raise UserError(f"The training's peak is {self.peak}; give a number from 0 (as it is) to 1.")
        for name in ("learning_rate", "discriminator_learning_rate"):
            if not getattr(self, name) > 0:
                raise UserError(f"The training's {name} is {getattr(self, name)}; give a number above 0.")
        one_of("precision", self.precision, PRECISIONS)
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("logger", self.logger, LOGGERS)
        if not self.gains or not all(isinstance(gain, float | int) and 0 < gain <= 1 for gain in self.gains):
            raise UserError(f"The training's gains are {self.gains}; give a list of numbers above 0 and up to 1.")
        check_weights(self.losses)
        if not any(self.losses.values()):
            raise UserError("Every loss has weight 0; give at least one a weight.")
        if self.decoded_frames > self.model.latent_frames:
            raise UserError(
                f"decoded_frames is {self.decoded_frames}, and the model's latent has {self.model.latent_frames}."
            )
        devices = self.devices * self.nodes
        if self.batch % (devices * self.accumulate):
            parts = f" in {self.accumulate} parts each" if self.accumulate > 1 else ""
            raise UserError(f"A batch of {self.batch} cannot be shared equally by {devices} devices{parts}.")
        if self.cuda_graphs and not self.compile:
            raise UserError("cuda_graphs needs compiled networks: add compile=true, or set cuda_graphs=false.")


def read_training_config(config: str | Path, overrides: Iterable[str] = ()) -> TrainingConfig:
    """The configuration of that name or file, with `key=value` (or `section.key=value`) on top, values written as YAML.

    `out` is `runs/<name>` where it is not given.

    Raises:
        UserError: a file that cannot be read, an unknown key (the nearest is named), or a value of another type.
    """
    path = find(config)
    values = {"losses": dict(WEIGHTS), **read_yaml(path)}
    for override in overrides:
        values = overridden(values, override)
    values.setdefault("out", f"runs/{path.stem}")
    return training_config(values, str(path))


def overridden(values: Mapping[str, Any], override: str) -> dict[str, Any]:
    """`values` with `key=value` or `section.key=value` on top.

    Raises:
        UserError: not of that form.
    """
    import yaml

    key, equals, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not section or (dot and not name):
        raise UserError(f"{override!r} is no setting; write key=value, for example steps=1000 or losses.mel=0.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"The value of {override!r} is not valid YAML.") from error
    if not dot:
        return {**values, section: value}
    inner = values.get(section) or {}
    if not isinstance(inner, Mapping):
        raise UserError(f"{section!r} in {override!r} is a single value; write {section}=value.")
    return {**values, section: {**inner, name: value}}


def training_config(values: Mapping[str, Any], where: str) -> TrainingConfig:
    """A configuration from plain values, as read from YAML; `where` they came from is said in messages."""
    plain = {key: value for key, value in values.items() if key not in ("model", "losses", "gains")}
    sections: dict[str, Any] = {}
    for name in ("model", "losses"):
        section = values.get(name, {} if name == "model" else dict(WEIGHTS))
        if not isinstance(section, Mapping):
            raise UserError(f"Key {name!r} in the configuration of {where} must be a section of keys.")
        sections[name] = section
    gains = values.get("gains", [1.0])
    if not isinstance(gains, list):
        raise UserError(f"Key 'gains' in the configuration of {where} must be a list, for example [1.0].")
    losses = {str(name): weight for name, weight in sections["losses"].items()}
    for name, weight in losses.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise UserError(f"The weight of the loss {name!r} in {where} is {weight!r}; give a number.")
        one_of("loss", name, WEIGHTS)
    return from_mapping(
        TrainingConfig,
        {
            **plain,
            "model": from_mapping(ModelConfig, sections["model"], f"the model in {where}"),
            # In one order, whatever the file's: the order in which terms are added decides the last digit.
            "losses": {name: float(losses[name]) for name in sorted(losses, key=list(WEIGHTS).index)},
            "gains": [float(gain) if isinstance(gain, int | float) else gain for gain in gains],
        },
        where,
    )


def plain_config(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as YAML and JSON take it."""
    return dataclasses.asdict(config)


def difference(old: Mapping[str, Any], new: TrainingConfig, finished: bool = False) -> str | None:
    """The first setting in which a run's configuration and its continuation differ and may not; None if none.

    Args:
        old: as the run recorded it; a setting that it lacks, since it is younger, had its default.
        new: of the continuation.
        finished: whether the run has made all its steps; more of them may then follow under any schedule, whose rates
            from there on are those of a run of the new length.
    """
    may = MAY_CHANGE | ({"steps"} if finished or new.schedule == "constant" else set())
    return first_difference(old, plain_config(new), may, {**_defaults(TrainingConfig), "model": _defaults(ModelConfig)})


def _defaults(kind: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


def first_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], may: Collection[str], defaults: Mapping[str, Any]
) -> str | None:
    """The first key of `new`, not among `may`, with another value than in `old` or else in `defaults`; None if none.

    Of a section (a mapping in `new`) its first such key is named.
    """
    for key, value in new.items():
        before = old.get(key, defaults.get(key))
        if key in may or before == value:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            known = defaults.get(key)
            inner = first_difference(before, value, (), known if isinstance(known, Mapping) else {})
            if inner is None and before.keys() <= value.keys():
                continue
            return f"{key}.{inner}" if inner else f"{key} is {value!r}, was {before!r}"
        return f"{key} is {value!r}, was {before!r}"
    return None


def shared_otherwise(old: Mapping[str, Any], new: TrainingConfig) -> str:
    """Which settings of `SHARING` a continuation changes, in words; empty where none."""
    mine, before = plain_config(new), {"accumulate": 1, **old}
    return ", ".join(f"{key} is {mine[key]}, was {before[key]}" for key in SHARING if mine[key] != before.get(key))


def rate(step: int, steps: int, schedule: str, warmup: int) -> float:
    """Factor on the learning rates at a step (from 0): linear rise over `warmup`, then constant or half a cosine."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))) if schedule == "cosine" else 1.0
    return rise * fall
