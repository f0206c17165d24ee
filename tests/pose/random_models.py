"""Models with random weights, as small as they go, written the way the published ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SIDE = 256  # of the squares that the detector looks at


def need(*packages: str) -> None:
    """Skip, in one sentence, where the packages of `make test-mmpose` are absent."""
    import importlib.util

    if any(importlib.util.find_spec(package) is None for package in packages):
        pytest.skip(
            f"{' or '.join(packages)} is not installed here: 'make test-mmpose' runs these tests in their own "
            "environment",
            allow_module_level=True,
        )


def write_detector(folder: Path, labels: dict[int, str]) -> Path:
    """An RT-DETRv2 of a few thousand weights."""
    import torch
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 48, 64],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=[32, 48, 64],
        encoder_hidden_dim=32,
        encoder_layers=1,
        encoder_ffn_dim=64,
        encoder_attention_heads=4,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=64,
        decoder_layers=2,
        decoder_attention_heads=4,
        num_queries=30,
        id2label=labels,
    )
    model = RTDetrV2ForObjectDetection(config)
    spread(model)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": SIDE, "width": SIDE}}))
    return folder


def write_vitpose(folder: Path) -> Path:
    """A ViTPose of two thin layers whose heatmaps have peaks."""
    import torch
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    torch.manual_seed(1)
    backbone = VitPoseBackboneConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, out_indices=[2], out_features=["stage2"]
    )
    model = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17, scale_factor=4))
    spread(model, 0.7)
    model.save_pretrained(folder)
    return folder


def spread(model: Any, gain: float = 1.0) -> None:
    """Weights so that a layer's output has about the spread of its input: joints land all over the crop."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=gain * parameter[0].numel() ** -0.5)


def write_rtmpose(path: Path, size: str = "t") -> Path:
    """An RTMPose checkpoint as mmengine writes it: weights, and logs and settings as pickled objects."""
    import torch
    from mmengine.logging.history_buffer import HistoryBuffer

    from tiktok_dm.pose.mmpose import build, configuration

    torch.manual_seed(2)
    model = build(configuration(size))
    spread(model.head)
    with torch.no_grad():
        # Statistics of the batch norms from one batch, so that activations neither die nor explode.
        for module in model.backbone.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        model.train()
        model.backbone(torch.randn(4, 3, 256, 192))
        for layer in (model.head.cls_x, model.head.cls_y):
            layer.weight *= 0.2  # confidences about a half
    meta = {"epoch": 1, "losses": HistoryBuffer([0.5], [1]), "seed": np.arange(3.0)}
    torch.save({"meta": meta, "state_dict": model.state_dict()}, path)
    return path


def pictures() -> list[np.ndarray]:
    """Three pictures of different sizes, smooth noise."""
    from PIL import Image

    rng = np.random.default_rng(0)
    return [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (height // 20, width // 20, 3), dtype=np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        for height, width in ((240, 320), (400, 226), (720, 406))
    ]


def regions(shown: list[np.ndarray], count: int) -> list[tuple[int, Any]]:
    """People anywhere in the pictures and half outside them."""
    from tiktok_dm.pose.base import Region

    rng = np.random.default_rng(1)
    out = []
    for n in range(count):
        height, width = shown[n % len(shown)].shape[:2]
        place = (rng.uniform(0, width), rng.uniform(0, height), rng.uniform(20, width), rng.uniform(40, height))
        out.append((n % len(shown), Region(*(float(value) for value in place))))
    return out
