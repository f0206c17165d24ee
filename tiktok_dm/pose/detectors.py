"""Person detectors behind one contract, for top-down estimators. Not for finding joints (`mmpose`, `vitpose`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from tiktok_dm.errors import UserError
from tiktok_dm.pose.crops import Pictures

Found = tuple[NDArray[np.float32], NDArray[np.float32]]
"""People of one picture, best first: boxes (n, 4) left, top, right, bottom in px, scores (n,) 0..1."""

RT_DETR = "PekingU/rtdetr_v2_r18vd"
"""RT-DETRv2 (Lv et al., 2024) with ResNet-18, trained on COCO; Apache-2.0. Finds people without overlap suppression."""

_PICTURES_AT_ONCE = 32
_WEIGHTS = "model.safetensors"


class PersonDetector(Protocol):
    """What `topdown.TopDown` needs.

    Attributes:
        version: of the model and of what changes its output.
        weights_sha256: hex digest of the weights.
    """

    version: str
    weights_sha256: str

    def detect(self, pictures: Pictures, least: float) -> Sequence[Found]:
        """People in each picture with scores from `least` on."""
        ...


def model_folder(name: str) -> Path:
    """Folder with a transformers model: `name` itself where it is one, else fetched once from the Hugging Face hub.

    Raises:
        UserError: neither a folder nor a model that can be fetched, or there are no safetensors in it.
    """
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise UserError(f"There is no model folder '{name}': give a folder that exists or an id of the hub.")
        try:
            # Weights as safetensors only: nothing in such a file can be run.
            folder = Path(snapshot_download(name, allow_patterns=["*.json", _WEIGHTS]))
        except Exception as error:
            raise UserError(
                f"The model {name} could not be fetched from the Hugging Face hub ({type(error).__name__}): connect "
                "once, or give a folder with config.json and model.safetensors."
            ) from error
    for file in ("config.json", _WEIGHTS):
        if not (folder / file).is_file():
            raise UserError(f"The model folder {folder} has no {file}: give one written by save_pretrained().")
    return folder


class RTDetr:
    """RT-DETR through transformers; keeps the `PersonDetector` contract.

    Args:
        name: id of the hub, or a folder.
        device: where it runs.
        half: half precision.
    """

    def __init__(self, name: str, device: torch.device, half: bool) -> None:
        from tiktok_dm.files import sha256_file

        self._folder = model_folder(name)
        self._device = device
        self._type = torch.float16 if half else torch.float32
        self.version = "rtdetr" + ("-fp16" if half else "")
        self.weights_sha256 = sha256_file(self._folder / _WEIGHTS)

    @cached_property
    def _size(self) -> int:
        """Side of the square that pictures are squeezed to."""
        import json

        path = self._folder / "preprocessor_config.json"
        size = json.loads(path.read_text(encoding="utf-8")).get("size", {}) if path.is_file() else {}
        return int(size.get("height", 640))

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForObjectDetection
        from transformers.utils import logging

        logging.disable_progress_bar()  # of reading weights, once a worker, between the build's own lines
        model = AutoModelForObjectDetection.from_pretrained(self._folder, local_files_only=True)
        return model.to(self._device, self._type).eval().requires_grad_(False)

    @cached_property
    def _person(self) -> int:
        labels = {str(label).lower(): int(number) for number, label in self._model.config.id2label.items()}
        return labels.get("person", 0)

    def detect(self, pictures: Pictures, least: float) -> list[Found]:
        """See `PersonDetector.detect`."""
        found: list[Found] = []
        for start in range(0, len(pictures.sizes), _PICTURES_AT_ONCE):
            stop = min(start + _PICTURES_AT_ONCE, len(pictures.sizes))
            squares = (pictures.planes(self._size, start, stop) / 255).to(self._type)
            with torch.inference_mode():
                outputs = self._model(pixel_values=squares)
            # The person's logit alone: a query that says "person" and "doll" is a person of that score all the same.
            scores = outputs.logits[..., self._person].float().sigmoid().cpu().numpy()
            boxes = outputs.pred_boxes.float().cpu().numpy()
            for n in range(stop - start):
                height, width = pictures.sizes[start + n]
                kept = np.flatnonzero(scores[n] >= least)
                kept = kept[np.argsort(-scores[n, kept], kind="stable")]
                middle, half = boxes[n, kept, :2], boxes[n, kept, 2:] / 2
                corners = np.concatenate([middle - half, middle + half], axis=1)
                found.append(((corners * (width, height, width, height)).astype(np.float32), scores[n, kept]))
        return found
