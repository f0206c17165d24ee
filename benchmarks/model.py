"""Speed of training and sampling D2M-GAN, as ratios to a plain implementation within one run.

On the processor, per preset and level, in float32 with the same maths: one training step (the plain loop of
`benchmarks/model_plain.py`; this project's step, with losses read and without, as most steps are) and music for one
clip of 12.5 s (the plain loop's six segments one by one; the same at once; this project's sampler, whose seven windows
cover the clip to its end). What is compared runs in turn (A B C A B C ...), since other programs may share the machine;
of each, the least processor time and the least wall time count. Beside each stands its arithmetic floor: the
multiplications that PyTorch counted in it (two operations each), at the rate of large dense products in the same run;
what the transforms' copies, activations and optimisers cost is not in it.

It needs PyTorch, numpy and this project's modules alone: where librosa is missing, a mel basis of the same size stands
in, which costs the same and changes the losses of all that is compared alike.

With a GPU, `benchmarks/model_device.py` measures the same steps there; `--no-training --no-sampling` leaves the
processor out. `--json` without a name records in `benchmarks/model.json`, or `benchmarks/model_<GPU>.json`.

    python benchmarks/model.py [--levels high low] [--presets released paper] [--batch 16] [--repeats 3]
                               [--threads 2] [--quick] [--no-training] [--no-sampling] [--json [FILE]]
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from model_device import device_figures
from model_plain import PlainStep, plain, plain_sampling
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from d2m_model.acceleration import accelerate
from d2m_model.codec.interface import freeze
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import LEVELS, SEGMENT_SAMPLES, preset_config
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.sampling.sampler import DanceToMusic
from d2m_model.training.losses import BETAS, LEARNING_RATE, WEIGHTS, AdversarialLoss, ReconstructionLosses
from d2m_model.training.step import Batch, TrainingStep
from tiktok_dm.schema import POSE_FPS

CLIP_S = 12.5
QUICK = {"width": 1 / 4, "batch": 2, "repeats": 1, "clip_s": 4.5}


def stand_in_for_librosa() -> None:
    """A mel basis of the right size (each band the mean of all) where librosa is not installed."""
    try:
        import librosa.filters  # noqa: F401
    except ImportError:
        filters = ModuleType("librosa.filters")
        filters.mel = lambda sr, n_fft, n_mels: np.full((n_mels, n_fft // 2 + 1), 2 / n_fft, np.float32)  # type: ignore[attr-defined]
        sys.modules |= {"librosa": ModuleType("librosa"), "librosa.filters": filters}


class Setting:
    """Networks, codecs and a batch of one preset and level, shared by everything that is compared.

    Args:
        preset: `paper` or `released`.
        level: `high` or `low`.
        batch: segments.
        width: factor on the networks' channels.
        device: where all of it lies.
        fused: whether Adam is one fused kernel in this project's step.
    """

    def __init__(
        self, preset: str, level: str, batch: int, width: float = 1.0, device: str = "cpu", fused: bool = False
    ) -> None:
        torch.manual_seed(0)
        self.preset, self.level, self.device = preset, LEVELS[level].codec_level, torch.device(device)
        self.config = preset_config(preset, level, width=width)
        self.model = D2MGAN(self.config).to(self.device)
        self.codecs = [JukeboxVQVAE(each).to(self.device) for each in range(3)]
        for each in self.codecs:
            freeze(each)
        self.adversarial = AdversarialLoss(self.model.new_discriminator().to(self.device), fused=fused)
        if self.device.type == "cpu":  # as the trainer does; the plain loop undoes it
            accelerate(self.model)
            accelerate(self.adversarial.discriminator)
        self.optimiser = torch.optim.Adam(self.model.parameters(), LEARNING_RATE, BETAS, fused=fused or None)
        codec = self.codecs[self.level]
        reconstruction = ReconstructionLosses(codec, preset)
        reconstruction.mel.to(self.device)
        self.step = TrainingStep(self.model, self.optimiser, self.adversarial, reconstruction, WEIGHTS)
        optimisers = (self.optimiser, self.adversarial.optimiser)
        discriminator = self.adversarial.discriminator
        self._plain = PlainStep(self.model, discriminator, optimisers, self.codecs, self.level, preset)
        audio = (torch.rand(batch, 1, SEGMENT_SAMPLES) - 0.5).to(self.device)
        with torch.no_grad():
            latent = codec.encode(audio)
            codes = codec.quantise(latent).codes
        config = self.config
        motion = torch.randn(batch, config.motion_frames, config.motion_features, device=self.device)
        visual = torch.randn(batch, 1, config.visual_features, device=self.device)
        self.batch = Batch(motion, visual, None, latent, codes, audio)

    def plain_step(self) -> dict[str, float]:
        """One step of the plain loop."""
        with plain(self.model, self.adversarial.discriminator):
            return self._plain(self.batch)

    def state(self) -> dict[str, Any]:
        """A copy of all parameters and of both optimisers."""
        return copy.deepcopy(
            {
                name: part.state_dict()
                for name, part in vars(self).items()
                if name in ("model", "adversarial", "optimiser")
            }
        )

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, values in state.items():
            getattr(self, name).load_state_dict(copy.deepcopy(values))


def same_maths(preset: str, level: str, width: float = 1 / 4) -> dict[str, float]:
    """How far one step of both loops differs from the same state.

    Losses over their size (over 1 where smaller), the changes of all parameters over their norm.

    Raises:
        AssertionError: they do not compute the same.
    """
    setting = Setting(preset, level, 2, width)
    # A step beforehand: Adam's first one is the gradient's sign, which rounding turns over where it is near zero.
    setting.step(setting.batch)
    before = setting.state()
    plain_losses = setting.plain_step()
    plain_change = _change(setting, before)
    setting.restore(before)
    losses = setting.step(setting.batch, log=True)
    change = _change(setting, before)
    found = {
        "losses": max(abs(float(losses[name]) - value) / max(1.0, abs(value)) for name, value in plain_losses.items()),
        "updates": float((change - plain_change).norm() / plain_change.norm()),
    }
    assert found["losses"] < 1e-3, found
    assert found["updates"] < 1e-2, found
    return found


def _change(setting: Setting, before: Mapping[str, Any]) -> torch.Tensor:
    """The change of all parameters since `before`, as one vector."""
    parts = []
    for name in ("model", "adversarial"):
        for key, value in getattr(setting, name).named_parameters():
            parts.append((value.detach() - before[name][key]).flatten().double())
    return torch.cat(parts)


def matrix_rate() -> float:
    """Operations per processor second of large float32 products, the best of many.

    Of a matrix product and of a dense convolution, since different libraries compute them, at different speeds.
    """
    a, b = torch.randn(2048, 1024), torch.randn(1024, 1024)
    signal, weight = torch.randn(4, 1024, 514), torch.randn(1024, 1024, 3)
    with torch.no_grad():
        product = min(cost(lambda: a @ b)["cpu_s"] for _ in range(50))
        convolution = min(cost(lambda: functional.conv1d(signal, weight))["cpu_s"] for _ in range(15))
    return max(2 * 2048 * 1024**2 / product, 2 * 3 * 2048 * 1024**2 / convolution)


def cost(what: Callable[[], Any]) -> dict[str, float]:
    """Processor and wall seconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def convolution_backward_flop(
    grad_shape: list[int], x_shape: list[int], w_shape: list[int], *given: Any, out_shape: Any = None, **_: Any
) -> int:
    """Operations of a convolution's gradients: each costs what the convolution does.

    A product of an input and a weight gives one number to the output, and its transpose one to each gradient. PyTorch's
    own count takes every input channel for every output channel in the weight's gradient, which is too many, by their
    number, where the channels are in groups.
    """
    transposed, asked = given[4], given[7]
    positions = (x_shape if transposed else grad_shape)[2:]
    return 2 * grad_shape[0] * int(np.prod(positions)) * int(np.prod(w_shape)) * sum(map(bool, asked[:2]))


