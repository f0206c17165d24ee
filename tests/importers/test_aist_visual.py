"""Visual features of AIST++'s segments: which pictures a window holds, what is left out, what is made again, and that
the released AIST model takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from aist_factory import tone, write_dance, write_layout, write_music
from typer.testing import CliRunner

from tests.visual.visual_factory import BrightnessFlow, write_weights
from tiktok_dm import schema
from tiktok_dm.cli.main import app
from tiktok_dm.dataset.verify import verify
from tiktok_dm.errors import UserError
from tiktok_dm.importers import segment_set
from tiktok_dm.importers.aist.driver import AistOptions, build_aist
from tiktok_dm.importers.aist.layout import GENRES
from tiktok_dm.media import read_frames, write_video
from tiktok_dm.pipeline import visual as stage
from tiktok_dm.pipeline.visual import VisualParams
from tiktok_dm.reading import open_dataset
from tiktok_dm.visual import flow as flows
from tiktok_dm.visual.base import VisualSource, Window, squared
from tiktok_dm.visual.registry import get_extractor

# 130, 120, 120 and 130 beats a minute: dances of 3, 4, 4 and 3 segments.
TRAIN = ("gBR_sBM_cAll_d05_mBR5_ch03", "gHO_sBM_cAll_d19_mHO2_ch04")
TEST = ("gLH_sBM_cAll_d17_mLH4_ch02", "gWA_sBM_cAll_d25_mWA5_ch07")
FRAMES = {TRAIN[0]: 443, TRAIN[1]: 480, TEST[0]: 479, TEST[1]: 443}
SIDE = 16


class RandomNetwork:
    """Random weights: a window's first and last picture and its mean, projected; what went in is kept."""

    name, version, features, side, batch, method = "random", "1", 2048, SIDE, 3, "a random projection"

    def __init__(self, seed: int = 0) -> None:
        self.weights = {"random.pt": f"{seed:064d}"}
        self.matrix = np.random.default_rng(seed).normal(size=(3 * SIDE * SIDE * 3, 2048)).astype(np.float32)
        self.batches: list[list[Window]] = []

    def check(self) -> None:
        pass

    def extract(self, windows: Sequence[Window]) -> np.ndarray:
        self.batches.append(list(windows))
        assert {window.shape for window in windows} == {(60, SIDE, SIDE, 3)}
        parts = [np.stack([w[0], w[-1], w.mean(axis=0)]).reshape(-1).astype(np.float32) / 255 for w in windows]
        return (np.stack(parts) @ self.matrix / 30).astype(np.float32)


def write_ramp(media: Path, name: str, frames: int) -> None:
    """A video at 60 fps, 64 x 36, whose brightness says which frame of its two seconds it is; the sides are black."""
    media.mkdir(exist_ok=True)

    def picture(k: int) -> np.ndarray:
        shown = np.zeros((36, 64, 3), np.uint8)
        shown[:, 12:52] = 20 + 1.5 * (k % 120)
        return shown

    sound = tone(frames / 60, sum(map(ord, name)) / 5)  # no two files with the same bytes
    pictures = (picture(k) for k in range(frames))
    write_video(media / f"{name}.mp4", pictures, 60, audio=sound, sample_rate=22_050, preset="ultrafast", crf=8)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aist")
    write_layout(root / "aist_plusplus_final", TRAIN, TEST)
    for seed, (name, frames) in enumerate(FRAMES.items()):
        write_dance(root / "aist_plusplus_final", name, frames, seed)
        write_ramp(root / "videos", name.replace("cAll", "c01"), frames)
    return root


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> RandomNetwork:
    """Whatever extractor is asked for."""
    made = RandomNetwork()
    monkeypatch.setattr(stage, "get_extractor", lambda *asked: made)
    return made


def asked(written: Path, out: Path, **changes: object) -> AistOptions:
    given = {"visual": VisualParams(), "clips": False, "media": written / "videos"} | changes
    return AistOptions(annotations=written / "aist_plusplus_final", out=out, **given)  # type: ignore[arg-type]


def vectors(out: Path) -> dict[str, np.ndarray]:
    opened = open_dataset(out, "segments", streaming=True)
    return {row["segment_id"]: np.asarray(row["visual"], np.float32) for split in opened for row in opened[split]}


