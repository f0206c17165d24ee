"""The training loop: `train(config)` makes a run folder, or goes on with the one that is there.

Lightning Fabric places the networks on devices, in a precision, on one or many processes (DDP). A batch is a pure
function of seed and step, and a checkpoint holds everything else that a step depends on, so that a training that was
killed and taken up again gives the losses of one that was not. Losses are read from the device only on logged steps.
Not for what a step computes (`step`), what it reads (`data`) or where it is written (`run_folder`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from d2m_model.acceleration import accelerate
from d2m_model.checkpoint import read_model
from d2m_model.codec.files import fingerprint, is_hub_codec, open_codec
from d2m_model.codec.hub import HubCodec
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.config import LEVELS
from d2m_model.model_folder import find_checkpoint
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.training.config import TrainingConfig, difference, plain_config, rate, shared_otherwise
from d2m_model.training.data import Segments, TrainingBatches, dataset_fingerprint, hold_out, load_segments, splits_of
from d2m_model.training.losses import (
    AUDIO_LOSSES,
    AdversarialLoss,
    ReconstructionLosses,
    validation_weights,
    weighted_total,
)
from d2m_model.training.run_folder import (
    LOSSES_FILE,
    Record,
    last_checkpoint,
    read_state,
    read_training,
    write_checkpoint,
)
from d2m_model.training.step import TrainingStep, gradient_norm
from tiktok_dm.errors import UserError

Progress = Callable[[int, Mapping[str, float]], None]
Notify = Callable[[str], None]
_VALIDATION_BATCH = 16


@dataclass(frozen=True)
class Data:
    """What is trained and validated on: `train` and `validation` are rows of `train_segments` and
    `validation_segments`."""

    train_segments: Segments
    validation_segments: Segments
    train: np.ndarray
    validation: np.ndarray


def cache_folder(config: TrainingConfig) -> Path:
    """Where latents and codes are cached."""
    if config.cache:
        return Path(config.cache)
    from platformdirs import user_cache_path

    return Path(os.environ.get("D2M_CACHE") or user_cache_path("tiktok-dm") / "latents")


def load_data(config: TrainingConfig, codec: JukeboxVQVAE | HubCodec) -> Data:
    """The training and validation segments, encoded now where the cache lacks them.

    Raises:
        UserError: a dataset, model and codec that do not go together.
    """
    cache = cache_folder(config)
    both = (codec, config.model)
    segments = load_segments(config.dataset, "train", *both, config.gains, cache, config.peak)
    if "validation" in splits_of(config.dataset):
        held = load_segments(config.dataset, "validation", *both, [1.0], cache, config.peak)
        return Data(segments, held, np.arange(len(segments)), np.arange(len(held)))
    rows, held_rows = hold_out(segments, config.validation_songs, config.seed)
    return Data(segments, segments, rows, held_rows)


def train(config: TrainingConfig, progress: Progress | None = None, notify: Notify | None = None) -> Path:
    """Train, or go on with what the run's folder holds, until `config.steps`.

    Args:
        config: the experiment.
        progress: called on the first process after every step with the number of steps done, and the losses where the
            step was logged.
        notify: called on the first process with sentences that the user should read.

    Returns:
        The run's folder.

    Raises:
        UserError: data, codec and model that do not go together; a folder that holds a run of another configuration; a
            loss that is no longer finite (the last checkpoint stays).

    Example:
        >>> from d2m_model import train
        >>> from d2m_model.training.config import read_training_config
        >>> data = ["dataset=demo", "codec=codec", "cache=cache", "validation_songs=0"]
        >>> short = ["steps=1", "batch=1", "samples=0", "logger=none", "threads=1", "accelerator=cpu"]
        >>> narrow = ["model.width=0.03125", "model.motion_embedding=16", "model.latent_channels=8", "decoded_frames=8"]
        >>> run = train(read_training_config("demo", [*data, *short, *narrow]))
        >>> (run / "last" / "model.safetensors").is_file()
        True
    """
    from lightning_fabric import Fabric

    if config.threads:
        torch.set_num_threads(config.threads)
    run = Path(config.out)
    checkpoint = _check_run(run, config)
    several = config.devices * config.nodes > 1
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        precision="bf16-mixed" if config.precision == "bf16-mixed" else "32-true",
        strategy="ddp" if several else "auto",
    )
    fabric.launch()
    tell = notify if notify is not None and fabric.is_global_zero else _silent
    _set_device(config, fabric.device.type, tell)
    before = None if checkpoint is None else read_training(checkpoint)
    if before is not None and before["step"] >= config.steps:
        tell(f"The run in {run} has made its {before['step']} steps already; give it more with steps=NUMBER.")
        return run
    codec = open_codec(config.codec, LEVELS[config.model.level].codec_level).to(fabric.device)
    with fabric.rank_zero_first():
        data = load_data(config, codec)
    start = _initial_model(config) if config.init and checkpoint is None else None
    trainer = Trainer(config, fabric, codec, data, start)
    if checkpoint is not None and before is not None:
        trainer.restore(checkpoint)
        if other := shared_otherwise(before["config"], config):
            tell(
                f"The run in {run} goes on with {other}: the gradients are the same but for rounding, so that its "
                "losses differ in their last digits from those of a run that went on as it began."
            )
    trainer.fit(progress or _silent)
    return run


def _silent(*_: object) -> None:
    pass


def _set_device(config: TrainingConfig, device: str, notify: Notify) -> None:
    """Let a GPU round products as the precision says; refuse or warn of what only pays on one.

    Raises:
        UserError: TF32 or CUDA graphs without a GPU.
    """
    on_gpu, tf32 = device == "cuda", config.precision == "tf32"
    if tf32 and not on_gpu:
        raise UserError(f"precision tf32 needs an NVIDIA GPU, and the training runs on {device}; set 32-true.")
    if config.cuda_graphs and not on_gpu:
        raise UserError(f"cuda_graphs needs an NVIDIA GPU, and the training runs on {device}; set cuda_graphs=false.")
    if config.compile and not on_gpu:
        notify("compile takes minutes on a processor, whose steps are slower afterwards: compile=false is faster here.")
    # PyTorch's own choice lets convolutions round to TF32 where float32 is asked for.
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32


def _initial_model(config: TrainingConfig) -> D2MGAN:
    """The model that `init` names.

    Raises:
        UserError: no model there, or one of other sizes.
    """
    model = read_model(find_checkpoint(config.init))
    for name, value in asdict(config.model).items():
        if (theirs := getattr(model.config, name)) != value:
            raise UserError(
                f"The model in {config.init} has {name} {theirs!r}, and the training's has {value!r}; set "
                f"model.{name}={theirs}, or start from another model."
            )
    return model.train()


class MovingAverage(AveragedModel):
    """An exponential moving average of a model, which begins as its copy.

    PyTorch's own reads its counter from the device, which makes the processor wait for it three times a step; this one
    keeps the counter on the host. The state dict is the same.

    Args:
        model: what is averaged.
        decay: share of the average that stays in an update.
        device: where the average lies.
    """

    def __init__(self, model: torch.nn.Module, decay: float, device: torch.device) -> None:
        super().__init__(model)
        self.update = get_ema_multi_avg_fn(decay)
        self.module.to(device).requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model: torch.nn.Module) -> None:
        """average = decay * average + (1 - decay) * model; the first update copies, and buffers are always copied."""
        mine, theirs = list(self.module.parameters()), [each.detach() for each in model.parameters()]
        copies = list(zip(self.module.buffers(), model.buffers(), strict=True))
        if self.n_averaged:
            self.update(mine, theirs, self.n_averaged)
        else:
            copies += zip(mine, theirs, strict=True)
        for own, other in copies:
            own.copy_(other)
        self.n_averaged += 1


def _check_run(run: Path, config: TrainingConfig) -> Path | None:
    """The checkpoint that the run goes on from, if there is one; `UserError` if the folder is not this run's."""
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is a file; the run needs a folder: set out.")
    checkpoint = last_checkpoint(run) if run.is_dir() else None
    if checkpoint is None:
        left = sorted(path.name for path in run.iterdir()) if run.is_dir() else []
        if left and LOSSES_FILE not in left:
            raise UserError(f"{run} exists and is no run of `d2m train`; set another folder with out=PATH.")
        return None
    before = read_training(checkpoint)
    if other := difference(before["config"], config, before["step"] >= before["config"]["steps"]):
        raise UserError(f"{run} holds a run of another configuration ({other}); set another folder with out=PATH.")
    return checkpoint


