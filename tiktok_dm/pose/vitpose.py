"""ViTPose through transformers (Xu et al., "ViTPose", NeurIPS 2022; Apache-2.0): the 17 joints of COCO, no feet.

The network is transformers'; crops and decoding are ours (`crops`), for all people of a batch at once, and agree with
transformers' own image processor. Not for finding people (`detectors`). Only imported when asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
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
    decode_dark,
    grid_unbiased,
    normalised,
    to_picture,
)
from tiktok_dm.pose.skeletons import COCO_17
from tiktok_dm.pose.topdown import RT_DETR, RTDetr, TopDown, choose_device, model_folder

DEFAULT = "usyd-community/vitpose-base-simple"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ViTPose(TopDown):
    """ViTPose on the people that RT-DETR finds; keeps the `Estimator` contract.

    Confidence of a joint is the greatest value of its heatmap, at most 1. The network is loaded on first use.

    Args:
        options: `model` is an id of the hub or a folder written by `save_pretrained`.

    Raises:
        UserError: the model is not to be had, or is told what only others can do.
    """

    name = "vitpose"
    skeleton = COCO_17

    def __init__(self, options: Options = Options()) -> None:
        if options.weights:
            raise UserError("The pose estimator vitpose takes no weights=...: give the model's folder as model=PATH.")
        if options.flip:
            raise UserError("The pose estimator vitpose has no flip=yes: leave it out.")
        device = choose_device(options.device)
        half = device.type == "cuda" if options.half is None else options.half
        self._folder = model_folder(options.model or DEFAULT)
        super().__init__(RTDetr(options.detector or RT_DETR, device, half), options, device)
        self._identify(f"{version('transformers')}-vitpose", sha256_file(self._folder / "model.safetensors"))

    @cached_property
    def network(self) -> Any:
        """transformers' model on the device."""
        from transformers import VitPoseForPoseEstimation

        model = VitPoseForPoseEstimation.from_pretrained(self._folder, local_files_only=True)
        if model.config.num_labels != len(COCO_17.joints):
            raise UserError(f"The model in {self._folder} has {model.config.num_labels} joints: give one of COCO's 17.")
        return model.to(self.device, torch.float16 if self.half else torch.float32).eval().requires_grad_(False)

    @cached_property
    def _scaling(self) -> tuple[Tensor, Tensor]:
        return tuple(torch.tensor(values, device=self.device) * 255 for values in (_MEAN, _STD))  # type: ignore[return-value]

    def forward(self, crops: Tensor) -> Tensor:
        """The bare network: (N, 3, 256, 192) -> heatmaps (N, 17, 64, 48) float32."""
        more = {}
        if getattr(self.network.config.backbone_config, "num_experts", 1) > 1:
            # ViTPose+ has an expert for each data set it was trained on; COCO's is the first.
            more["dataset_index"] = torch.zeros(len(crops), dtype=torch.int64, device=self.device)
        return self.network(pixel_values=crops.to(self.network.dtype), **more).heatmaps.float()

    def prepare(self, pictures: Pictures, index: Sequence[int], boxes: NDArray[np.float32]) -> Tensor:
        """The network's input for people in boxes (N, 4): (N, 3, height, width) float32."""
        grid = grid_unbiased(*centres_and_scales(boxes, self.crop_size), self.crop_size)
        return normalised(cut(pictures, index, grid), *self._scaling)

    def _places(
        self, pictures: Pictures, index: Sequence[int], boxes: NDArray[np.float32]
    ) -> tuple[Tensor, Tensor, Any]:
        crops = self.prepare(pictures, index, boxes)
        missing = self._padded(len(crops)) - len(crops)
        if missing:
            crops = torch.cat([crops, crops[-1:].expand(missing, -1, -1, -1)])
        heatmaps = self.forward(crops)
        places, scores = decode_dark(heatmaps)
        centres, scales = centres_and_scales(boxes, self.crop_size)
        cells = (heatmaps.shape[3] - 1, heatmaps.shape[2] - 1)
        return places, scores, lambda found: to_picture(found, centres, scales, cells)