FLOP_COUNTS = {torch.ops.aten.convolution_backward: convolution_backward_flop}


def compare(ways: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """The least cost of each way, called in turn; a first call of each, which warms up, counts its arithmetic."""
    figures: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        with FlopCounterMode(display=False, custom_mapping=FLOP_COUNTS) as counter:
            way()
        figures[name] = {"gflop": counter.get_total_flops() / 1e9}
    for _ in range(repeats):
        for name, way in ways.items():
            gc.collect()
            for unit, value in cost(way).items():
                figures[name][unit] = min(value, figures[name].get(unit, np.inf))
    return figures


def finish(figures: dict[str, dict[str, float]], reference: str) -> dict[str, Any]:
    """Figures with floors and ratios to the reference's."""
    rate = matrix_rate()
    for row in figures.values():
        row["floor_cpu_s"] = row["gflop"] * 1e9 / rate
        row["cpu / floor"] = row["cpu_s"] / row["floor_cpu_s"]
        row["cpu / plain"] = row["cpu_s"] / figures[reference]["cpu_s"]
        row["wall / plain"] = row["wall_s"] / figures[reference]["wall_s"]
        row["gflop / plain"] = row["gflop"] / figures[reference]["gflop"]
    return figures


def training_figures(preset: str, level: str, batch: int, repeats: int, width: float) -> dict[str, Any]:
    """Costs of one training step."""
    setting = Setting(preset, level, batch, width)
    ways: dict[str, Callable[[], Any]] = {
        "plain": setting.plain_step,
        "ours": lambda: setting.step(setting.batch, log=False),
    }
    if preset == "released":
        # Elsewhere every step computes the audio terms, and reading the numbers costs nothing.
        ways["ours, losses read"] = lambda: {k: float(v) for k, v in setting.step(setting.batch, log=True).items()}
    return finish(compare(ways, repeats), "plain")


def sampling_figures(preset: str, level: str, repeats: int, width: float, clip_s: float) -> dict[str, Any]:
    """Costs of music for one clip of random poses."""
    setting = Setting(preset, level, 1, width)
    config = setting.config
    rng = np.random.default_rng(0)
    poses = rng.uniform(1, 500, (round(clip_s * POSE_FPS), 25, 3)).astype(np.float32)
    maker = DanceToMusic(setting.model, setting.codecs[setting.level], "cpu", overlap=0)
    windows = int(clip_s // 2)
    frames = windows * config.motion_frames
    motion = torch.from_numpy(poses[:frames].reshape(windows, config.motion_frames, -1))
    visual = torch.randn(windows, 1, config.visual_features)
    audio = torch.rand(windows, 1, SEGMENT_SAMPLES) - 0.5
    covering = rng.standard_normal((-(-round(clip_s * POSE_FPS) // config.motion_frames), config.visual_features))

    def plainly() -> list[np.ndarray]:
        with plain(setting.model):
            return plain_sampling(setting.model, setting.codecs, setting.level, motion, visual, audio)

    def batched() -> list[np.ndarray]:
        latents = maker.to_latents(motion.numpy(), visual[:, 0].numpy())
        with torch.inference_mode():
            codec = setting.codecs[setting.level]
            return list(codec.decode(codec.quantise(latents).latent)[:, 0].numpy())

    ways = {
        "plain": plainly,
        "ours": batched,
        "ours, to the end": lambda: maker(poses, visual=covering),
    }
    return finish(compare(ways, repeats), "plain")


def show(title: str, figures: Mapping[str, Any]) -> None:
    print(f"\n{title}")
    print(f"  {'':20}{'cpu s':>8}{'wall s':>8}{'floor s':>9}{'GFLOP':>9}{'cpu/plain':>11}{'wall/plain':>12}")
    for name, row in figures.items():
        print(
            f"  {name:20}{row['cpu_s']:8.2f}{row['wall_s']:8.2f}{row['floor_cpu_s']:9.2f}{row['gflop']:9.0f}"
            f"{row['cpu / plain']:11.2f}{row['wall / plain']:12.2f}",
            flush=True,
        )


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def record_name() -> Path:
    """The recorded file of this machine."""
    gpu = f"_{torch.cuda.get_device_name().lower().replace(' ', '_')}" if torch.cuda.is_available() else ""
    return Path(__file__).with_name(f"model{gpu}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--levels", nargs="+", default=["high", "low"], choices=list(LEVELS))
    parser.add_argument("--presets", nargs="+", default=["released", "paper"], choices=["released", "paper"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="narrow networks and small batches: a check, no figures")
    parser.add_argument("--no-sampling", action="store_true")
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=record_name(),
        help="record the figures here; what the file says of other parts stays",
    )
    options = parser.parse_args()
    stand_in_for_librosa()
    torch.set_num_threads(options.threads)
    width, clip_s = 1.0, CLIP_S
    if options.quick:
        width, clip_s = QUICK["width"], QUICK["clip_s"]
        options.batch, options.repeats = int(QUICK["batch"]), int(QUICK["repeats"])
    path = options.json
    figures: dict[str, Any] = {}
    if path and path.is_file():
        figures = json.loads(path.read_text(encoding="utf-8"))
    figures |= machine()
    for preset in options.presets:
        for level in options.levels:
            name = f"{preset} {level}"
            mine = figures.setdefault(name, {})
            if not (options.no_training and options.no_sampling):
                mine["difference of one step from the plain one"] = same_maths(preset, level)
            if not options.no_training:
                made = training_figures(preset, level, options.batch, options.repeats, width)
                mine[f"training step, batch {options.batch}"] = made
                show(f"{name}: training step, batch {options.batch}", made)
            if not options.no_sampling:
                made = sampling_figures(preset, level, options.repeats, width, clip_s)
                mine[f"music for a clip of {clip_s:g} s"] = made
                show(f"{name}: music for a clip of {clip_s:g} s", made)
            gc.collect()
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures["device"] = device_figures(Setting, quick=options.quick)
    print(json.dumps(figures["device"], indent=1))
    if path:
        text = json.dumps(figures, indent=1, default=lambda x: round(float(x), 4))
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
