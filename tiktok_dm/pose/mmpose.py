"""RTMPose with the 26 Halpe joints, through mmpose (Jiang et al., "RTMPose", 2023; Apache-2.0).

The network is mmpose's, from the configuration that mmpose ships and the weights of its model zoo; crops and decoding
are ours (`crops`), for all people of a batch at once, and agree with mmpose's own `inference_topdown`. Not for finding
people (`detectors`). Only imported when this estimator is asked for; see `install_mmpose` for what it needs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import types
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiktok_dm.errors import UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.pose.base import Options
from tiktok_dm.pose.crops import (
    Pictures,
    centres_and_scales,
    cut,
    decode_simcc,
    flipped_simcc,
    grid_opencv,
    normalised,
    to_picture,
)
from tiktok_dm.pose.skeletons import HALPE_26
from tiktok_dm.pose.topdown import RT_DETR, RTDetr, TopDown, choose_device

_ZOO = "https://download.openmmlab.com/mmpose/v1/projects/rtmposev1/"
_CONFIGS = "body_2d_keypoint/rtmpose/body8"

MODELS: dict[str, tuple[str, str]] = {
    size: (
        f"rtmpose-{size[0]}_8xb{per_gpu}-700e_body8-halpe26-{crop}.py",
        f"rtmpose-{size[0]}_simcc-body7_pt-body7-halpe26_700e-{crop}-{digest}.pth",
    )
    for size, per_gpu, crop, digest in (
        ("t", 1024, "256x192", "6020f8a6_20230605"),
        ("s", 1024, "256x192", "7f134165_20230605"),
        ("m", 512, "256x192", "4d3e73dd_20230605"),
        ("l", 512, "256x192", "2abb7558_20230605"),
        ("m-384", 512, "384x288", "89e6428b_20230605"),
        ("l-384", 512, "384x288", "734182ce_20230605"),
        ("x-384", 256, "384x288", "7fb6e239_20230606"),
    )
}
"""Name -> (configuration inside mmpose, checkpoint of the model zoo; the eight digits begin its SHA-256)."""

DEFAULT = "m"

# Imported by mmpose and never called by RTMPose; each gets a stand-in where it is absent.
_UNUSED = ("xtcocotools", "munkres", "mmdet", "json_tricks", "matplotlib", "chumpy")


class _StandIns:
    """Finds empty modules in place of absent ones, while mmpose is imported and no longer."""

    def __init__(self, further: Sequence[str]) -> None:
        self.made: list[str] = []
        self.roots = {name for name in (*_UNUSED, *further) if importlib.util.find_spec(name) is None}
        if importlib.util.find_spec("mmcv") and importlib.util.find_spec("mmcv._ext") is None:
            self.roots.add("mmcv.ops")  # mmcv-lite has the wrappers, and not what they wrap

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not any(name == root or name.startswith(root + ".") for root in self.roots):
            return None
        self.made.append(name)
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)

        def anything(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            # Some are subclassed, most only named.
            return type(name, (torch.nn.Module,), {})

        module.__getattr__ = anything  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing: the module is empty."""