class Trainer:
    """One run in memory: networks, optimisers, data, position.

    Args:
        config: the experiment.
        fabric: a launched Lightning Fabric.
        codec: frozen, on the device.
        data: what is trained and validated on.
        start: the model that is trained on; a fresh one if None.
    """

    def __init__(
        self,
        config: TrainingConfig,
        fabric: Any,
        codec: JukeboxVQVAE | HubCodec,
        data: Data,
        start: D2MGAN | None = None,
    ) -> None:
        self.config, self.fabric, self.codec, self.data = config, fabric, codec, data
        self.run = Path(config.out)
        self.done = 0
        self.best = math.inf
        self.validation: dict[str, float] = {}
        self.learning_rate = config.learning_rate
        torch.manual_seed(config.seed)
        self.model = start or D2MGAN(config.model)
        # A model that was trained before goes on in the units that its weights were fitted to.
        if start is None and data.train_segments.motion is not None:
            self.model.fit_motion(data.train_segments.motion[data.train])
        self.adversarial = AdversarialLoss(
            self.model.new_discriminator(),
            config.discriminator_learning_rate,
            (config.beta1, config.beta2),
            config.fused,
        )
        self.optimiser = torch.optim.Adam(
            self.model.parameters(),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            fused=config.fused or None,
        )
        # The average starts as a copy of the model and is never wrapped: it is what is validated and written.
        self.average = MovingAverage(self.model, config.ema, fabric.device) if config.ema else None
        if fabric.device.type == "cpu" and not config.compile:
            accelerate(self.model)
            accelerate(self.adversarial.discriminator)
        if config.compile:
            for network in (self.model.motion_encoder, self.model.generator, self.adversarial.discriminator):
                if network is not None:
                    network.compile(mode="reduce-overhead" if config.cuda_graphs else "default")
        wrapped, self.optimiser = fabric.setup(self.model, self.optimiser)
        self.adversarial.to(fabric.device)
        self.adversarial.launch(fabric.setup_module)
        reconstruction = ReconstructionLosses(codec, config.model.preset, LogMel().to(fabric.device))
        self.step = TrainingStep(
            wrapped,
            self.optimiser,
            self.adversarial,
            reconstruction,
            config.losses,
            fabric.backward,
            config.clip,
            config.accumulate,
        )
        self.reconstruction = reconstruction
        self.needs_audio = any(config.losses.get(name) for name in AUDIO_LOSSES)
        self.codec_level = self._codec_level() if fabric.is_global_zero else {}

    def _set_rates(self) -> float:
        """Set the learning rates of the coming step, a function of its number alone; returns the generator's."""
        config = self.config
        factor = rate(self.done, config.steps, config.schedule, config.warmup)
        for optimiser, base in (
            (self.optimiser, config.learning_rate),
            (self.adversarial.optimiser, config.discriminator_learning_rate),
        ):
            for group in optimiser.param_groups:
                group["lr"] = base * factor
        return config.learning_rate * factor

    # ------------------------------------------------------------------------------------------------------- the loop

    def fit(self, progress: Progress) -> None:
        """Train until `config.steps`."""
        config, fabric = self.config, self.fabric
        record = None
        if fabric.is_global_zero:
            record = Record(self.run, config.logger, self.columns(), self.done, plain_config(config))
        if record is not None and not self.done:
            self._save(best=False)
        for batch in self._batches():
            log = (self.done + 1) % config.log_every == 0 or self.done == 0
            losses = self._one_step(batch.to(fabric.device), log)
            values = {}
            if log:
                values = self._read(losses)
                if record is not None:
                    record.add(self.done, values)
            if self.done % config.validate_every == 0 or self.done == config.steps:
                self._validate(record)
            if self.done % config.save_every == 0 or self.done == config.steps:
                self._check_weights()
                self._save(best=False)
            if record is not None:
                progress(self.done, values)
        if record is not None:
            record.close()
        fabric.barrier()

    def _batches(self) -> Iterator[Any]:
        """Batches from the current position on."""
        config, data = self.config, self.data
        source = TrainingBatches(
            data.train_segments,
            data.train,
            config.batch,
            config.seed,
            self.needs_audio,
            self.fabric.global_rank,
            self.fabric.world_size,
        )
        on_gpu = self.fabric.device.type == "cuda"
        steps = range(self.done, config.steps)
        return iter(DataLoader(source, batch_size=None, sampler=steps, num_workers=config.workers, pin_memory=on_gpu))

    def _one_step(self, batch: Any, log: bool) -> dict[str, Tensor]:
        self.learning_rate = self._set_rates()
        if self.config.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the last step's graphs hold may be written over
        with self.fabric.autocast():
            losses = self.step(
                batch,
                log=log,
                adversarial=self.done >= self.config.adversarial_from,
                part=decoded_part(self.done, self.config),
            )
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.done += 1
        return losses

    def _read(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """The step's losses as numbers, averaged over processes, with gradient norms and the learning rate."""
        norms = {"discriminator_gradient_norm": gradient_norm(self.adversarial.discriminator)}
        together = self.fabric.all_reduce(losses, reduce_op="mean") if self.fabric.world_size > 1 else losses
        values = {name: float(value) for name, value in (together | norms).items()}
        values["learning_rate"] = self.learning_rate
        for name, value in values.items():
            if not math.isfinite(value):
                raise self._diverged(f"{name} is {value}")
        return values

    def _check_weights(self) -> None:
        """Raise `UserError` before weights that are not finite, of a step whose losses nobody read, are saved.

        Every process has the same weights, so all of them stop.
        """
        for part in (self.model, self.adversarial):
            for name, value in part.state_dict().items():
                if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                    raise self._diverged(f"weights {name} are no finite numbers")

    def _diverged(self, what: str) -> UserError:
        return UserError(
            f"The training's {what} at step {self.done}; the last checkpoint in {self.run} is kept: "
            "go on with a lower learning_rate in another folder, or check the data."
        )

    def columns(self) -> list[str]:
        """Names of what is logged."""
        terms = ["discriminator", *self.step.weights] if self.step.is_adversarial else list(self.step.weights)
        held = [f"validation/{name}" for name in (*ReconstructionLosses.NAMES, "total")]
        return [*terms, "total", "gradient_norm", "discriminator_gradient_norm", "learning_rate", *held]

    # ---------------------------------------------------------------------------------------------------- validation

    def sampler(self) -> D2MGAN:
        """The weights that are validated and published."""
        if self.average is None:
            return self.model
        module = self.average.module
        assert isinstance(module, D2MGAN)
        return module

    def _validate(self, record: Record | None) -> None:
        """Losses on the held-out segments; the best checkpoint and the fixed samples where it is one."""
        if not len(self.data.validation):
            return
        if self.fabric.is_global_zero and record is not None:
            self.validation = self.validate()
            record.add(self.done, {f"validation/{name}": value for name, value in self.validation.items()})
            if self.config.samples:
                self._render()
            if self.validation["total"] < self.best:
                self.best = self.validation["total"]
                self._save(best=True)
        self.fabric.barrier()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Means over the held-out segments of the reconstruction terms, and their weighted total."""
        model = self.sampler()
        model.eval()
        sums: dict[str, float] = {}
        for batch in self._held_out():
            with self.fabric.autocast():
                latent = model(*batch.inputs()).float()
                losses = self.reconstruction(latent, self.step.target(batch))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(latent)
        model.train()
        means = {name: value / len(self.data.validation) for name, value in sums.items()}
        weights = validation_weights(self.config.losses)
        total = weighted_total({name: torch.tensor(value) for name, value in means.items()}, weights)
        return {**means, "total": float(total)}

    def _held_out(self) -> Iterator[Any]:
        rows, segments = self.data.validation, self.data.validation_segments
        for start in range(0, len(rows), _VALIDATION_BATCH):
            yield segments.batch(rows[start : start + _VALIDATION_BATCH]).to(self.fabric.device)

    @torch.no_grad()
    def _codec_level(self) -> dict[str, float]:
        """The terms of the truth itself through the codec: what a perfect prediction of the latent would get."""
        sums: dict[str, float] = {}
        for batch in self._held_out():
            losses = self.reconstruction(batch.latent, self.step.target(batch))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(batch.latent)
        return {name: value / len(self.data.validation) for name, value in sums.items()}

    @torch.no_grad()
    def _render(self) -> None:
        from d2m_model.training.previews import render

        rows = self.data.validation
        chosen = rows[np.linspace(0, len(rows) - 1, min(self.config.samples, len(rows))).round().astype(int)]
        model = self.sampler()
        model.eval()
        batch = self.data.validation_segments.batch(chosen).to(self.fabric.device)
        latent = model(*batch.inputs()).float()
        model.train()
        names = [self.data.validation_segments.ids[row] for row in chosen]
        render(self.run / "samples", self.done, names, batch, latent, self.codec)

    # --------------------------------------------------------------------------------------------------- checkpoints

    def _save(self, best: bool) -> None:
        if not self.fabric.is_global_zero:
            return
        state = None
        if not best:
            state = {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "adversarial": self.adversarial.state_dict(),
                "average": None if self.average is None else self.average.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if self.fabric.device.type == "cuda" else [],
                "step": self.done,
                "best": self.best,
                "validation": self.validation,
            }
        write_checkpoint(self.run / ("best" if best else "last"), self.sampler(), self.codec, self._facts(), state)

    def _facts(self) -> dict[str, Any]:
        segments, codec = self.data.train_segments, self.config.codec
        return {
            "step": self.done,
            "validation": self.validation,
            "codec_level": self.codec_level,
            "config": plain_config(self.config),
            "model": asdict(self.config.model),
            "dataset": {"path": self.config.dataset, "fingerprint": dataset_fingerprint(self.config.dataset)},
            "codec": {
                "path": codec if is_hub_codec(codec) else str(Path(codec).absolute()),
                "sha256": fingerprint(self.codec),
                "licence": self.codec.licence,
            },
            "segments": {
                "train": len(self.data.train),
                "validation": len(self.data.validation),
                "validation_songs": sorted(
                    {int(song) for song in self.data.validation_segments.songs[self.data.validation]}
                ),
                "key": segments.key,
            },
            "torch": torch.__version__,
        }

    def restore(self, checkpoint: Path | None) -> None:
        """Go on from a checkpoint, or start if there is none.

        Raises:
            UserError: the dataset or the codec is not the one that the run was begun with.
        """
        if checkpoint is None:
            return
        before = read_training(checkpoint)
        if before["codec"]["sha256"] != fingerprint(self.codec):
            raise UserError(f"The codec {self.config.codec} is not the one that the run in {self.run} was begun with.")
        if before["segments"]["key"] != self.data.train_segments.key:
            raise UserError(
                f"The dataset {self.config.dataset} is not the one that the run in {self.run} was begun with."
            )
        state = read_state(checkpoint)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.adversarial.load_state_dict(state["adversarial"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        torch.set_rng_state(state["random"])
        if self.fabric.device.type == "cuda":
            # Of as many GPUs as this machine and the one that wrote it both have.
            for device, random in zip(range(torch.cuda.device_count()), state["random_cuda"], strict=False):
                torch.cuda.set_rng_state(random, device)
        self.done, self.best, self.validation = state["step"], state["best"], state["validation"]


def decoded_part(step: int, config: TrainingConfig) -> slice | None:
    """The latent frames that a step decodes, a function of seed and step; None for all."""
    if not config.decoded_frames:
        return None
    room = config.model.latent_frames - config.decoded_frames
    first = int(np.random.default_rng([config.seed, 3, step]).integers(room + 1))
    return slice(first, first + config.decoded_frames)
