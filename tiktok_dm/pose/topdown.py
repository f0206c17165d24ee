"""Top-down estimators: a person detector first, then a network on the crop of each person.

What top-down estimators have in common: a person detector first, then a network on the crop of each person.

Batches, the device, precision, and the passage from regions to joints are here; a network's own part (`mmpose`,
`vitpose`) is how it is loaded and how its output is decoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tiktok_dm.errors import UserError
from tiktok_dm.machine import find_device
from tiktok_dm.pose.base import Detection, Estimates, Options, Picture, Region
from tiktok_dm.pose.crops import Pictures, boxes_of, upload
from tiktok_dm.pose.skeletons import Skeleton

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


# Joints from this confidence on are drawn by mmpose and say where to look next.
_SHOWN = 0.3
# A region about joints is this much larger than what they span: detectors' boxes hold hands, hair and soles too.
_MARGIN = 1.1
_FEWEST = 5
# Pictures for one batch and crops for one pass through the network: enough to fill the device. On a CPU more at once
# is no faster, and picture by picture the tracker needs the detector, which costs more than ten people, only now and
# then.
_BATCH = {"cuda": 64, "cpu": 1}
_CROPS = {"cuda": 256, "cpu": 16}


def choose_device(wanted: str) -> torch.device:
    """`find_device`, of the kinds that poses are estimated on; "" is "auto".

    Raises:
        UserError: no such device is here, or it is of another kind.
    """
    device = find_device(wanted or "auto")
    if device.type not in _BATCH:
        raise UserError(f"Poses are not estimated on '{wanted}': say cpu, cuda, cuda:1 or auto.")
    return device


def square_enough(box: NDArray[np.floating], aspect: float) -> Region:
    """A box (left, top, right, bottom) as a region with the crop's proportions, which holds the whole of it.

    The network sees the same with either; but how far two regions are apart is measured in their widths, and
    a person's box is narrow.
    """
    left, top, right, bottom = (float(value) for value in box)
    width, height = max(1.0, right - left), max(1.0, bottom - top)
    return Region((left + right) / 2, (top + bottom) / 2, max(width, height * aspect), max(height, width / aspect))


class TopDown:
    """Base of top-down estimators; keeps the `Estimator` contract.

    A subclass sets `name`, `version`, `weights_sha256`, `skeleton`, `crop_size`, and has `_places`.

    Args:
        detector: finds people. People are counted by it alone: where it sees nobody, nobody is looked at.
        options: see `Options`.
    """

    name: str
    version: str
    weights_sha256: str
    skeleton: Skeleton
    low_score = 0.3
    high_score = 0.6
    crop_size: tuple[int, int] = (192, 256)

    def __init__(self, detector: PersonDetector, options: Options, device: torch.device) -> None:
        self.detector = detector
        self.options = options
        self.device = device
        self.half = device.type == "cuda" if options.half is None else options.half
        self.batch = options.batch or _BATCH[device.type]
        self.crops = _CROPS[device.type]
        self._held: tuple[tuple[Picture, ...], Pictures] | None = None

    def _identify(self, model: str, weights: str) -> None:
        """Set version and checksum: everything that changes the output, and nothing that does not."""
        flags = ("-flip" if self.options.flip else "") + ("-fp16" if self.half else "")
        self.version = f"{model}{flags}+{self.detector.version}"
        self.weights_sha256 = hashlib.sha256((weights + self.detector.weights_sha256).encode()).hexdigest()

    def _uploaded(self, frames: Sequence[Picture]) -> Pictures:
        """Detector and network look at the same pictures: they go to the device once."""
        held = self._held
        if held is None or len(held[0]) != len(frames) or any(a is not b for a, b in zip(held[0], frames, strict=True)):
            held = self._held = (tuple(frames), upload(frames, self.device))
        return held[1]

    def _fast(self) -> AbstractContextManager[Any]:
        # Crops come in few batch sizes (`_padded`), so that trying cuDNN's algorithms once for each pays.
        return torch.backends.cudnn.flags(enabled=True, benchmark=self.device.type == "cuda")

    def _padded(self, count: int) -> int:
        """Batch size for `count` crops: on a GPU a power of two, so that few different ones occur."""
        return count if self.device.type == "cpu" else min(self.crops, 1 << (count - 1).bit_length())

    def detect(self, frames: Sequence[Picture]) -> list[list[Detection]]:
        """See `Estimator.detect`."""
        if not frames:
            return []
        aspect = self.crop_size[0] / self.crop_size[1]
        with torch.inference_mode():
            found = self.detector.detect(self._uploaded(frames), self.low_score)
        return [
            [Detection(square_enough(box, aspect), float(score)) for box, score in zip(boxes, scores, strict=True)]
            for boxes, scores in found
        ]

    def estimate(
        self,
        frames: Sequence[Picture],
        regions: Sequence[tuple[int, Region]],
        others: Sequence[tuple[int, Region]] = (),
    ) -> Estimates:
        """See `Estimator.estimate`. `others` change nothing: these networks are trained on crops with neighbours."""
        joints = len(self.skeleton.joints)
        if not regions:
            return Estimates(np.zeros((0, joints, 3), np.float32), np.zeros(0, np.float32), ())
        boxes = boxes_of([region for _, region in regions])
        index = [n for n, _ in regions]
        keypoints = np.empty((len(regions), joints, 3), np.float32)
        with torch.inference_mode(), self._fast():
            pictures = self._uploaded(frames)
            # All passes are queued before the first result is asked for: the device never waits for this side.
            parts = [
                (start, self._places(pictures, index[start : start + self.crops], boxes[start : start + self.crops]))
                for start in range(0, len(regions), self.crops)
            ]
            for start, (places, scores, place) in parts:
                count = min(self.crops, len(regions) - start)
                keypoints[start : start + count, :, :2] = place(places[:count].cpu().numpy())
                keypoints[start : start + count, :, 2] = scores[:count].cpu().numpy().clip(0, 1)
        aspect = self.crop_size[0] / self.crop_size[1]
        following = tuple(_around(pose, region, aspect) for pose, (_, region) in zip(keypoints, regions, strict=True))
        return Estimates(keypoints, presence(keypoints), following)

    def _places(
        self, pictures: Pictures, index: Sequence[int], boxes: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor, Any]:
        """Joints of at most `crops` people.

        Returns:
            (n, joints, 2) in the network's units; (n, joints) confidences; and a function from numpy (n, joints, 2)
            in those units to px of the pictures. n may be larger than the number of people (`_padded`).
        """
        raise NotImplementedError


def presence(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Is there a person? 0..1 from the surer half of the joints, (N, joints, 3) -> (N,).

    The mean of their confidences, scaled so that the confidence from which a joint is shown lies at 0.5. Half, because
    who dances behind a table has no legs and is a person.
    """
    best = np.sort(keypoints[..., 2], axis=1)[:, keypoints.shape[1] // 2 :]
    return np.clip(best.mean(axis=1) / (2 * _SHOWN), 0, 1).astype(np.float32)


def _around(pose: NDArray[np.float32], region: Region, aspect: float) -> Region:
    """Where to look for the same person next: about the joints that are shown, or in the same place if too few are."""
    seen = pose[pose[:, 2] >= _SHOWN, :2]
    if len(seen) < _FEWEST:
        return region
    low, high = seen.min(axis=0), seen.max(axis=0)
    grow = (high - low) * (_MARGIN - 1) / 2
    return square_enough(np.concatenate([low - grow, high + grow]), aspect)
