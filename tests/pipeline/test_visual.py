"""Visual features through the build: where windows lie, what is made again and when, and what comes out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.pipeline.build_factory import CLIPS, options, tree, use_one_person, write_annotations, write_films
from tests.visual.visual_factory import BrightnessFlow, Thumbnails, write_weights
from tiktok_dm.dataset.verify import verify
from tiktok_dm.errors import UserError
from tiktok_dm.pipeline import stages
from tiktok_dm.pipeline.plan import Parameters
from tiktok_dm.pipeline.poses import PosesParams
from tiktok_dm.pipeline.remove import remove
from tiktok_dm.pipeline.run import BuildOptions, build, plan_build
from tiktok_dm.pipeline.visual import SegmentReader, VisualParams
from tiktok_dm.reading import open_dataset
from tiktok_dm.visual import flow as flows
from tiktok_dm.visual.base import VisualSource, Window, squared
from tiktok_dm.visual.registry import get_extractor

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 32  # px that I3D looks at here


class Counting:
    """An extractor whose features are the window's number and the levels of its first and last picture."""

    name, version, weights, features, side, batch, method = "counting", "1", {}, 3, 8, 2, "counting"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def check(self) -> None:
        pass

    def extract(self, windows: Sequence[Window]) -> np.ndarray:
        first = sum(self.batches)
        self.batches.append(len(windows))
        assert {window.shape for window in windows} == {(60, 8, 8, 3)}
        return np.array([[first + k, w[0, 0, 0, 0], w[-1, 0, 0, 0]] for k, w in enumerate(windows)], np.float32)


def level(value: int) -> np.ndarray:
    return np.full((12, 20, 3), value, np.uint8)


def test_windows_lie_where_segments_lie() -> None:
    """Segment K is pictures 60 (K - 1) to 60 K - 1 of the poses' grid; a rest of less than 2 s is dropped."""
    extractor = Counting()
    reader = SegmentReader(extractor, (4, 0, 12, 12), 7.9)
    for k in range(237):
        reader.take(level(k))
    found = reader.finish()
    assert found.tolist() == [[0, 0, 59], [1, 60, 119], [2, 120, 179]]
    assert extractor.batches == [2, 1]


def test_a_clip_a_picture_short_repeats_its_last_one() -> None:
    reader = SegmentReader(Counting(), (0, 0, 20, 12), 4.0)
    for k in range(119):
        reader.take(level(k))
    assert reader.finish().tolist() == [[0, 0, 59], [1, 60, 118]]
    assert SegmentReader(Counting(), (0, 0, 20, 12), 1.9).finish().shape == (0, 3)


def test_only_the_middle_square_of_the_picture_proper_is_seen() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 5:55] = 50  # the picture proper
    picture[10:30, 20:40] = 200  # its middle square
    assert squared(picture, (5, 10, 50, 20), 16).tolist() == np.full((16, 16, 3), 200).tolist()
    upright = picture.transpose(1, 0, 2)
    assert (squared(upright, (10, 5, 20, 50), 16) == 200).all()
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, axis=0).repeat(3, axis=2)
    np.testing.assert_allclose(squared(ramp, (0, 0, 64, 64), 16)[8, :, 0], np.arange(16) * 4 + 1.5, atol=0.51)


# ------------------------------------------------------------------------------------------------------------- builds


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_films(tmp_path_factory.mktemp("films"), CLIPS | {2: (1, 0, 0.0, 2.0), 3: (1, 2, 2.0, 6.0)})
    write_weights(root / "weights")
    return root


