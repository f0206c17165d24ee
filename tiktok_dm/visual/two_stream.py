"""Two-stream I3D features: 1,024 of the pictures, then 1,024 of the optical flow. The networks themselves are `i3d`'s.

As published: pictures whose short side is 256 px, their middle 224 x 224, RGB in -1..1; flow on the same pictures, cut
at +-20 px and scaled to -1..1; the features that the logits see, averaged over time. Pictures come at 30 a second, on
the grid of the poses (I3D was trained at 25). A window of 60 pictures has 59 flow fields: it never looks beyond itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.errors import UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.machine import find_device
from tiktok_dm.schema import POSE_FPS
from tiktok_dm.visual.base import SIZE, VisualSource, Window, middle
from tiktok_dm.visual.flow import bounded, get_flow

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