def names(*dances: str) -> list[str]:
    return [f"{dance.replace('cAll', 'c01')}_seg{k + 1}" for dance in dances for k in range((FRAMES[dance] + 3) // 120)]


def test_windows_are_every_second_picture_of_the_published_two_seconds(
    written: Path, tmp_path: Path, network: RandomNetwork
) -> None:
    result = build_aist(asked(written, tmp_path / "out"))
    assert [part["segments"] for part in result.report["splits"].values()] == [7, 7]
    # A dance's windows by themselves, at most three at once.
    assert [len(batch) for batch in network.batches] == [3, 3, 1, 3, 1, 3]
    for batch in network.batches:
        for window in batch:
            levels = window.astype(float).mean(axis=(1, 2, 3))
            # The middle square alone: no black sides. Frame 2 k of 120, but for the last of 479, which stands.
            assert np.abs(levels - (20 + 3 * np.arange(60))).max() < 2.5
    found = vectors(tmp_path / "out")
    assert list(found) == names(*TRAIN, *TEST)
    # The rows are in the order of the windows.
    rest = [window for batch in network.batches for window in batch]
    for name, window in zip(found, rest, strict=True):
        np.testing.assert_allclose(found[name], RandomNetwork().extract([window])[0], atol=1e-5)
    features = open_dataset(tmp_path / "out", "segments")["train"].features
    assert list(features) == [*schema.SEGMENT_COLUMNS, "genre", "visual"]
    assert (features["visual"].length, features["visual"].feature.dtype) == (2048, "float32")
    assert [str(finding) for finding in verify(tmp_path / "out", decoders=False).findings] == []
    card = (tmp_path / "out" / "README.md").read_text()
    assert "a random projection" in card
    assert f"weights by SHA-256: `random.pt` {'0' * 64}." in card
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text() + card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_i3d_s_features_are_those_of_the_video(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    monkeypatch.setitem(flows.FLOWS, "brightness", BrightnessFlow)
    source = VisualSource((write_weights(tmp_path / "weights"),), "cpu")
    media = tmp_path / "videos"
    media.mkdir()
    video = f"{TRAIN[0].replace('cAll', 'c01')}.mp4"
    (media / video).symlink_to(written / "videos" / video)
    params = VisualParams(flow="brightness", size=32)
    build_aist(asked(written, tmp_path / "out", media=media, visual=params, visual_source=source))
    found = vectors(tmp_path / "out")
    assert list(found) == names(TRAIN[0])
    extractor = get_extractor("i3d", "brightness", 32, source)
    pictures = [squared(picture, (0, 0, 64, 36), extractor.side) for _, picture in read_frames(media / video)]
    window = np.stack(pictures[120:240:2])  # of the file's own 60 a second
    np.testing.assert_allclose(found[names(TRAIN[0])[1]], extractor.extract([window])[0], atol=1e-4)


def test_what_has_no_video_or_a_broken_or_short_one(written: Path, tmp_path: Path, network: RandomNetwork) -> None:
    media = tmp_path / "media"
    write_ramp(media, TRAIN[0].replace("cAll", "c01"), 443)
    write_music(media, "mHO2", 9.0, 330.0)  # sound alone
    write_music(media, "mLH4", 9.0, 330.0)
    write_ramp(media, TEST[0].replace("cAll", "c01"), 300)
    whole = (written / "videos" / f"{TEST[1].replace('cAll', 'c01')}.mp4").read_bytes()
    (media / f"{TEST[1].replace('cAll', 'c01')}.mp4").write_bytes(whole[:600])
    write_music(media, "mWA5", 9.0, 330.0)
    result = build_aist(asked(written, tmp_path / "out", media=media))
    assert result.report["missing"] == {"motion": [], "sound": [], "video": [TRAIN[1]]}
    assert [entry["file"] for entry in result.report["broken"]] == [f"{TEST[1].replace('cAll', 'c01')}.mp4"]
    assert str(media) not in json.dumps(result.report)
    assert result.report["other_length"] == [{"sequence": TEST[0], "segments": 2, "by_beats": 4}]
    assert list(vectors(tmp_path / "out")) == [*names(TRAIN[0]), *names(TEST[0])[:2]]
    assert f"1 sequence without video: {TRAIN[1]}" in result.sentences()
    # With sound alone there is nothing to make, and without features it would do.
    (tmp_path / "sounds").mkdir()
    for name in ("mHO2", "mLH4", "mWA5"):
        (media / f"{name}.wav").rename(tmp_path / "sounds" / f"{name}.wav")
    with pytest.raises(
        UserError, match=r"no segment can be made: 1 sequence without sound: .*; 3 sequences without video"
    ):
        build_aist(asked(written, tmp_path / "none", media=tmp_path / "sounds"))
    assert not (tmp_path / "none").exists()
    assert (
        build_aist(asked(written, tmp_path / "none", media=tmp_path / "sounds", visual=None)).counts["segments"] == 11
    )


def test_a_picture_that_ends_before_its_sound_gives_no_features_of_nothing(
    written: Path, tmp_path: Path, network: RandomNetwork
) -> None:
    """The container is as long as the dance; its picture ends after two of four segments."""
    media = tmp_path / "media"
    media.mkdir()
    name = TRAIN[1].replace("cAll", "c01")
    pictures = (np.full((36, 64, 3), 90, np.uint8) for _ in range(250))
    write_video(media / f"{name}.mp4", pictures, 60, audio=tone(8.0, 300.0), sample_rate=22_050, preset="ultrafast")
    result = build_aist(asked(written, tmp_path / "out", media=media))
    assert list(vectors(tmp_path / "out")) == names(TRAIN[1])[:2]
    assert result.report["other_length"] == [{"sequence": TRAIN[1], "segments": 2, "by_beats": 4}]


def test_a_stopped_build_makes_no_features_again(
    written: Path, tmp_path: Path, network: RandomNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = asked(written, tmp_path / "out")
    original = network.extract
    calls = []

    def stops(windows: Sequence[Window]) -> np.ndarray:
        calls.append(len(windows))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(windows)

    with monkeypatch.context() as patch:
        patch.setattr(network, "extract", stops)
        with pytest.raises(KeyboardInterrupt):
            build_aist(options)
    assert calls == [3, 3, 1, 3]
    assert not (tmp_path / "out").exists()
    network.batches.clear()
    with monkeypatch.context() as patch:
        patch.setattr(segment_set, "write_manifest", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_aist(options)
    assert [len(batch) for batch in network.batches] == [3, 1, 3], "the train dances' are there"
    network.batches.clear()
    result = build_aist(options)
    assert network.batches == []
    assert not (tmp_path / "out.work").exists()
    assert build_aist(options).counts == {**result.counts, "unchanged": True}
    assert network.batches == []
    build_aist(asked(written, tmp_path / "other"))
    manifests = [(tmp_path / out / "manifest.json").read_bytes() for out in ("out", "other")]
    assert manifests[0] == manifests[1]
    # Other weights, other features; and back to none.
    monkeypatch.setattr(stage, "get_extractor", lambda *asked: RandomNetwork(1))
    before = vectors(tmp_path / "out")
    assert not build_aist(options).counts["unchanged"]
    after = vectors(tmp_path / "out")
    assert min(np.abs(after[name] - before[name]).max() for name in before) > 1e-2
    build_aist(asked(written, tmp_path / "out", visual=None))
    assert "visual" not in open_dataset(tmp_path / "out", "segments")["train"].column_names


def test_the_command_passes_features_and_the_order_of_genres_on(
    written: Path, tmp_path: Path, network: RandomNetwork
) -> None:
    words = ["import", "aist++", "--annotations", str(written / "aist_plusplus_final")]
    words += ["--media", str(written / "videos"), "--segments-only", "--json"]
    order = sorted(GENRES)
    shown = CliRunner().invoke(
        app, [*words, "--out", str(tmp_path / "out"), "--visual", "i3d", "--genre-order", ",".join(order)]
    )
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["segments"] == 14
    rows = list(open_dataset(tmp_path / "out", "segments", streaming=True)["train"])
    assert [int(np.argmax(row["genre"])) for row in rows] == [order.index("BR")] * 3 + [order.index("HO")] * 4
    assert {len(row["visual"]) for row in rows} == {2048}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "here it is BR, HO, JB, JS, KR, LH, LO, MH, PO, WA." in card
    assert "one-hot of BR, HO, JB, JS, KR, LH, LO, MH, PO, WA |" in card
    assert verify(tmp_path / "out", decoders=False).findings == []
    wrong = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "no"), "--genre-order", "BR,PO"])
    assert "the order of the genres is BR,PO: give each of BR,PO,LO,MH,LH,HO,WA,KR,JS,JB once" in str(wrong.exception)


def test_wrong_weights_stop_before_any_work(written: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"I3D needs its weights: give --visual-weights a folder with rgb_imagenet\.pt"):
        build_aist(asked(written, tmp_path / "out"))
    source = VisualSource((tmp_path / "nowhere",), "cpu")
    with pytest.raises(UserError, match="there are no weights at"):
        build_aist(asked(written, tmp_path / "out", visual_source=source))
    assert list(tmp_path.iterdir()) == []


def test_the_released_model_trains_on_it(written: Path, tmp_path: Path, network: RandomNetwork) -> None:
    """Two steps of the released AIST configuration, its sizes aside: motion (120, 219), features and genre."""
    pytest.importorskip("torch")
    from tests.d2m_model.tiny_training import train_two_steps

    build_aist(asked(written, tmp_path / "out"))
    model, losses = train_two_steps("released_aist_high", tmp_path / "out", tmp_path)
    assert (model.motion_frames, model.motion_features) == (120, 219)
    assert (model.visual_features, model.genres) == (2048, 10)
    assert losses[-1]["step"] == 2
    assert all(np.isfinite(value) for row in losses for value in row.values())
