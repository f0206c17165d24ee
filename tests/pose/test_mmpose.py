"""RTMPose on random weights, held against mmpose's own `inference_topdown` on the same weights, pictures and boxes.

Run by `make test-mmpose` in an environment of its own.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_models import need, pictures, regions, write_detector, write_rtmpose

from tiktok_dm.errors import UserError
from tiktok_dm.media import read_frames
from tiktok_dm.pose import mmpose
from tiktok_dm.pose.base import Estimator, Options, Region
from tiktok_dm.pose.crops import boxes_of, centres_and_scales, cut, grid_opencv, upload
from tiktok_dm.pose.mmpose import MODELS, RTMPose, build, configuration, read_checkpoint, stand_ins
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.skeletons import HALPE_26
from tiktok_dm.pose.tracking import track_poses

need("mmpose", "mmengine", "mmcv", "transformers")

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


Loop = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_rtmpose(folder / "rtmpose-t.pth")
    write_detector(folder / "detector", {0: "person"})
    return folder


def make(folder: Path, **options: Any) -> RTMPose:
    kept = {"model": "t", "weights": str(folder / "rtmpose-t.pth"), "detector": str(folder / "detector")}
    return RTMPose(Options(**(kept | {"device": "cpu"} | options)))


@pytest.fixture(scope="module")
def rtmpose(folder: Path) -> RTMPose:
    return make(folder)


@pytest.fixture(scope="module")
def loop(folder: Path) -> Loop:
    """mmpose's own way: one call a person. Gives its keypoints (26, 2) and scores (26,)."""
    with stand_ins("torchvision"):
        from mmpose.apis import inference_topdown
        from mmpose.apis.inference import dataset_meta_from_config

        config = configuration("t")
        model = build(config)
        model.dataset_meta = dataset_meta_from_config(config, "train")
    model.load_state_dict(read_checkpoint(folder / "rtmpose-t.pth"))
    model.eval()
    model.cfg = config

    def run(picture: np.ndarray, region: Region, flip: bool) -> tuple[np.ndarray, np.ndarray]:
        model.test_cfg["flip_test"] = flip
        bgr = np.ascontiguousarray(picture[..., ::-1])
        [sample] = inference_topdown(model, bgr, boxes_of([region]))
        return sample.pred_instances.keypoints[0], sample.pred_instances.keypoint_scores[0]

    run.meta = model.dataset_meta  # type: ignore[attr-defined]
    return run


def test_it_is_an_estimator_and_says_what_it_is(rtmpose: RTMPose, folder: Path) -> None:
    assert isinstance(rtmpose, Estimator)
    assert rtmpose.version == "1.3.2-rtmpose-t-halpe26+rtdetr"
    parts = [folder / "rtmpose-t.pth", folder / "detector" / "model.safetensors"]
    digests = "".join(hashlib.sha256(part.read_bytes()).hexdigest() for part in parts)
    assert rtmpose.weights_sha256 == hashlib.sha256(digests.encode()).hexdigest()
    request = f"mmpose:model=t,weights={parts[0]},detector={folder / 'detector'},device=cpu"
    assert get_estimator(request).weights_sha256 == rtmpose.weights_sha256


def test_crops_are_opencvs_byte_for_byte() -> None:
    import cv2
    from mmpose.structures.bbox import get_warp_matrix

    shown = pictures()
    which = regions(shown, 60)
    centres, scales = centres_and_scales(boxes_of([region for _, region in which]), (192, 256))
    # Half of them as whole numbers, as annotators give them.
    centres[::2], scales[::2] = centres[::2].round(), (scales[::2] / 12).round() * 12
    crops = cut(upload(shown, CPU), [n for n, _ in which], grid_opencv(centres, scales, (192, 256))).numpy()
    same = 0
    for k, (n, _) in enumerate(which):
        matrix = get_warp_matrix(centres[k], scales[k], 0.0, (192, 256))
        theirs = cv2.warpAffine(shown[n], matrix, (192, 256), flags=cv2.INTER_LINEAR)
        apart = np.abs(crops[k] - theirs)
        same += int(not apart.any())
        # Where a position lies exactly between two steps, OpenCV's matrix decides by its last bit: then one column
        # or row of a crop is read 1/32 px beside.
        assert (apart > 0).mean() < 0.02
    assert same >= 57


