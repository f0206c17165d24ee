"""What a step holds in memory at most, by configuration, counted without a GPU and without computing anything.

One step runs on PyTorch's fake tensors, which have shapes and no numbers, and every storage that an operation makes is
counted while it lives. What a GPU adds is not in it: the context of CUDA (about half a GiB) and the working space of
single kernels.
"""

from __future__ import annotations

import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from d2m_model.codec.interface import freeze
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.config import LEVELS, SEGMENT_SAMPLES
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.training.config import TrainingConfig
from d2m_model.training.losses import AdversarialLoss, ReconstructionLosses
from d2m_model.training.step import Batch, TrainingStep


@dataclass(frozen=True)
class Memory:
    """Bytes of one device's share of a training step.

    Args:
        standing: what lies there between two steps: weights, their moving average, gradients, both optimisers' moments,
            the codec, the batch.
        peak: the most at any time of a step.
    """

    standing: int
    peak: int


class Alive(TorchDispatchMode):
    """Counts the bytes of all storages that operations inside it made and that still live, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.now += self.sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key)

    def _freed(self, key: int) -> None:
        self.now -= self.sizes.pop(key)


def step_memory(config: TrainingConfig) -> Memory:
    """The memory of a step; the codec counts with the sizes of JukeBox's public one, and audio terms decode with it."""
    lower = torch.autocast("cpu", torch.bfloat16) if config.precision == "bf16-mixed" else nullcontext()
    with FakeTensorMode(), Alive() as alive, lower:
        model = D2MGAN(config.model)
        average = D2MGAN(config.model) if config.ema else None
        codec = JukeboxVQVAE(
            LEVELS[config.model.level].codec_level, JukeboxConfig(latent_channels=config.model.latent_channels)
        )
        freeze(codec)
        step = TrainingStep(
            model,
            torch.optim.Adam(model.parameters()),
            AdversarialLoss(model.new_discriminator()),
            ReconstructionLosses(codec, config.model.preset, LogMel()),
            config.losses,
            clip=config.clip,
            accumulate=config.accumulate,
        )
        batch = _batch(config)
        part = slice(0, config.decoded_frames) if config.decoded_frames else None
        step(batch, part=part)  # after it gradients and moments are there
        standing = alive.peak = alive.now
        step(batch, part=part)
        del average
        return Memory(standing, alive.peak)


def _batch(config: TrainingConfig) -> Batch:
    model, size = config.model, config.batch // (config.devices * config.nodes)
    return Batch(
        motion=torch.empty(size, model.motion_frames, model.motion_features) if model.motion_frames else None,
        visual=torch.empty(size, 1, model.visual_features) if model.visual_features else None,
        genre=torch.zeros(size, dtype=torch.long) if model.genres else None,
        latent=torch.empty(size, model.latent_channels, model.latent_frames),
        codes=torch.zeros(size, model.latent_frames, dtype=torch.long),
        audio=torch.empty(size, 1, SEGMENT_SAMPLES),
    )
