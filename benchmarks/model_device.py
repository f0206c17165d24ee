"""The GPU's part of `benchmarks/model.py`: step time and memory by precision and compilation, sampling speed.

Without a GPU it says so; with `quick` the very same code runs on the processor with narrow networks, so that it is
known to work before a GPU is at hand. Memory and CUDA graphs are what that cannot show.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from d2m_model.config import SAMPLE_RATE
from d2m_model.sampling.sampler import LatentsToCodes, MotionToLatents

BATCHES = (16, 64)
LEVELS = ("high", "low")
VARIANTS = ("fp32 plain", "fp32", "tf32", "bf16", "bf16 + compile", "bf16 + compile + CUDA graphs")
_WINDOW_S = 2.0


def device_figures(new_setting: Callable[..., Any], quick: bool = False) -> dict[str, Any]:
    """Step milliseconds and peak memory of each variant, and the real-time factor of sampling.

    Args:
        new_setting: `model.Setting`.
        quick: tiny networks, one level, on the processor where there is no GPU.
    """
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not quick:
        return {"not measured": "there is no GPU: steps in bf16, compiled steps, CUDA graphs, GPU memory and sampling"}
    device = "cuda" if on_gpu else "cpu"
    figures: dict[str, Any] = {"device": torch.cuda.get_device_name() if on_gpu else "cpu, narrow networks: no figures"}
    if not on_gpu:
        figures["not measured"] = "there is no GPU: memory and CUDA graphs"
    _allow_tf32(False)
    for level in LEVELS[:1] if quick else LEVELS:
        for batch in (2,) if quick else BATCHES:
            rows: dict[str, Any] = {}
            for variant in VARIANTS:
                try:
                    rows[variant] = _step_figures(new_setting, variant, level, batch, device, quick)
                except torch.cuda.OutOfMemoryError:
                    rows[variant] = {"not measured": "out of memory"}
                except Exception as error:  # the compiler raises what it likes; the other variants still count
                    if "compile" not in variant:
                        raise
                    rows[variant] = {"not measured": f"the compiler failed: {str(error).splitlines()[0]}"}
                finally:
                    _allow_tf32(False)
            for row in rows.values():
                if "step_ms" in row:
                    row["speed-up over fp32 plain"] = rows["fp32 plain"]["step_ms"] / row["step_ms"]
            figures[f"released {level}, batch {batch}"] = rows
        figures[f"sampling, released {level}"] = _sampling_figures(new_setting, level, device, quick)
    return figures


def _allow_tf32(allowed: bool) -> None:
    """No TF32 behind float32's back."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _step_figures(
    new_setting: Callable[..., Any], variant: str, level: str, batch: int, device: str, quick: bool
) -> dict[str, Any]:
    setting = new_setting("released", level, batch, 1 / 16 if quick else 1.0, device, fused=variant != "fp32 plain")
    on_gpu = device == "cuda"
    _allow_tf32(variant == "tf32")
    if "compile" in variant:
        for network in (setting.model.motion_encoder, setting.model.generator, setting.adversarial.discriminator):
            network.compile(mode="reduce-overhead" if "graphs" in variant else "default")
    lower = torch.autocast(device, torch.bfloat16) if "bf16" in variant else nullcontext()

    def step() -> None:
        if variant == "fp32 plain":
            setting.plain_step()
            return
        torch.compiler.cudagraph_mark_step_begin()
        with lower:
            setting.step(setting.batch, log=False)

    for _ in range(1 if quick else 5):
        step()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(1 if quick else 20):
        start = time.perf_counter()
        step()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    row: dict[str, Any] = {"step_ms": 1000 * statistics.median(seconds)}
    if on_gpu:
        row["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
        del setting
        torch.compiler.reset()
        torch.cuda.empty_cache()
    return row


def _sampling_figures(new_setting: Callable[..., Any], level: str, device: str, quick: bool) -> dict[str, Any]:
    """Seconds of music per second of sampling, from windows of poses to sound, all windows at once."""
    windows = 2 if quick else 256
    setting = new_setting("released", level, 1, 1 / 16 if quick else 1.0, device)
    codec, config = setting.codecs[setting.level], setting.config
    to_latents = MotionToLatents(setting.model, device, batch=windows)
    to_codes = LatentsToCodes(codec)
    rng = np.random.default_rng(0)
    motion = rng.standard_normal((windows, config.motion_frames, config.motion_features))
    visual = rng.standard_normal((windows, config.visual_features))

    def sample() -> np.ndarray:
        latents = to_latents(motion, visual)
        with torch.inference_mode():
            codes = torch.stack([to_codes(latent) for latent in latents])
            return codec.decode(codec.dequantise(codes)).cpu().numpy()

    sample()
    seconds = []
    for _ in range(1 if quick else 5):
        start = time.perf_counter()
        sample()
        seconds.append(time.perf_counter() - start)
    factor = windows * _WINDOW_S / statistics.median(seconds)
    return {"windows": windows, "times real time": factor, "sample_rate": SAMPLE_RATE}