@contextlib.contextmanager
def stand_ins(*further: str) -> Iterator[None]:
    """Import parts of mmpose inside this; what they never call need not be installed.

    Args:
        further: more packages that may be absent; `mmpose.apis` names "torchvision".
    """
    finder = _StandIns(further)
    sys.meta_path.insert(0, finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecations inside mmengine
            yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


class _Inert:
    """Takes the place of whatever a checkpoint names that is neither a tensor nor a plain container."""

    def __new__(cls, *_: Any, **__: Any) -> _Inert:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """Nothing is kept."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a checkpoint of mmengine's, and nothing else of it.

    Such files also hold logs and settings as pickled objects, which `torch.load` refuses since 2.6. It is not told to
    trust them: each name it would have to import stands for an empty object instead, so nothing in the file is run.

    Raises:
        UserError: no such file, not a checkpoint, or no weights in it.
    """
    if not path.is_file():
        raise UserError(f"The weights file {path} does not exist: give the path of an RTMPose checkpoint (.pth).")
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        inert: list[Any] = [(_Inert, name) for name in names]
        with torch.serialization.safe_globals(inert):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"The weights file {path} can't be read ({type(error).__name__}): give an RTMPose checkpoint written by "
            "mmpose or torch.save()."
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    weights = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not weights:
        raise UserError(f"The weights file {path} holds no weights: give an RTMPose checkpoint (.pth).")
    return weights


def fetch_weights(model: str) -> Path:
    """The published checkpoint of a model, fetched at first use, in the user's cache; checked against its name.

    Raises:
        UserError: it can't be fetched, or what came is something else.
    """
    import platformdirs

    name = MODELS[model][1]
    path = Path(platformdirs.user_cache_path("tiktok-dm") / "rtmpose" / name)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Written beside and renamed; the file is refused unless its SHA-256 begins as its name says.
        torch.hub.download_url_to_file(
            _ZOO + name, str(path), hash_prefix=name.rsplit("-", 1)[1].split("_")[0], progress=sys.stderr.isatty()
        )
    except Exception as error:
        raise UserError(
            f"RTMPose's weights could not be fetched from {_ZOO + name} ({type(error).__name__}): try again, or get "
            f"the file by other means and say weights=PATH."
        ) from error
    return path


def configuration(model: str) -> Any:
    """mmpose's own configuration of a model, as mmengine's `Config`; the backbone is mmpose's copy, not mmdet's."""
    with stand_ins():
        import mmpose as package
        from mmengine.config import Config

        path = Path(os.fspath(package.__path__[0])) / ".mim" / "configs" / _CONFIGS / MODELS[model][0]
        config = Config.fromfile(str(path))
    # The two CSPNeXt are the same network; this one needs no mmdet.
    config.model.backbone["_scope_"] = "mmpose"
    config.model.backbone["init_cfg"] = None
    return config


def build(config: Any) -> Any:
    """The network of a configuration, with random weights."""
    with stand_ins():
        from mmengine.registry import init_default_scope
        from mmpose.models import build_pose_estimator

        init_default_scope("mmpose")
        model = build_pose_estimator(config.model)
    # Of an old spelling inside mmpose, at the first pass through the network.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"mmpose\.models")
    return model


class RTMPose(TopDown):
    """RTMPose on the people that RT-DETR finds; keeps the `Estimator` contract.

    Confidence of a joint is the greatest value of its classification, at most 1, as mmpose gives it. The network is
    loaded on first use.

    Args:
        options: `model` is one of `MODELS`.

    Raises:
        UserError: no such model, or its weights are not to be had.
    """

    name = "mmpose"
    skeleton = HALPE_26

    def __init__(self, options: Options = Options()) -> None:
        size = options.model or DEFAULT
        if size not in MODELS:
            raise UserError(f"There is no RTMPose model '{size}': choose one of {', '.join(MODELS)}.")
        device = choose_device(options.device)
        half = device.type == "cuda" if options.half is None else options.half
        super().__init__(RTDetr(options.detector or RT_DETR, device, half), options, device)
        self._model = size
        self._weights = Path(options.weights) if options.weights else fetch_weights(size)
        if not self._weights.is_file():
            raise UserError(f"The weights file {self._weights} does not exist: give an RTMPose checkpoint (.pth).")
        height, width = (int(side) for side in MODELS[size][0].rsplit("-", 1)[1].removesuffix(".py").split("x"))
        self.crop_size = (width, height)
        self._identify(f"{version('mmpose')}-rtmpose-{size}-halpe26", sha256_file(self._weights))

    @cached_property
    def network(self) -> Any:
        """mmpose's estimator on the device: `backbone`, `head`."""
        config = configuration(self._model)
        model = build(config)
        weights = read_checkpoint(self._weights)
        wanted = model.state_dict()
        odd = [name for name in wanted if name not in weights or weights[name].shape != wanted[name].shape]
        if odd:
            raise UserError(
                f"The weights file {self._weights} is not of RTMPose-{self._model} with 26 joints ({odd[0]} is missing "
                "or of another size): give its checkpoint, or say model=... for another size."
            )
        model.load_state_dict({name: weights[name] for name in wanted})
        model.to(self.device).eval().requires_grad_(False)
        # The head stays in single precision: it costs little, and in half the greatest of 512 bins is often a tie.
        model.backbone.to(dtype=torch.float16 if self.half else torch.float32, memory_format=torch.channels_last)
        return model

    @cached_property
    def _scaling(self) -> tuple[Tensor, Tensor, float]:
        settings = configuration(self._model)
        mean, std = (
            torch.tensor(settings.model.data_preprocessor[name], device=self.device) for name in ("mean", "std")
        )
        return mean, std, float(settings.codec.simcc_split_ratio)

    @cached_property
    def _mirrored(self) -> Tensor:
        order = np.arange(len(HALPE_26.joints))
        for left, right in HALPE_26.pairs:
            order[left], order[right] = right, left
        return torch.from_numpy(order).to(self.device)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """The bare network: (N, 3, height, width) -> SimCC values (N, 26, 2 width), (N, 26, 2 height)."""
        features = self.network.backbone(crops.to(torch.float16) if self.half else crops)
        x, y = self.network.head((features[-1].float(),))
        return x, y

    def prepare(self, pictures: Pictures, index: Sequence[int], boxes: NDArray[np.float32]) -> Tensor:
        """The network's input for people in boxes (N, 4): (N, 3, height, width) float32."""
        mean, std, _ = self._scaling
        grid = grid_opencv(*centres_and_scales(boxes, self.crop_size), self.crop_size)
        return normalised(cut(pictures, index, grid), mean, std)

    def _places(
        self, pictures: Pictures, index: Sequence[int], boxes: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor, Any]:
        crops = self.prepare(pictures, index, boxes)
        missing = self._padded(len(crops)) - len(crops)
        if missing:
            crops = torch.cat([crops, crops[-1:].expand(missing, -1, -1, -1)])
        x, y = self.forward(crops)
        if self.options.flip:
            mirrored_x, mirrored_y = flipped_simcc(*self.forward(crops.flip(-1)), self._mirrored)
            x, y = (x + mirrored_x) * 0.5, (y + mirrored_y) * 0.5
        places, scores = decode_simcc(x, y, self._scaling[2])
        centres, scales = centres_and_scales(boxes, self.crop_size)
        return places, scores, lambda found: to_picture(found, centres, scales, self.crop_size)
