"""ViTPose and RT-DETR on random weights, held against transformers' own processors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_models import SIDE, need, pictures, regions, write_detector, write_vitpose

from tiktok_dm.errors import UserError
from tiktok_dm.pose.base import Estimator
from tiktok_dm.pose.crops import boxes_of, decode_dark, to_picture, upload
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.topdown import RTDetr, model_folder
from tiktok_dm.pose.tracking import track_poses
from tiktok_dm.pose.vitpose import ViTPose

need("transformers")

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_vitpose(folder / "vitpose")
    write_detector(folder / "detector", {0: "person"})
    write_detector(folder / "three", {0: "cat", 1: "Person", 2: "sofa"})
    return folder


@pytest.fixture(scope="module")
def vitpose(folder: Path) -> ViTPose:
    estimator = get_estimator(f"vitpose:model={folder / 'vitpose'},detector={folder / 'detector'},device=cpu")
    assert isinstance(estimator, ViTPose)
    return estimator


@pytest.fixture(scope="module")
def processor() -> object:
    from transformers.models.vitpose.image_processing_pil_vitpose import VitPoseImageProcessorPil

    return VitPoseImageProcessorPil()


def boxes_coco(which: list) -> list:
    """(left, top, width, height) a region, as transformers wants them."""
    boxes = boxes_of([region for _, region in which]).astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes.tolist()


def test_it_is_an_estimator_with_a_checksum(vitpose: ViTPose) -> None:
    assert isinstance(vitpose, Estimator)
    assert vitpose.version.endswith("-vitpose+rtdetr")
    assert len(vitpose.weights_sha256) == 64
    assert vitpose.batch == 1


def test_crops_are_those_of_transformers(vitpose: ViTPose, processor: object) -> None:
    shown = pictures()
    which = regions(shown, 6)
    mine = vitpose.prepare(upload(shown, CPU), [n for n, _ in which], boxes_of([region for _, region in which]))
    differing = 0
    for (n, _), box, crop in zip(which, boxes_coco(which), mine, strict=True):
        theirs = processor(Image.fromarray(shown[n]), boxes=[[box]], return_tensors="pt")["pixel_values"][0]
        apart = (crop - theirs).abs()
        # Where a value lies exactly between two whole ones, single precision may round the other way: one grey level.
        assert apart.max() < 1 / 255 / 0.224 + 1e-4
        differing += int((apart > 1e-4).sum())
    assert differing < 2e-4 * mine.numel()


def test_joints_are_those_of_transformers_on_the_same_heatmaps(vitpose: ViTPose, processor: object) -> None:
    shown = pictures()
    which = regions(shown, 6)
    boxes = boxes_of([region for _, region in which])
    with torch.inference_mode():
        crops = vitpose.prepare(upload(shown, CPU), [n for n, _ in which], boxes)
        outputs = vitpose.network(pixel_values=crops)
    theirs = processor.post_process_pose_estimation(outputs, boxes=[[box] for box in boxes_coco(which)])
    mine = vitpose.estimate(shown, which)
    for n, [person] in enumerate(theirs):
        seen = person["scores"].numpy() > 0
        assert seen.any()
        # DARK divides by the curvature: on a flat top, of which random weights have some, single precision is not
        # enough to agree on the last digits.
        apart = np.abs(person["keypoints"].numpy() - mine.keypoints[n, :, :2]).max(axis=1)[seen]
        assert np.median(apart) < 1e-3
        np.testing.assert_allclose(mine.keypoints[n, :, 2], person["scores"].numpy().clip(0, 1), atol=1e-5)


def test_dark_is_that_of_transformers_on_clear_peaks(processor: object) -> None:
    v, u = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="ij")
    rng = np.random.default_rng(4)
    middle = torch.from_numpy(rng.uniform((3, 3), (44, 60), (2, 17, 2))).float()
    heatmaps = torch.exp(-((u - middle[..., :1, None]) ** 2 + (v - middle[..., 1:, None]) ** 2) / 8)
    box = [10.0, 20.0, 90.0, 120.0]

    class Outputs:
        pass

    outputs = Outputs()
    outputs.heatmaps = heatmaps
    theirs = processor.post_process_pose_estimation(outputs, boxes=[[box], [box]])
    places, _ = decode_dark(heatmaps)
    centre, scale = np.float32([[55, 80]] * 2), np.float32([[112.5, 150]] * 2)
    mine = to_picture(places.numpy(), centre, scale, (47, 63))
    for n in range(2):
        np.testing.assert_allclose(mine[n], theirs[n][0]["keypoints"].numpy(), atol=1e-3)


def test_people_are_those_of_transformers(folder: Path) -> None:
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    shown = pictures()
    detector = RTDetr(str(folder / "detector"), CPU, half=False)
    uploaded = upload(shown, CPU)
    theirs = RTDetrImageProcessorPil(size={"height": SIDE, "width": SIDE})
    inputs = theirs([Image.fromarray(picture) for picture in shown], return_tensors="pt")["pixel_values"]
    # Pillow rounds to whole grey levels in between, so one level of difference.
    assert (uploaded.planes(SIDE, 0, 3) / 255 - inputs).abs().max() * 255 < 1.01
    with torch.inference_mode():
        outputs = detector._model(pixel_values=uploaded.planes(SIDE, 0, 3) / 255)
    sizes = [picture.shape[:2] for picture in shown]
    for least in (0.0, 0.02):
        wanted = theirs.post_process_object_detection(outputs, threshold=least, target_sizes=sizes)
        for (boxes, scores), one in zip(detector.detect(uploaded, least), wanted, strict=True):
            np.testing.assert_allclose(scores, one["scores"].numpy(), rtol=1e-4)
            np.testing.assert_allclose(np.sort(boxes, axis=0), np.sort(one["boxes"].numpy(), axis=0), atol=0.02)


def test_only_people_are_taken(folder: Path) -> None:
    shown = pictures()
    detector = RTDetr(str(folder / "three"), CPU, half=False)
    uploaded = upload(shown, CPU)
    with torch.inference_mode():
        logits = detector._model(pixel_values=uploaded.planes(SIDE, 0, 3) / 255).logits
    for n, (boxes, scores) in enumerate(detector.detect(uploaded, 0.0)):
        assert boxes.shape == (30, 4)
        np.testing.assert_allclose(scores, np.sort(logits[n, :, 1].sigmoid().numpy())[::-1], rtol=1e-4)
    assert all(len(scores) == 0 for _, scores in detector.detect(uploaded, 1.0))


def test_through_the_tracker_feet_are_missing(vitpose: ViTPose) -> None:
    rng = np.random.default_rng(0)
    frames = [(k / 30, rng.integers(0, 256, (120, 90, 3), dtype=np.uint8)) for k in range(2)]
    vitpose.low_score, kept = 0.0, vitpose.low_score
    try:
        poses = track_poses(frames, (0, 0, 90, 120), vitpose)
    finally:
        vitpose.low_score = kept
    assert poses.shape[0] == 2
    assert poses.shape[2:] == (25, 3)
    assert (poses[:, :, 19:] == 0).all()


def test_half_precision_runs_and_says_so(folder: Path, vitpose: ViTPose) -> None:
    half = get_estimator(f"vitpose:model={folder / 'vitpose'},detector={folder / 'detector'},device=cpu,half=yes")
    assert half.version == vitpose.version.replace("-vitpose", "-vitpose-fp16").replace("rtdetr", "rtdetr-fp16")
    shown = pictures()
    which = regions(shown, 3)
    whole, halved = vitpose.estimate(shown, which), half.estimate(shown, which)
    np.testing.assert_allclose(halved.keypoints[..., 2], whole.keypoints[..., 2], atol=0.02)
    # Which queries a detector of random weights prefers is chance; that they are people in the picture is not.
    [(boxes, scores)] = half.detector.detect(upload(shown[:1], CPU), 0.0)
    assert boxes.shape == (30, 4)
    assert np.isfinite(boxes).all()
    assert 0.5 < scores[0] < 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("weights=x.pth", "give the model's folder as model=PATH"),
        ("flip=yes", "no flip=yes"),
        ("model=/nowhere/at/all", "no model folder '/nowhere/at/all'"),
        ("model=nowhere", "no model folder 'nowhere'"),
    ],
)
def test_what_it_can_not_do_is_explained(options: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        get_estimator(f"vitpose:{options}")


def test_a_folder_without_weights_is_explained(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        model_folder(str(tmp_path))