@pytest.mark.parametrize("flip", [False, True])
def test_joints_are_those_of_inference_topdown(rtmpose: RTMPose, loop: Loop, folder: Path, flip: bool) -> None:
    estimator = make(folder, flip=True) if flip else rtmpose
    shown = pictures()
    which = regions(shown, 10)
    mine = estimator.estimate(shown, which)
    spread = []
    for n, (k, region) in enumerate(which):
        keypoints, scores = loop(shown[k], region, flip)
        np.testing.assert_allclose(mine.keypoints[n, :, :2], keypoints, rtol=0, atol=1e-3)
        np.testing.assert_allclose(mine.keypoints[n, :, 2], scores.clip(0, 1), atol=1e-4)
        spread.append(np.ptp(keypoints, axis=0) / (region.width, region.height))
    # Joints do not all lie in one place, nor are confidences all at an end: the comparison says something.
    assert np.median(spread) > 0.3
    assert 0.1 < np.median(mine.keypoints[..., 2]) < 0.9
    assert estimator.version == f"1.3.2-rtmpose-t-halpe26{'-flip' if flip else ''}+rtdetr"


def test_joints_on_real_footage_are_those_of_inference_topdown(rtmpose: RTMPose, loop: Loop, shared_data: Path) -> None:
    frames = [picture for _, picture in islice(read_frames(shared_data / "clips" / "tiktok_low1.mp4"), 8)]
    height, width = frames[0].shape[:2]
    which = [
        (n, Region(width * (0.3 + 0.2 * k), height * 0.5, width * 0.25, height * 0.55))
        for n in (0, 7)
        for k in range(2)
    ]
    mine = rtmpose.estimate(frames, which)
    for n, (k, region) in enumerate(which):
        np.testing.assert_allclose(mine.keypoints[n, :, :2], loop(frames[k], region, False)[0], rtol=0, atol=1e-3)


def test_the_joints_have_the_names_and_sides_that_mmpose_gives_them(loop: Loop, rtmpose: RTMPose) -> None:
    names = [loop.meta["keypoint_id2name"][n] for n in range(26)]  # type: ignore[attr-defined]
    assert [{"hip": "mid_hip"}.get(name, name) for name in names] == list(HALPE_26.joints)
    assert rtmpose._mirrored.tolist() == loop.meta["flip_indices"]  # type: ignore[attr-defined]


def test_the_batch_changes_nothing(rtmpose: RTMPose) -> None:
    shown = pictures()
    which = regions(shown, 6)
    together = rtmpose.estimate(shown, which)
    for n, (k, region) in enumerate(which):
        alone = rtmpose.estimate([shown[k]], [(0, region)])
        np.testing.assert_allclose(together.keypoints[n], alone.keypoints[0], atol=1e-3)


def test_nobody_is_invented_where_the_detector_sees_nobody(rtmpose: RTMPose, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = [(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))]
    monkeypatch.setattr(rtmpose.detector, "detect", lambda shown, least: nobody * len(shown.sizes))
    frames = [(k / 30, np.full((120, 90, 3), 200, np.uint8)) for k in range(4)]
    assert track_poses(frames, (0, 0, 90, 120), rtmpose).shape == (4, 0, 25, 3)


