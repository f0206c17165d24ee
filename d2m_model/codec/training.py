"""Training one level of a codec: the loop, its folder and its checkpoints.

    RUN/config.yaml   what the run was told; another configuration does not continue it
    RUN/last/         the codec, training.json and state.pt: where a continuation starts
    RUN/best/         the codec with the least validation loss, and training.json; without `init` its latent is
                      scaled by a power of two to a standard deviation of about 1, which changes nothing it gives back
    RUN/losses.csv    training and validation, and the same as events in RUN/tensorboard/

A step is a function of the state and its number: crops, restarts and learning rate are drawn from seed and step, so a
run that was killed and continued gives the numbers of one that was not. Not for what is minimised (`losses`).
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from d2m_model.codec.ema_codebook import EmaCodebook
from d2m_model.codec.files import open_vqvae, write_codec
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
from d2m_model.codec.losses import LOSSES, CodecLosses
from d2m_model.codec.quality import code_use, describe, measure, quality_json
from d2m_model.codec.training_config import CodecTrainingConfig, difference, plain_config
from d2m_model.codec.training_data import Crops, Sound, fingerprint, hold_out, read_sounds
from d2m_model.config import LEVELS
from d2m_model.training.config import rate
from d2m_model.training.run_folder import STATE_FILE, TRAINING_FILE, Record
from tiktok_dm.errors import UserError, is_no_room
from tiktok_dm.files import write_atomic
from tiktok_dm.runtime.publish import new_folder, recover

CONFIG_FILE = "config.yaml"
COLUMNS = ("split", "learning_rate", "total", *LOSSES, "code_use", "perplexity", "latent_std", "restarted")

# The code-book starts from the encoder's output on so many latents for each code, where the audio gives them.
_LATENTS_PER_CODE = 4
# Held-out audio that the quality at the end is measured on, at most.
_QUALITY_S = 600.0


class Progress(Protocol):
    """Where a training tells how far it is."""

    def say(self, text: str) -> None:
        """A line about the run."""

    def step(self, done: int, steps: int, losses: dict[str, float]) -> None:
        """A step has been done; `losses` is empty where none was read."""


class Silence:
    """Tells nothing."""

    def say(self, text: str) -> None:
        pass

    def step(self, done: int, steps: int, losses: dict[str, float]) -> None:
        pass


def train_codec(config: CodecTrainingConfig, progress: Progress | None = None) -> Path:
    """Train a codec, or go on where the run's folder ends; returns the folder.

    Raises:
        UserError: no audio, a folder that belongs to another run, a loss that is no number, a full disk.
    """
    progress = progress or Silence()
    out = Path(config.out)
    # The folder is looked at before the audio is read: a mistake should not take minutes to be told.
    started = belongs(out, config)
    progress.say(f"reading {config.audio}")
    sounds = read_sounds(config.audio)
    seconds = sum(len(sound.samples) for sound in sounds) / 22050
    progress.say(f"{len(sounds)} sounds, {seconds / 60:.1f} minutes")
    run = _Run(config, out, sounds, progress)
    try:
        run.begin(started)
        run.go()
        return out
    except KeyboardInterrupt:
        raise UserError(f"Stopped; the same command goes on from step {run.saved}.") from None
    except OSError as error:
        if is_no_room(error):
            raise UserError(
                f"There is no room left on the disk of {out}: make some, and the same command goes on from step "
                f"{run.saved}."
            ) from error
        raise
    finally:
        run.close()


def belongs(out: Path, config: CodecTrainingConfig) -> bool:
    """Whether the folder holds this very run already.

    Raises:
        UserError: it holds something else.
    """
    import yaml

    path = out / CONFIG_FILE
    if path.is_file():
        try:
            old = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read, so it is not known which run {out} holds.") from error
        changed = difference(old if isinstance(old, dict) else {}, config, _is_finished(out / "last"))
        if changed:
            raise UserError(f"{out} holds a run of another configuration ({changed}); give another out=FOLDER.")
        return True
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already and holds no codec training; give another out=FOLDER.")
    return False


def _is_finished(last: Path) -> bool:
    """Whether a run's last checkpoint says that it made all its steps."""
    try:
        return bool(json.loads((last / TRAINING_FILE).read_text(encoding="utf-8"))["finished"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def claim(out: Path, config: CodecTrainingConfig) -> None:
    """Make the folder this run's: its configuration is written down.

    Raises:
        UserError: it cannot be written.
    """
    import yaml

    try:
        out.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(plain_config(config), sort_keys=False, width=120)
        write_atomic(out / CONFIG_FILE, text.encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}.") from error


class _Run:
    """One run: what it needs, where it is, and its steps."""

    def __init__(self, config: CodecTrainingConfig, out: Path, sounds: list[Sound], progress: Progress) -> None:
        from lightning_fabric import Fabric

        if config.threads:
            torch.set_num_threads(config.threads)
        self.config, self.out, self.progress = config, out, progress
        self.level = LEVELS[config.level].codec_level
        self.audio = fingerprint(sounds)
        train, self.held = hold_out(sounds, config.validation_share, config.seed)
        try:
            self.fabric = Fabric(accelerator=config.accelerator, devices=1, precision=config.precision)  # type: ignore[arg-type]
        except Exception as error:  # of many kinds, by accelerator
            raise UserError(f"The accelerator {config.accelerator!r} cannot be used here; give auto or cpu.") from error
        # PyTorch's own choice lets convolutions round to TF32 where float32 is asked for.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.step = self.saved = 0
        self.best = math.inf
        self.quantising = self.finished = False
        self.latent_std = 1.0
        self.validation: dict[str, float] = {}
        self.sounds = train
        self.record: Record | None = None

    def begin(self, started: bool) -> None:
        """Make networks and optimiser, new or out of the last checkpoint."""
        config, last = self.config, self.out / "last"
        recover(last)
        recover(self.out / "best")
        torch.manual_seed(config.seed)
        resumes = started and last.is_dir()
        if resumes:
            codec = open_vqvae(last, self.level)
            licence = codec.licence
        elif config.init:
            codec = open_vqvae(config.init, self.level)
            licence = codec.licence
            if config.codec not in (JukeboxConfig(), codec.config):
                raise UserError(f"The codec in {config.init} has other sizes than the codec section; leave that out.")
            if codec.hop != LEVELS[config.level].hop:
                raise UserError(
                    f"The codec in {config.init} has a hop of {codec.hop}, which level {config.level} has not."
                )
        else:
            codec, licence = JukeboxVQVAE(self.level, config.codec), ""
        codec.licence = licence
        codec.requires_grad_(True).train()
        self.codec = codec
        self.samples = config.crop_frames * codec.hop
        if self.samples < max(config.ffts, default=0):
            raise UserError(
                f"A crop of {config.crop_frames} frames has {self.samples} samples, fewer than the longest FFT of "
                f"{max(config.ffts)}; give more crop_frames or smaller ffts."
            )
        self.crops = Crops(self.sounds, self.samples, config.batch, config.seed, config.quietest_gain)
        # With nothing held out, the training audio itself says which codec is best.
        self.held_crops = Crops(self.held or self.sounds, self.samples, config.batch, config.seed + 1)
        self.ema = EmaCodebook(codec.n_codes, codec.latent_channels, decay=config.ema, dead_below=config.dead_below)
        optimiser = torch.optim.AdamW(
            codec.parameters(),
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            weight_decay=config.weight_decay,
        )
        if config.init and not resumes:
            self.ema.adopt(codec.codebook, codec.codebook.k.clone(), config.batch * config.crop_frames)
            self.quantising = True
        self.losses, self.optimiser = self.fabric.setup(CodecLosses(codec, config), optimiser)
        if resumes:
            self._load(last, optimiser)
        self.ema.to(self.fabric.device)
        claim(self.out, config)
        self.record = Record(self.out, config.logger, COLUMNS, self.step)

    def _load(self, last: Path, optimiser: torch.optim.Optimizer) -> None:
        try:
            training = json.loads((last / TRAINING_FILE).read_text(encoding="utf-8"))
            state = torch.load(last / STATE_FILE, map_location="cpu", weights_only=True)
            optimiser.load_state_dict(state["optimiser"])
            self.ema.load_state_dict(state["ema"])
            self.step = self.saved = int(state["step"])
            self.best, self.quantising = float(state["best"]), bool(state["quantising"])
            self.validation, self.finished = dict(training["validation"]), bool(training["finished"])
            audio = str(training["audio"])
        except Exception as error:  # torch raises many kinds for a file that is not what it should be
            raise UserError(f"The checkpoint in {last} cannot be read; remove {self.out} to start again.") from error
        if audio != self.audio:
            raise UserError(
                f"The audio in {self.config.audio} is not what the run in {self.out} was trained on; give another "
                "out=FOLDER."
            )
        self.progress.say(f"going on from step {self.step}")

    # ------------------------------------------------------------------------------------------------- the loop

    def go(self) -> None:
        config = self.config
        if self.step >= config.steps and self.finished:
            self.progress.say(f"the run in {self.out} is finished: {self.step} steps")
            return
        while self.step < config.steps:
            losses = self._one_step()
            done = self.step
            ends = done == config.steps
            read: dict[str, float] = {}
            if done % config.log_every == 0 or ends:
                read = self._log(losses)
            if done % config.validate_every == 0 or ends:
                self._validate()
            self.progress.step(done, config.steps, read)
            if done % config.save_every == 0 or ends:
                self._save()
        self._finish()

    def _one_step(self) -> dict[str, Any]:
        """One update; the losses, and what the code-book did."""
        config, step = self.config, self.step
        learning_rate = config.learning_rate * rate(step, config.steps, config.schedule, config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        if not self.quantising and step >= config.quantise_from:
            self._start_codebook()
        audio = torch.from_numpy(self.crops.at(step)).to(self.fabric.device)
        out = self.losses(audio, self.quantising)
        if not torch.isfinite(out["total"]):
            raise self._no_number(f"The loss is not a number at step {step + 1}")
        self.optimiser.zero_grad(set_to_none=True)
        self.fabric.backward(out["total"])
        if config.clip:
            self.fabric.clip_gradients(self.losses, self.optimiser, max_norm=config.clip, error_if_nonfinite=False)
        self.optimiser.step()
        restarted = 0
        if self.quantising:
            latent = out["latent"].float()
            self.ema.update(self.codec.codebook, latent, out["codes"])
            if config.dead_below:
                restarted = self.ema.restart(self.codec.codebook, latent, self._generator(step))
        self.step = step + 1
        return {
            **{name: value.detach() for name, value in out.items()},
            "learning_rate": learning_rate,
            "restarted": restarted,
        }

    def _generator(self, step: int) -> torch.Generator:
        """Of restarts: a function of seed and step."""
        seed = int(np.random.SeedSequence([self.config.seed, 3, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def _start_codebook(self) -> None:
        """Rows from the encoder's output on the next steps' crops."""
        wanted = _LATENTS_PER_CODE * self.codec.n_codes
        latents: list[Tensor] = []
        step = self.step
        while sum(len(part) for part in latents) < wanted:
            audio = torch.from_numpy(self.crops.at(step)).to(self.fabric.device)
            latents.append(self.codec.encode(audio).float().transpose(1, 2).reshape(-1, self.codec.latent_channels))
            step += 1
        latent = torch.cat(latents)
        self.ema.start(self.codec.codebook, latent, self._generator(self.step))
        # A count is of what one step gives.
        ratio = self.config.batch * self.config.crop_frames / len(latent)
        self.ema.counts.mul_(ratio)
        self.ema.sums.mul_(ratio)
        self.quantising = True

    def _no_number(self, what: str) -> UserError:
        where = (
            f"the last good checkpoint, of step {self.saved}, is in {self.out / 'last'}"
            if self.saved
            else "there is no checkpoint yet"
        )
        return UserError(f"{what}: {where}; a lower learning_rate or clip in another out=FOLDER may mend it.")

    # ------------------------------------------------------------------------------------- validation and writing

    @torch.no_grad()
    def _validate(self) -> None:
        """Losses on fixed crops of the held-out audio; the best codec so far is kept."""
        self.losses.eval()
        sums: dict[str, float] = {}
        counts = np.zeros(self.codec.n_codes, np.int64)
        latents: list[Tensor] = []
        for number in range(self.config.validation_batches):
            audio = torch.from_numpy(self.held_crops.at(number)).to(self.fabric.device)
            out = self.losses(audio, self.quantising)
            for name in ("total", *LOSSES):
                if name in out:
                    sums[name] = sums.get(name, 0.0) + float(out[name]) / self.config.validation_batches
            if "codes" in out:
                counts += np.bincount(out["codes"].cpu().numpy(), minlength=len(counts))
            latents.append(out["latent"])
        self.losses.train()
        used, perplexity = code_use(counts)
        self.latent_std = float(torch.cat(latents).std(correction=0))
        self.validation = {"step": self.step, **sums, "code_use": used, "perplexity": perplexity}
        self.validation["latent_std"] = self.latent_std
        self._note("validation", self.validation)
        if self.quantising and sums["total"] < self.best:
            self._keep_best(sums["total"])

    def _keep_best(self, loss: float) -> None:
        self._check_weights()
        self.best = loss
        codec = copy.deepcopy(self.codec)
        # What a model has to predict should not depend on how wide a training let the latent grow. Codecs that others
        # know already (`init`) keep theirs.
        if not self.config.init:
            scale_latent(codec, 2.0 ** -round(math.log2(max(self.latent_std, 1e-6))))
        with new_folder(self.out / "best", replace=True) as folder:
            write_codec(codec, folder)
            self._write_training(folder, self.step, None)

    def _check_weights(self) -> None:
        """A finite loss may still leave weights that are not."""
        values = [*self.codec.parameters(), self.codec.codebook.k]
        if not all(bool(torch.isfinite(value).all()) for value in values):
            raise self._no_number(f"The weights are not numbers after step {self.step}")

    def _save(self, quality: dict[str, Any] | None = None) -> None:
        self._check_weights()
        state = {
            "step": self.step,
            "best": self.best,
            "quantising": self.quantising,
            "ema": {name: value.cpu() for name, value in self.ema.state_dict().items()},
            "optimiser": self.optimiser.state_dict(),
        }
        with new_folder(self.out / "last", replace=True) as folder:
            write_codec(self.codec, folder)
            self._write_training(folder, self.step, quality)
            torch.save(state, folder / STATE_FILE)
        self.saved = self.step

    def _write_training(self, folder: Path, step: int, quality: dict[str, Any] | None) -> None:
        training = {
            "step": step,
            "steps": self.config.steps,
            "finished": quality is not None,
            "audio": self.audio,
            "validation": self.validation,
            "quality": quality,
        }
        write_atomic(folder / TRAINING_FILE, (json.dumps(training, indent=1) + "\n").encode())

    def _finish(self) -> None:
        """Measure the best codec on the held-out audio, and write that down beside both codecs."""
        best = self.out / "best"
        if not best.is_dir():
            self._keep_best(math.inf)
        codec = open_vqvae(best, self.level)
        held, seconds = [], 0.0
        for sound in self.held or self.sounds:
            held.append((sound.name, sound.audio()))
            seconds += len(sound.samples) / 22050
            if seconds >= _QUALITY_S:
                break
        sounds, mean = measure(codec, held)
        quality = quality_json(sounds, mean) | {"held_out": bool(self.held)}
        path = best / TRAINING_FILE
        training = json.loads(path.read_text(encoding="utf-8"))
        write_atomic(path, (json.dumps({**training, "finished": True, "quality": quality}, indent=1) + "\n").encode())
        self._save(quality)
        self.progress.say(
            f"best codec, of step {training['step']}, on {'held-out' if self.held else 'the training'} audio: "
            f"{describe(mean)}"
        )

    def _log(self, out: dict[str, Any]) -> dict[str, float]:
        values = {name: float(out[name]) for name in ("total", *LOSSES, "learning_rate", "restarted") if name in out}
        values["latent_std"] = float(out["latent"].std(correction=0))
        if "codes" in out:
            counts = self.ema.counts.cpu().numpy()
            values["perplexity"] = code_use(counts)[1]
            values["code_use"] = len(out["codes"].unique()) / self.codec.n_codes
        self._note("train", values)
        return values

    def _note(self, split: str, values: dict[str, float]) -> None:
        assert self.record is not None
        self.record.add(self.step, values, split)

    def close(self) -> None:
        if self.record is not None:
            self.record.close()


@torch.no_grad()
def scale_latent(codec: JukeboxVQVAE, factor: float) -> None:
    """Multiply the latent by a factor, in place: the encoder's last layer and the code-book; the decoder divides by it.

    With a power of two the codec gives back the same bits as before.
    """
    encoder, decoder = codec.encoders[str(codec.level)], codec.decoders[str(codec.level)]
    last = encoder.level_blocks[-1].model[-1]  # type: ignore[index, union-attr]
    first = decoder.level_blocks[-1].model[0]  # type: ignore[index, union-attr]
    last.weight.mul_(factor)
    last.bias.mul_(factor)
    first.weight.div_(factor)
    codec.codebook.k.mul_(factor)