@pytest.fixture
def root(films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_one_person(monkeypatch)
    monkeypatch.setitem(flows.FLOWS, "brightness", BrightnessFlow)
    shutil.copytree(films, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def thumbnails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever extractor is asked for, it is one that costs nothing."""
    monkeypatch.setattr(stages.visual, "get_extractor", lambda *asked: Thumbnails())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages that really ran, and `decode` for each pass over a stored clip's pictures."""
    names: list[str] = []
    _count(monkeypatch, names, stages.segment, "segment", "segment")
    _count(monkeypatch, names, stages.poses, "keep", "poses")
    _count(monkeypatch, names, stages.music, "music", "music")
    _count(monkeypatch, names, stages.visual, "visual", "visual")
    from tiktok_dm import media

    _count(monkeypatch, names, media, "read_frames", "decode")
    return names


def _count(monkeypatch: pytest.MonkeyPatch, names: list[str], module: Any, attribute: str, name: str) -> None:
    original = getattr(module, attribute)

    def counted(*args: Any, **given: Any) -> Any:
        names.append(name)
        return original(*args, **given)

    monkeypatch.setattr(module, attribute, counted)


def asked(root: Path, **changes: Any) -> BuildOptions:
    """A build with I3D of 32 px."""
    parameters = Parameters(
        poses=PosesParams(estimator="one-person"), visual=VisualParams(flow="brightness", size=SIZE)
    )
    given = {"parameters": parameters, "visual": VisualSource((root / "weights",), "cpu")} | changes
    return options(root, **given)


def column(out: Path) -> dict[str, np.ndarray]:
    opened = open_dataset(out, "segments")
    return {
        row["segment_id"]: np.asarray(row["visual"], np.float32) for split in opened for row in opened[split].to_list()
    }


def test_a_build_with_features_and_what_it_makes_again(root: Path, ran: list[str]) -> None:
    assert build(asked(root)).counts == {"ok": 4}
    # Poses and features came from one pass over each clip.
    assert [ran.count(name) for name in ("segment", "poses", "visual", "music", "decode")] == [4, 4, 4, 4, 4]
    found = column(root / "out")
    assert sorted(found) == ["000000_0_0_seg1", "000000_1_1_seg1", "000001_0_2_seg1", *_ids(2)]
    assert {vector.shape for vector in found.values()} == {(2048,)}
    features = open_dataset(root / "out", "segments")["train"].features
    assert (features["visual"].length, features["visual"].feature.dtype) == (2048, "float32")
    assert verify(root / "out", decoders=False).findings == []
    card = (root / "out" / "README.md").read_text()
    lock = json.loads((root / "out" / "lock.json").read_text())
    told = lock["clips"]["3"]["visual"]
    assert (told["n_windows"], told["n_features"], told["extractor"]) == (2, 2048, "i3d")
    assert sorted(told["weights"]) == ["flow_imagenet.pt", "rgb_imagenet.pt"]
    assert all(sha256 in card for sha256 in told["weights"].values())
    assert "| `visual` | float32\\[2048\\] |" in card

    ran.clear()
    assert build(asked(root)).unchanged
    assert ran == []

    # Other weights: the features alone are made again, from the clips that the dataset holds.
    write_weights(root / "weights", seed=40)
    assert not build(asked(root)).unchanged
    assert [ran.count(name) for name in ("segment", "poses", "music", "visual", "decode")] == [0, 0, 0, 4, 4]
    other = column(root / "out")
    assert min(np.abs(other[name] - found[name]).max() for name in found) > 1e-3
    assert verify(root / "out", decoders=False).findings == []


def test_a_pass_of_their_own_gives_the_same_bytes(root: Path, ran: list[str], thumbnails: None) -> None:
    """Features that come later, by a second pass over the clips, are those that the poses' pass would have made."""
    build(options(root))
    build(asked(root))
    assert [ran.count(name) for name in ("poses", "visual", "decode")] == [4, 4, 8]
    later = tree(root / "out")
    for folder in (root / "out", root / "out.work"):
        shutil.rmtree(folder)
    build(asked(root))
    assert tree(root / "out") == later


def _ids(count: int) -> list[str]:
    return [f"000001_2_3_seg{k + 1}" for k in range(count)]


def test_features_are_those_of_the_windows(root: Path) -> None:
    """From the stored clip by hand: 60 pictures from 2 s on, the whole picture's middle square."""
    from tiktok_dm.reading import decode_video

    build(asked(root))
    clips = open_dataset(root / "out", "clips")
    row = next(row for split in clips for row in clips[split] if row["clip_id"] == 3)
    pictures = list(decode_video(row["video"]))[60:120]
    extractor = get_extractor("i3d", "brightness", SIZE, VisualSource((root / "weights",), "cpu"))
    window = np.stack([squared(picture, tuple(row["content_box"]), extractor.side) for picture in pictures])
    found = column(root / "out")
    np.testing.assert_allclose(found["000001_2_3_seg2"], extractor.extract([window])[0], atol=1e-4)
    # RGB first: it alone changes with the RGB stream's weights, and a still window has no flow.
    still = np.repeat(window[:1], 60, axis=0)
    moving, rest = extractor.extract([window, still])
    np.testing.assert_allclose(moving, extractor.extract([window])[0], atol=1e-4)
    other = write_weights(root / "other", seed=9)
    shutil.copy(root / "weights" / "flow_imagenet.pt", other)
    mixed = get_extractor("i3d", "brightness", SIZE, VisualSource((other,), "cpu")).extract([window])[0]
    np.testing.assert_allclose(mixed[1024:], moving[1024:], atol=1e-4)
    assert np.abs(mixed[:1024] - moving[:1024]).max() > 1e-2
    assert np.abs(rest[1024:] - moving[1024:]).max() > 1e-3


def test_without_features_nothing_changes(root: Path, thumbnails: None) -> None:
    build(options(root))
    plain = tree(root / "out")
    assert b"visual" not in b"".join(data for name, data in plain.items() if not name.endswith("html"))
    segments = open_dataset(root / "out", "segments")
    assert "visual" not in segments["train"].column_names
    build(asked(root))
    assert "visual" in open_dataset(root / "out", "segments")["train"].column_names
    build(options(root))
    assert tree(root / "out") == plain


def test_what_is_taken_out_leaves_the_others_their_features(root: Path, thumbnails: None) -> None:
    build(asked(root))
    before = column(root / "out")
    remove(root / "out", "clip", 2, "asked to")
    after = column(root / "out")
    assert sorted(after) == sorted(set(before) - {"000001_0_2_seg1"})
    assert all(np.array_equal(after[name], before[name]) for name in after)
    assert verify(root / "out", decoders=False).findings == []
    whole = tree(root / "out")
    shutil.rmtree(root / "out.work")
    build(asked(root))
    assert tree(root / "out") == whole


def test_wrong_weights_stop_before_any_work(root: Path) -> None:
    with pytest.raises(UserError, match=r"--visual-weights a folder with rgb_imagenet\.pt and flow_imagenet\.pt"):
        build(asked(root, visual=VisualSource((), "cpu")))
    with pytest.raises(UserError, match="no weights at"):
        build(asked(root, visual=VisualSource((root / "nowhere",), "cpu")))
    shutil.copy(root / "weights" / "rgb_imagenet.pt", root / "weights" / "flow_imagenet.pt")
    with pytest.raises(UserError, match=r"flow_imagenet.pt holds Conv3d_1a_7x7.conv3d.weight as 64x3x7x7x7"):
        build(asked(root))
    with pytest.raises(UserError, match="did you mean 'i3d'"):
        build(asked(root, parameters=replace(asked(root).parameters, visual=VisualParams(extractor="i3dd"))))
    write_weights(root / "good")
    with pytest.raises(UserError, match="no device 'tpu9'"):
        build(asked(root, visual=VisualSource((root / "good",), "tpu9")))
    assert not (root / "out").exists()


def test_features_that_fail_leave_the_poses_and_are_tried_again(
    root: Path, thumbnails: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stages.visual.visual

    def broken(*args: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(stages.visual, "visual", broken)
    with pytest.raises(UserError, match="nothing was exported"):
        build(asked(root))
    entry = json.loads((root / "out" / "ledger.jsonl").read_text().splitlines()[-1])
    assert (entry["item"], entry["stage"], entry["status"]) == ("clip:3", "visual", "failed")
    assert "out of memory" in entry["reason"]
    assert len(list((root / "out.work" / "objects" / "poses").glob("*/*/record.json"))) == 4
    monkeypatch.setattr(stages.visual, "visual", original)
    assert build(asked(root)).counts == {"ok": 4}


def test_a_plan_says_what_features_cost(root: Path) -> None:
    assert "cpu_s_visual" not in plan_build(options(root)).cost()
    plan = plan_build(asked(root))
    assert plan.cost()["cpu_s_visual"] == 5 * 40  # five segments
    assert json.loads(plan.lines().splitlines()[0])["parameters"]["visual"]["extractor"] == "i3d"


def test_the_command_asks_for_features(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from tiktok_dm.cli import main as cli

    weights = str(root / "weights")
    arguments = ["build", str(root / "films"), "--media", str(root / "media"), "--out", str(root / "out")]
    monkeypatch.setattr("sys.argv", ["tiktok-dm", *arguments, "--visual-weights", weights])
    with pytest.raises(SystemExit, match="1"):
        cli.main()
    assert "--visual-weights goes with --visual" in capsys.readouterr().err
    dry = ["--pose", "one-person", "--visual", "i3d", "--visual-weights", weights, "--dry-run", "--json"]
    monkeypatch.setattr("sys.argv", ["tiktok-dm", *arguments, *dry])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert json.loads(capsys.readouterr().out)["cost"]["cpu_s_visual"] == 200


# ------------------------------------------------------------------------------------------------------------ the model


def test_the_paper_model_trains_on_the_features_and_samples(
    root: Path, thumbnails: None, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The preset that wants 2,048 visual features takes two steps on a built dataset, as narrow as it goes."""
    from d2m_model.cli import main as cli
    from d2m_model.codec.files import write_codec
    from d2m_model.codec.interface import freeze
    from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
    from d2m_model.training.run_folder import read_losses

    write_annotations(root / "films", {0: (0, 0, 0.0, 6.0), 1: (1, 1, 0.0, 2.5), 2: (1, 2, 2.5, 6.0)})
    build(asked(root))
    torch.manual_seed(1)
    codec = JukeboxVQVAE(2, JukeboxConfig(width=8, depth=2, latent_channels=8, n_codes=16))
    freeze(codec)
    (root / "codec").mkdir()
    write_codec(codec, root / "codec")
    said = {
        **{"dataset": root / "out", "codec": root / "codec", "cache": root / "cache", "out": root / "run"},
        **{"steps": 2, "batch": 2, "validation_songs": 1, "log_every": 1, "validate_every": 2, "save_every": 2},
        **{"samples": 0, "accelerator": "cpu", "threads": 1, "logger": "none", "model.width": 0.03125},
        **{"model.latent_channels": 8, "model.pose_axis": 80, "model.motion_embedding": 16, "decoded_frames": 8},
    }
    run(monkeypatch, cli, "train", "paper_high", *(f"{key}={value}" for key, value in said.items()))
    losses = read_losses(root / "run" / "losses.csv")
    assert losses[-1]["step"] == 2
    capsys.readouterr()
    sample = ("sample", str(root / "run" / "last"), str(root / "out"), "--split", "all", "--device", "cpu")
    run(monkeypatch, cli, *sample, "--no-video", "--out", str(root / "a"))
    written = json.loads((root / "a" / "samples.json").read_text())["samples"]
    assert {row["name"]: row["seconds"] for row in written} == {
        "clip_000000": 6,
        "clip_000001": 2.5,
        "clip_000002": 3.5,
    }
    # Without the column the same model says what is missing.
    build(options(root))
    with pytest.raises(SystemExit, match="1"):
        run(monkeypatch, cli, *sample, "--no-video", "--out", str(root / "b"))
    assert "have no visual features" in capsys.readouterr().err


def run(monkeypatch: pytest.MonkeyPatch, cli: Any, *arguments: str) -> None:
    """A `d2m` command that ends well, or SystemExit."""
    monkeypatch.setattr("sys.argv", ["d2m", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            raise