def test_through_the_tracker_to_body_25(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = make(folder, batch=4)
    person = (np.float32([[20, 10, 70, 110]]), np.float32([0.9]))
    monkeypatch.setattr(estimator.detector, "detect", lambda shown, least: [person] * len(shown.sizes))
    picture = pictures()[0][:120, :90]
    poses = track_poses([(k / 30, picture) for k in range(6)], (0, 0, 90, 120), estimator)
    assert poses.shape == (6, 1, 25, 3)
    [detection] = estimator.detect([picture])[0]
    expected = estimator.estimate([picture], [(0, detection.region)]).keypoints[0]
    # The same picture six times: neck, mid-hip and a toe are the network's own, not made from others.
    for joint, halpe in ((1, "neck"), (8, "mid_hip"), (19, "left_big_toe"), (24, "right_heel")):
        x, y, confidence = expected[HALPE_26.index(halpe)]
        if confidence >= 0.2 and 0 <= x <= 89 and 0 <= y <= 119:
            np.testing.assert_allclose(poses[:, 0, joint], np.tile(expected[HALPE_26.index(halpe)], (6, 1)), rtol=1e-4)
        else:
            assert (poses[:, 0, joint] == 0).all()


def test_half_precision_runs_and_says_so(rtmpose: RTMPose, folder: Path) -> None:
    half = make(folder, half=True)
    assert half.version == "1.3.2-rtmpose-t-halpe26-fp16+rtdetr-fp16"
    shown = pictures()
    which = regions(shown, 3)
    np.testing.assert_allclose(
        half.estimate(shown, which).keypoints[..., 2], rtmpose.estimate(shown, which).keypoints[..., 2], atol=0.03
    )


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return exec, (f"open({str(tmp_path / 'harm')!r}, 'w')",)

    torch.save({"state_dict": {"a": torch.ones(2)}, "meta": Harmful()}, tmp_path / "weights.pth")
    assert read_checkpoint(tmp_path / "weights.pth")["a"].tolist() == [1, 1]
    assert not (tmp_path / "harm").exists()
    with pytest.raises(Exception, match="Unsupported global"):
        # The check itself is as it was.
        torch.load(tmp_path / "weights.pth", weights_only=True)


def test_weights_that_are_none_are_explained(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        make(folder, weights=str(tmp_path / "no.pth"))
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UserError, match="can't be read"):
        read_checkpoint(tmp_path / "text.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UserError, match="holds no weights"):
        read_checkpoint(tmp_path / "empty.pth")
    with pytest.raises(UserError, match="is not of RTMPose-s with 26 joints"):
        _ = make(folder, model="s").network
    with pytest.raises(UserError, match="no RTMPose model 'xl': choose one of t, s, m"):
        make(folder, model="xl")


def test_the_zoos_weights_are_held_to_their_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    content = b"not the weights"
    source = tmp_path / "served"
    source.mkdir()
    name = MODELS["t"][1]
    (source / name).write_bytes(content)
    monkeypatch.setattr(mmpose, "_ZOO", source.as_uri() + "/")
    with pytest.raises(UserError, match="weights=PATH"):
        mmpose.fetch_weights("t")
    assert not list(tmp_path.glob("tiktok-dm/**/*.pth*"))
    good = f"rtmpose-t-{hashlib.sha256(content).hexdigest()[:8]}_20230605.pth"
    (source / good).write_bytes(content)
    monkeypatch.setitem(MODELS, "t", (MODELS["t"][0], good))
    assert mmpose.fetch_weights("t").read_bytes() == content
    (source / good).unlink()
    assert mmpose.fetch_weights("t").read_bytes() == content  # from the cache


def test_every_model_of_the_zoo_has_its_configuration_in_mmpose() -> None:
    for size, (config, weights) in MODELS.items():
        settings = configuration(size)
        width, height = settings.codec.input_size
        assert config.endswith(f"{height}x{width}.py")
        assert f"{height}x{width}" in weights
        assert settings.model.head.out_channels == 26
        assert settings.test_dataloader.dataset.pipeline[1].type == "GetBBoxCenterScale"


def test_stand_ins_leave_nothing_behind() -> None:
    with stand_ins("surely_absent"):
        module = importlib.import_module("surely_absent.part")
        assert issubclass(module.Anything, torch.nn.Module)
    assert not [name for name in sys.modules if name.startswith("surely_absent")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("surely_absent.part")
    # What mmpose itself got a stand-in for stays absent for everybody else.
    assert "xtcocotools" not in sys.modules or importlib.util.find_spec("xtcocotools")
