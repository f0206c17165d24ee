"""Opening a dataset without a system library, and with the decoders of `datasets` where they are installed."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from export_factory import META, make_items, pictures, private_cache

from tiktok_dm import reading
from tiktok_dm.dataset.export import export
from tiktok_dm.dataset.rows import ClipItem
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.reading import decode_audio, decode_video, features, missing_decoder, open_dataset


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[ClipItem]:
    return make_items(tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def out(items: list[ClipItem], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "tiny"
    export(items, folder, META)
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private_cache(monkeypatch, tmp_path / "cache")


@pytest.fixture
def decoders() -> None:
    missing = missing_decoder()
    if missing:
        pytest.skip(missing)


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_and_sound_without_a_system_library(items: list[ClipItem], out: Path, streaming: bool) -> None:
    row = next(iter(open_dataset(out, streaming=streaming)["test"]))
    item = items[3]
    assert row["clip_id"] == item.clip_id == 7
    shown = np.stack(list(decode_video(row["video"])))
    assert shown.shape == (61, 64, 96, 3)
    assert shown.dtype == np.uint8
    # The block moves a pixel a frame; H.264 blurs colours but not its place.
    for k, (picture, truth) in enumerate(zip(shown, pictures(7, 61), strict=True)):
        np.testing.assert_array_equal(picture[32, :, 0] > 150, truth[32, :, 0] > 150, err_msg=f"frame {k}")
    samples, rate = decode_audio(row["audio"])
    assert (rate, samples.dtype, samples.shape) == (22_050, np.float32, (round(61 / 30 * 22_050),))
    np.testing.assert_array_equal(samples, soundfile.read(item.audio, dtype="float32")[0])


def test_segments_decode_to_two_seconds(out: Path) -> None:
    for split, part in open_dataset(out, "segments").items():
        for row in part:
            assert decode_audio(row["audio"])[0].shape == (44_100,), split


def test_pictures_come_one_at_a_time(items: list[ClipItem]) -> None:
    frames = decode_video({"bytes": items[0].video.read_bytes(), "path": None})
    assert next(frames).shape == (64, 96, 3)
    frames.close()  # type: ignore[attr-defined]


def test_bare_bytes_will_do(items: list[ClipItem]) -> None:
    assert len(list(decode_video(items[0].video.read_bytes()))) == 75
    assert decode_audio(items[0].audio.read_bytes())[1] == 22_050


def test_stereo_keeps_its_channels() -> None:
    data = io.BytesIO()
    soundfile.write(data, np.zeros((100, 2)), 44_100, format="WAV")
    samples, rate = decode_audio(data.getvalue())
    assert (samples.shape, rate) == ((100, 2), 44_100)


def test_errors_are_sentences(tmp_path: Path, items: list[ClipItem]) -> None:
    with pytest.raises(UserError, match=r"there is no configuration 'frames' .* clips and segments"):
        open_dataset(tmp_path, "frames")
    with pytest.raises(UserError, match=r"holds no dataset \(it has no README.md\)"):
        open_dataset(tmp_path)
    with pytest.raises(UserError, match="there is no dataset at"):
        open_dataset(tmp_path / "no" / "where")
    with pytest.raises(
        UserError, match=r"holds no encoded bytes: open the dataset with tiktok_dm.reading.open_dataset"
    ):
        decode_audio({"bytes": None, "path": "x.flac"})
    with pytest.raises(MediaError, match=r"a stored video cannot be decoded .* `tiktok-dm verify`"):
        list(decode_video(b"no video"))
    with pytest.raises(MediaError, match=r"a stored sound cannot be decoded .* `tiktok-dm verify`"):
        decode_audio(b"no sound")
    with pytest.raises(MediaError, match="holds no picture"):
        list(decode_video(items[0].audio.read_bytes()))


def test_features_of_an_unknown_configuration() -> None:
    with pytest.raises(UserError, match="the configurations are clips and segments"):
        features("frame")


class Refusing:
    """An import hook for which torchcodec is there but breaks in one way."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchcodec" or name.startswith("torchcodec."):
            raise self.error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module named 'torchcodec'", name="torchcodec"), "needs torchcodec: run pip install"),
        (
            RuntimeError("Could not load libtorchcodec. Likely causes: FFmpeg is not properly installed"),
            "needs the shared libraries of FFmpeg 4 to 8, which torchcodec did not find",
        ),
        (OSError("libavutil.so.60: cannot open shared object file"), "apt-get install ffmpeg or brew install ffmpeg"),
        (ImportError("undefined symbol: _ZN3c10"), "needs a torchcodec that fits the installed PyTorch"),
    ],
)
def test_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchcodec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refusing(error), *sys.meta_path])
    sentence = reading.missing_decoder.__wrapped__()
    assert sentence is not None
    assert words in sentence
    assert "\n" not in sentence
    assert sentence.startswith("To decode video and audio columns by itself, datasets needs ")
    assert sentence.endswith("(tiktok_dm.reading opens the dataset without it).")


@pytest.mark.usefixtures("decoders")
def test_load_dataset_decodes_the_same_pictures_and_samples(items: list[ClipItem], out: Path) -> None:
    import datasets

    row = datasets.load_dataset(str(out), split="test")[0]
    video = row["video"]
    assert len(video) == 61
    theirs = np.stack([frame.numpy().transpose(1, 2, 0) for frame in video])
    ours = np.stack(list(decode_video(items[3].video.read_bytes())))
    assert theirs.shape == ours.shape
    assert np.abs(theirs.astype(int) - ours).max() <= 4, "two conversions from YUV may round differently"
    samples = row["audio"]
    assert samples["sampling_rate"] == 22_050
    np.testing.assert_allclose(samples["array"], soundfile.read(items[3].audio, dtype="float32")[0], atol=1e-6)


@pytest.mark.usefixtures("decoders")
def test_load_dataset_decodes_segments_while_streaming(items: list[ClipItem], out: Path) -> None:
    import datasets

    rows = list(datasets.load_dataset(str(out), "segments", split="train", streaming=True))
    whole = soundfile.read(items[1].audio, dtype="float32")[0]
    np.testing.assert_allclose(rows[2]["audio"]["array"], whole[44_100:88_200], atol=1e-6)
