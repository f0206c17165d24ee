"""Optical flow between neighbouring pictures of a window, by kept libraries behind one small contract.

`tvl1` is what I3D's flow stream was trained on (Zach, Pock and Bischof, "A Duality Based Approach for Realtime TV-L1
Optical Flow", 2007), by scikit-image: no weights, no system library, one core, some 0.4 s for two pictures of 224 px.
`raft` (Teed and Deng, ECCV 2020) by torchvision runs on a GPU hundreds of times as fast; its weights come by path.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.errors import UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.machine import find_device
from tiktok_dm.schema import nearest_name
from tiktok_dm.visual.base import VisualSource, Window

BOUND_PX = 20.0  # larger displacements count as this, as in I3D's training


class Flow(Protocol):
    """What the flow stream needs.

    Attributes:
        name: by which it is asked for.
        method: method and library, in words.
        weights: SHA-256 of each file of weights, by the file's name.
    """

    name: str
    method: str
    weights: Mapping[str, str]

    def check(self) -> None:
        """Raise `UserError` unless everything that `between` needs is there."""
        ...

    def between(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Displacement of each point from every picture to the next, px to the right and px down.

        Args:
            windows: each (pictures, height, width, 3) RGB.

        Returns:
            (windows, pictures - 1, height, width, 2).
        """
        ...


class TvL1:
    """TV-L1 by scikit-image with its standard parameters, on grey pictures."""

    name: str = "tvl1"

    def __init__(self, source: VisualSource) -> None:
        self.weights: Mapping[str, str] = {}
        self.method = f"TV-L1 by scikit-image {_version('scikit-image')}".strip()

    def check(self) -> None:
        """Raise `UserError` where scikit-image is missing."""
        try:
            import skimage.registration  # noqa: F401
        except ImportError as error:
            raise UserError("TV-L1 flow needs scikit-image: pip install 'tiktok-dm[visual]'") from error

    def between(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """See `Flow.between`."""
        from skimage.registration import optical_flow_tvl1

        flows = []
        for window in windows:
            grey = luma(window)
            # The library gives rows, then columns.
            fields = [optical_flow_tvl1(a, b) for a, b in itertools.pairwise(grey)]
            flows.append(np.stack(fields)[:, ::-1].transpose(0, 2, 3, 1))
        return np.stack(flows).astype(np.float32)


class Raft:
    """RAFT by torchvision; `raft_large*.pth` or `raft_small*.pth` of torchvision's own among the weights."""

    name: str = "raft"

    def __init__(self, source: VisualSource) -> None:
        found = [path for path in source.files() if path.name.startswith(("raft_large", "raft_small"))]
        if not found:
            raise UserError(
                "the flow raft needs its weights: put torchvision's raft_large*.pth or raft_small*.pth beside the "
                "others in --visual-weights, or take --visual-flow tvl1"
            )
        self._path, self._device = found[0], source.device
        self.weights: Mapping[str, str] = {self._path.name: sha256_file(self._path)}
        self.method = f"RAFT by torchvision {_version('torchvision')}".strip()
        self._network: Any = None

    def check(self) -> None:
        """Raise `UserError` where torchvision is missing or the weights are not RAFT's."""
        self._load()

    def _load(self) -> Any:
        if self._network is None:
            self._network = _read_raft(self._path).to(find_device(self._device))
        return self._network

    def between(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """See `Flow.between`; sides are multiples of 8, of at least 128 px."""
        import torch

        network = self._load()
        device = next(network.parameters()).device
        flows = []
        with torch.inference_mode():
            for window in windows:
                x = torch.from_numpy(np.ascontiguousarray(window)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
                found = network(x[:-1], x[1:])[-1]
                flows.append(found.permute(0, 2, 3, 1).float().cpu().numpy())
        return np.stack(flows)


def _read_raft(path: Path) -> Any:
    import pickle

    import torch

    try:
        from torchvision.models.optical_flow import raft_large, raft_small
    except (ImportError, RuntimeError) as error:  # one that was built for another PyTorch raises RuntimeError
        raise UserError("the flow raft needs a torchvision that fits the installed PyTorch, or take tvl1") from error
    network = (raft_large if path.name.startswith("raft_large") else raft_small)(weights=None, progress=False)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} does not hold torchvision's RAFT weights: get the file again") from error
    return network.eval().requires_grad_(False)


FLOWS: dict[str, Callable[[VisualSource], Flow]] = {"tvl1": TvL1, "raft": Raft}


def get_flow(name: str, source: VisualSource) -> Flow:
    """The flow of that name.

    Raises:
        UserError: no such flow (the nearest name is offered), or no weights for it.
    """
    if name not in FLOWS:
        near = nearest_name(name, FLOWS)
        hint = f"did you mean '{near}'?" if near else f"choose one of: {', '.join(sorted(FLOWS))}."
        raise UserError(f"There is no optical flow called '{name}': {hint}")
    return FLOWS[name](source)


def luma(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Brightness 0..1 of RGB pictures (..., 3), by ITU-R BT.601."""
    return (pictures @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32) / np.float32(255)


def bounded(flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Displacements in px as the flow stream takes them: cut at +-20 px, which become +-1."""
    return np.clip(flow, -BOUND_PX, BOUND_PX) / np.float32(BOUND_PX)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
