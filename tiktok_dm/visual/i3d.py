"""Two-stream I3D features: 1,024 of the frames, then 1,024 of the optical flow.

Carreira and Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics Dataset", CVPR 2017, figure 3;
channel numbers are those of Inception v1 (Szegedy et al., CVPR 2015, table 1), whose 5x5 branch is a 3x3x3 one here.
Layers have the names of the published Kinetics checkpoints as they are widely used with PyTorch (`rgb_imagenet.pt`,
`flow_imagenet.pt`), so that those load by their names. Frozen: for features, not for training; reading pictures and
flow is `two_stream`'s.

As published: pictures whose short side is 256 px, their middle 224 x 224, RGB in -1..1; flow on the same pictures, cut
at +-20 px and scaled to -1..1; the features that the logits see, averaged over time. Pictures come at 30 a second, on
the grid of the poses (I3D was trained at 25). A window of 60 pictures has 59 flow fields: it never looks beyond itself.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tiktok_dm.errors import UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.machine import find_device
from tiktok_dm.schema import POSE_FPS
from tiktok_dm.visual.base import SIZE, VisualSource, Window, middle
from tiktok_dm.visual.flow import bounded, get_flow

FEATURES = 1024
KINETICS_CLASSES = 400

# Output channels of the branches: 1x1x1; 1x1x1 then 3x3x3; the same, smaller; pooling then 1x1x1.
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
_BATCH_NORM_EPS = 1e-3
_BATCH_NORM_MOMENTUM = 0.01  # 1 - the 0.99 of the published training; of no effect on a frozen network


def same_padding(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """What to put around an input so that ceil(size / stride) comes out, the odd one behind (TensorFlow's `SAME`).

    Args:
        sizes: of the input's last axes, first to last.
        kernel, stride: likewise.

    Returns:
        (before, after) of each axis, from the last axis to the first, as `torch.nn.functional.pad` takes them.
    """
    padding: list[int] = []
    for size, width, step in zip(reversed(sizes), reversed(kernel), reversed(stride), strict=True):
        total = max(width - (step if size % step == 0 else size % step), 0)
        padding += [total // 2, total - total // 2]
    return padding


class Unit3D(nn.Module):
    """Convolution with `SAME` padding, then batch norm and ReLU, or (`logits`) a bias and neither.

    Args:
        inputs, outputs: channels.
        kernel, stride: on all three axes.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, logits: bool = False) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=logits)
        self.bn = None if logits else nn.BatchNorm3d(outputs, eps=_BATCH_NORM_EPS, momentum=_BATCH_NORM_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, time, height, width) to (batch, outputs, ceil of each by the stride)."""
        padding = same_padding(x.shape[2:], self.conv3d.kernel_size, self.conv3d.stride)
        x = self.conv3d(functional.pad(x, padding) if any(padding) else x)
        return x if self.bn is None else functional.relu(self.bn(x))


class SameMaxPool3d(nn.Module):
    """Largest value under a window, with `SAME` padding. Zeros are put around: every input comes from a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, time, height, width)."""
        x = functional.pad(x, same_padding(x.shape[2:], self.kernel, self.stride))
        return functional.max_pool3d(x, self.kernel, self.stride)


class Mixed(nn.Module):
    """One Inception block: four branches of the same input, end to end on the channels.

    Args:
        inputs: channels.
        outputs: channels of the six convolutions, see `_MIXED`.
    """

    def __init__(self, inputs: int, outputs: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit3D(inputs, outputs[0])
        self.b1a = Unit3D(inputs, outputs[1])
        self.b1b = Unit3D(outputs[1], outputs[2], 3)
        self.b2a = Unit3D(inputs, outputs[3])
        self.b2b = Unit3D(outputs[3], outputs[4], 3)
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(inputs, outputs[5])
        self.channels = outputs[0] + outputs[2] + outputs[4] + outputs[5]

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, time, height, width) to (batch, channels, time, height, width)."""
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))], dim=1)


