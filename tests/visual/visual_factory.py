"""Checkpoints of random weights under the public files' names, and pictures that move by a known amount."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tiktok_dm.visual.base import VisualSource, Window
from tiktok_dm.visual.i3d import I3D


def random_i3d(channels: int, seed: int, classes: int = 400) -> I3D:
    """A stream whose values neither die out nor explode, with batch norms that do something."""
    torch.manual_seed(seed)
    network = I3D(channels, classes)
    for name, value in network.state_dict().items():
        if name.endswith("bn.weight") or name.endswith("running_var"):
            value.uniform_(0.7, 1.4)
        elif name.endswith("bn.bias") or name.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif name.endswith("conv3d.weight"):
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
    return network.eval()


def write_weights(folder: Path, seed: int = 0, classes: int = 400) -> Path:
    """`rgb_imagenet.pt` and `flow_imagenet.pt` in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, channels in (("rgb", 3), ("flow", 2)):
        torch.save(random_i3d(channels, seed + channels, classes).state_dict(), folder / f"{name}_imagenet.pt")
    return folder


class BrightnessFlow:
    """A flow that costs nothing: to the right the change of brightness, down none. For tests of all but flow."""

    name, method = "brightness", "change of brightness"

    def __init__(self, source: VisualSource) -> None:
        self.weights: dict[str, str] = {}

    def check(self) -> None:
        pass

    def between(self, windows: Sequence[Window]) -> np.ndarray:
        grey = np.stack(windows).astype(np.float32).mean(axis=-1)
        across = np.diff(grey, axis=1) / 4
        return np.stack([across, np.zeros_like(across)], axis=-1)


class Thumbnails:
    """An extractor that costs nothing: 2,048 levels of a window's mean picture. For tests of all but features."""

    name, version, features, side, batch = "thumbnails", "1", 2048, 32, 2
    method = "levels of the mean picture"

    def __init__(self) -> None:
        self.weights: dict[str, str] = {"none.pt": "0" * 64}

    def check(self) -> None:
        pass

    def extract(self, windows: Sequence[Window]) -> np.ndarray:
        means = np.stack(windows).mean(axis=1).reshape(len(windows), -1) / 255
        return means[:, :2048].astype(np.float32)
