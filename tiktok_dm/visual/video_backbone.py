"""Features of a video model of transformers, by hub id: VideoMAE, V-JEPA 2, TimeSformer, ViViT and their kin.

A window's vector is the mean of the encoder's last tokens (no head, no predictor), so it is as long as the model is
wide. The model says itself how many pictures it takes (16 for VideoMAE, 64 for V-JEPA 2): so many, evenly spread over
the window. A folder as `save_pretrained` writes it, given as the weights, stands in for the hub.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.errors import UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.machine import find_device
from tiktok_dm.visual.base import SIZE, WINDOW_PICTURES, VisualSource, Window, middle

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PREPROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json")
# Of ImageNet: what models of this kind were trained with where their files say nothing.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VideoBackbone:
    """The extractor of a hub id.

    Args:
        name: hub id, such as `MCG-NJU/videomae-base` or `facebook/vjepa2-vitl-fpc64-256`.
        source: a folder with the model's files in place of the hub, and the device.

    Raises:
        UserError: transformers is missing, or no such video model can be had.
    """

    version: str = "1"
    batch: int = 4

    def __init__(self, name: str, source: VisualSource) -> None:
        try:
            import transformers
        except ImportError as error:
            raise UserError(f"the video model {name} needs transformers: pip install 'tiktok-dm[visual]'") from error
        self.name, self._device = name, source.device
        self._folder = _folder(name, source)
        config = self._config = _opened(name, lambda: transformers.AutoConfig.from_pretrained(self._folder))
        self.pictures = int(getattr(config, "num_frames", 0) or getattr(config, "frames_per_clip", 0))
        self.features = int(getattr(config, "hidden_size", 0))
        if not self.pictures or not self.features:
            raise UserError(f"{name} is no video model (its configuration names no number of frames): give another")
        self.size = int(getattr(config, "image_size", 0) or getattr(config, "crop_size", 0) or SIZE)
        self.mean, self.std, self.side = _preprocessing(self._folder, self.size)
        files = sorted(path for path in self._folder.glob("*.safetensors"))
        if not files:
            raise UserError(f"{name} has no weights in safetensors: give a model that has")
        self.weights: Mapping[str, str] = {path.name: sha256_file(path) for path in files}
        self.method = f"{name}, {self.pictures} pictures of {self.size} px a window, mean of the last tokens"
        self._network: Any = None

    def check(self) -> None:
        """Raise `UserError` unless device and weights are there and the model is one for video."""
        find_device(self._device)
        self._read()

    def _read(self) -> Any:
        import transformers

        transformers.utils.logging.disable_progress_bar()  # of reading weights, between the build's own lines
        network, report = _opened(
            self.name,
            lambda: transformers.AutoModel.from_pretrained(
                self._folder, config=self._config, use_safetensors=True, output_loading_info=True
            ),
        )
        missing = sorted(report["missing_keys"])
        if missing:
            raise UserError(f"the weights of {self.name} lack {missing[0]}: get the model again")
        return network.eval().requires_grad_(False)

    def _load(self) -> Any:
        if self._network is None:
            self._network = self._read().to(find_device(self._device))
        return self._network

    def extract(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """(windows, features); see `Extractor.extract`."""
        import torch

        network = self._load()
        if not len(windows):
            return np.zeros((0, self.features), np.float32)
        chosen = picture_indices(self.pictures)
        rgb = middle(np.stack([window[chosen] for window in windows]), self.size).astype(np.float32) / np.float32(255)
        values = np.ascontiguousarray(((rgb - self.mean) / self.std).transpose(0, 1, 4, 2, 3))
        given: dict[str, Any] = {
            network.main_input_name: torch.from_numpy(values).to(next(network.parameters()).device)
        }
        if network.config.model_type == "vjepa2":
            given["skip_predictor"] = True
        with torch.inference_mode():
            tokens = network(**given).last_hidden_state
        return tokens.mean(dim=1).float().cpu().numpy()


def picture_indices(count: int, pictures: int = WINDOW_PICTURES) -> NDArray[np.int64]:
    """Which of a window's pictures a model of `count` pictures sees: the middles of as many equal parts of it."""
    return ((np.arange(count) + 0.5) * pictures / count).astype(np.int64)


def _folder(name: str, source: VisualSource) -> Path:
    """Where the model's files lie: the given folder, or the hub's copy on this machine."""
    if source.weights:
        (path, *more) = source.weights
        if more or not (path / "config.json").is_file():
            raise UserError(f"the weights of {name} are a folder with config.json and {_WEIGHTS}: {path} is none")
        return path
    from huggingface_hub import snapshot_download

    wanted = ["config.json", "*.safetensors", _INDEX, *_PREPROCESSORS]
    return Path(_opened(name, lambda: snapshot_download(name, allow_patterns=wanted)))


def _preprocessing(folder: Path, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Mean and deviation of a channel (of values 0..1), and the short side to which pictures are scaled."""
    told: dict[str, Any] = {}
    for name in reversed(_PREPROCESSORS):
        if (folder / name).is_file():
            told |= json.loads((folder / name).read_text(encoding="utf-8"))
    mean = np.asarray(told.get("image_mean") or _MEAN, np.float32)
    std = np.asarray(told.get("image_std") or _STD, np.float32)
    short = told.get("size")
    side = int(short.get("shortest_edge") or size) if isinstance(short, dict) else size
    return mean, std, max(side, size)


def _opened(name: str, what: Any) -> Any:
    """`what()`, with the library's many kinds of error as one sentence."""
    try:
        return what()
    except UserError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"the video model {name} cannot be opened: {reason}") from error