class I3D(nn.Module):
    """One stream.

    Args:
        channels: 3 for RGB, 2 for flow.
        classes: of the logits; 0 leaves that layer out.
    """

    def __init__(self, channels: int = 3, classes: int = KINETICS_CLASSES) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["Conv3d_1a_7x7"] = Unit3D(channels, 64, 7, 2)
        layers["MaxPool3d_2a_3x3"] = SameMaxPool3d((1, 3, 3), (1, 2, 2))
        layers["Conv3d_2b_1x1"] = Unit3D(64, 64)
        layers["Conv3d_2c_3x3"] = Unit3D(64, 192, 3)
        layers["MaxPool3d_3a_3x3"] = SameMaxPool3d((1, 3, 3), (1, 2, 2))
        width = 192
        for name, outputs in _MIXED.items():
            if name == "4b":
                layers["MaxPool3d_4a_3x3"] = SameMaxPool3d((3, 3, 3), (2, 2, 2))
            if name == "5b":
                layers["MaxPool3d_5a_2x2"] = SameMaxPool3d((2, 2, 2), (2, 2, 2))
            block = Mixed(width, outputs)
            layers[f"Mixed_{name}"] = block
            width = block.channels
        self.endpoints = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.logits = Unit3D(width, classes, logits=True) if classes else None

    def walk(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Name and output of each layer in turn, (batch, channels, time, height, width), down to `Mixed_5c`.

        Args:
            x: (batch, channels, time, height, width), values in -1..1.
        """
        for name in self.endpoints:
            x = self.get_submodule(name)(x)
            yield name, x

    def pooled(self, x: Tensor) -> Tensor:
        """Average over the picture and two steps of time, (batch, 1024, time / 8 - 1, 1, 1): what the logits see.

        On 224 px the kernel is the published 2 x 7 x 7; one step of time alone is averaged over the picture only.
        """
        for _, layer in self.walk(x):
            x = layer
        return functional.avg_pool3d(x, (min(2, x.shape[2]), x.shape[3], x.shape[4]), stride=1)

    def features(self, x: Tensor) -> Tensor:
        """(batch, 1024): `pooled`, averaged over time."""
        return self.pooled(x).mean(dim=(2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, classes): logits of each step of time, averaged.

        Raises:
            ValueError: a network that was made without logits.
        """
        if self.logits is None:
            raise ValueError("this network was made without logits")
        return self.logits(self.pooled(x)).mean(dim=(2, 3, 4))


def read_i3d(path: Path, channels: int) -> I3D:
    """The stream whose weights are in a file, in evaluation mode.

    Counters of batches (`num_batches_tracked`) may be missing, and logits of any number of classes, or none, will do:
    features need neither.

    Args:
        path: a state dict, as `torch.save` writes it.
        channels: 3 for RGB, 2 for flow.

    Raises:
        UserError: no such file, no state dict in it, or one that is not this network's (the first key is named).
    """
    state = _read_state(path)
    logits = state.get("logits.conv3d.weight")
    network = I3D(channels, 0 if logits is None else len(logits))
    for name, wanted in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state.setdefault(name, wanted)
        if name not in state:
            raise UserError(f"{path} lacks {name}: it is no I3D of Kinetics; give the public {_file(channels)}")
        if state[name].shape != wanted.shape:
            found, belongs = "x".join(map(str, state[name].shape)), "x".join(map(str, wanted.shape))
            raise UserError(
                f"{path} holds {name} as {found} where {belongs} belongs: give the public {_file(channels)}"
            )
    unknown = sorted(state.keys() - network.state_dict().keys())
    if unknown:
        raise UserError(f"{path} holds {unknown[0]}, which I3D does not have: give the public {_file(channels)}")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _file(channels: int) -> str:
    return "rgb_imagenet.pt" if channels == 3 else "flow_imagenet.pt"


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise UserError(f"the weights {path} cannot be read: {error.strerror or error}") from error
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no file of weights alone, as torch.save writes a state dict") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state dict (names and tensors): give the public checkpoint itself")
    return {str(name): value for name, value in state.items()}


RGB_FILE, FLOW_FILE = "rgb_imagenet.pt", "flow_imagenet.pt"
STREAM_FEATURES = 1024
_SCALED = 256 / 224  # short side of the picture to the square that is looked at


class TwoStreamI3D:
    """The extractor `i3d`.

    Args:
        source: a folder with `rgb_imagenet.pt` and `flow_imagenet.pt`, or two files whose names begin so.
        flow: of `tiktok_dm.visual.flow.FLOWS`.
        size: px of the square that is looked at; 224 is the published one.

    Raises:
        UserError: a file is not there, or no such flow.
    """

    name: str = "i3d"
    version: str = "1"
    features: int = 2 * STREAM_FEATURES
    batch: int = 8

    def __init__(self, source: VisualSource, flow: str = "tvl1", size: int = SIZE) -> None:
        self.size, self.side = size, round(size * _SCALED / 8) * 8
        self.flow = get_flow(flow, source)
        self._paths = {stream: _find(source, stream) for stream in ("rgb", "flow")}
        self._device = source.device
        self.weights: Mapping[str, str] = {
            **{path.name: sha256_file(path) for path in self._paths.values()},
            **self.flow.weights,
        }
        self.method = (
            f"I3D (Inception v1), {POSE_FPS} pictures a second of {size} px: 1,024 of RGB, then 1,024 of optical flow "
            f"({self.flow.method})"
        )
        self._networks: tuple[Any, Any] | None = None

    def check(self) -> None:
        """Raise `UserError` unless libraries, device and both checkpoints are there and fit."""
        find_device(self._device)
        self._read()
        self.flow.check()

    def _read(self) -> tuple[Any, Any]:
        from tiktok_dm.visual.i3d import read_i3d

        return read_i3d(self._paths["rgb"], 3), read_i3d(self._paths["flow"], 2)

    def _load(self) -> tuple[Any, Any]:
        if self._networks is None:
            device = find_device(self._device)
            rgb, flow = self._read()
            self._networks = rgb.to(device), flow.to(device)
        return self._networks

    def extract(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """(windows, 2048); see `Extractor.extract`."""
        rgb, flow = self._load()
        if not len(windows):
            return np.zeros((0, self.features), np.float32)
        pictures = middle(np.stack(windows), self.size).astype(np.float32) / np.float32(127.5) - 1
        fields = middle(bounded(self.flow.between(windows)), self.size)
        return np.concatenate([_features(rgb, pictures), _features(flow, fields)], axis=1)


def _features(network: Any, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """(windows, 1024) of (windows, time, height, width, channels)."""
    import torch

    device = next(network.parameters()).device
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), flags:
        tensor = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 4, 1, 2, 3))).to(device)
        return network.features(tensor).float().cpu().numpy()


def _find(source: VisualSource, stream: str) -> Path:
    """The file of a stream, by its name."""
    name = RGB_FILE if stream == "rgb" else FLOW_FILE
    found = [path for path in source.files() if path.name == name]
    found = found or [path for path in source.files() if path.name.startswith(stream) and path.suffix == ".pt"]
    if not found:
        where = ", ".join(map(str, source.weights))
        raise UserError(
            f"I3D's weights {name} are not in {where}: put the public checkpoint there"
            if where
            else f"I3D needs its weights: give --visual-weights a folder with {RGB_FILE} and {FLOW_FILE}"
        )
    return found[0]
