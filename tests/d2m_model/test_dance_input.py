"""Dances from videos, datasets and arrays, and the verb that makes music for them."""

from __future__ import annotations

import json
from pathlib import Path

import av
import export_factory
import numpy as np
import pytest
import soundfile
import typer
from sampling_factory import moving_poses, tiny_codec, tiny_config, tiny_model, write_checkpoint
from typer.testing import CliRunner

from d2m_model.cli.sample import sample
from d2m_model.codec.files import fingerprint
from d2m_model.sampling.dance import Dance, dance_from_clip, dance_from_poses, dance_from_video, read_clips
from d2m_model.sampling.sampler import DanceToMusic
from tiktok_dm import media
from tiktok_dm.errors import MediaError, UserError

RATE = 22_050
LICENCE = "For tests only, and not for sale."


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A drawn dancer of 2.1 s in a decorated frame, and the true joints (63, 25, 2) px."""
    from tiktok_dm.synthetic.performance import joints_px, pictures
    from tiktok_dm.synthetic.plan import DemoParams, make_plan

    params = DemoParams(
        clips=1,
        songs=1,
        compilations=1,
        width=640,
        height=360,
        shortest_s=2.1,
        longest_s=2.1,
        layouts=("portrait",),
        title_s=0,
    )
    clip = make_plan(params)[0].clips[0]
    path = tmp_path_factory.mktemp("rendered") / "solo.mp4"
    media.write_video(path, pictures(params, clip), 30, preset="ultrafast")
    return path, joints_px(params, clip, np.arange(63) / 30)[:, 0]


@pytest.fixture(scope="session")
def posed(rendered: tuple[Path, np.ndarray]) -> Dance:
    """The drawn dancer as the estimator sees it."""
    return dance_from_video(rendered[0])


def estimate_once(monkeypatch: pytest.MonkeyPatch, dance: Dance) -> None:
    """Let the verb have these poses for the drawn dancer's film; other films are looked at."""
    monkeypatch.setattr(
        "d2m_model.sampling.dance.dance_from_video",
        lambda path, dancer=0: dance if path == dance.video else dance_from_video(path, dancer=dancer),
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three train clips (2.5, 4 and 1.1 s) and one test clip (2.033 s), with poses."""
    from tiktok_dm.dataset.export import export

    folder = tmp_path_factory.mktemp("dataset")
    export(export_factory.make_items(folder / "items"), folder / "tiny", export_factory.META)
    return folder / "tiny"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    export_factory.private_cache(monkeypatch, tmp_path_factory.getbasetemp() / "hub")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    codec = tiny_codec()
    codec.licence = LICENCE
    return write_checkpoint(tmp_path / "run" / "best", codec=codec)


def film(path: Path, seconds: float, *, picture: int = 0) -> Path:
    """An even grey film, in which nobody is."""
    frames = (np.full((64, 96, 3), picture, np.uint8) for _ in range(round(seconds * 30)))
    media.write_video(path, frames, 30, preset="ultrafast")
    return path


# --- where motion comes from


def test_a_video_gives_the_poses_that_are_in_it(rendered: tuple[Path, np.ndarray], posed: Dance) -> None:
    path, truth = rendered
    dance = posed
    assert (dance.name, dance.source, dance.video) == ("solo", "solo.mp4", path)
    assert dance.duration_s == pytest.approx(2.1, abs=1e-3)
    assert dance.poses.shape == (63, 25, 3)
    seen = dance.poses[..., 2] > 0
    assert seen.any(axis=1).mean() > 0.95
    torso = np.linalg.norm(truth[:, 1] - truth[:, 8], axis=-1).mean()
    error = np.linalg.norm(dance.poses[..., :2] - truth, axis=-1)[seen] / torso
    assert np.median(error) < 0.1


def test_a_video_in_music_of_its_length_out(rendered: tuple[Path, np.ndarray], posed: Dance) -> None:
    maker = DanceToMusic(tiny_model(), tiny_codec(), "cpu")
    music = maker(rendered[0])
    assert len(music.audio) == round(2.1 * RATE)
    assert np.array_equal(music.codes, maker(posed).codes)


def test_films_without_a_dance_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="shows no dancer in 66 pictures"):
        dance_from_video(film(tmp_path / "empty.mp4", 2.2, picture=120))
    with pytest.raises(MediaError, match="does not exist"):
        dance_from_video(tmp_path / "none.mp4")
    (tmp_path / "sound.wav").write_bytes(media.encode_audio(np.zeros(RATE * 3), RATE, "wav"))
    with pytest.raises(MediaError, match="holds sound but no moving picture"):
        dance_from_video(tmp_path / "sound.wav")
    whole = film(tmp_path / "whole.mp4", 3.0).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 4])
    with pytest.raises(MediaError):
        dance_from_video(tmp_path / "half.mp4")


def test_a_dataset_gives_its_stored_poses_and_bytes(dataset: Path) -> None:
    rows = list(read_clips(dataset, "train"))
    assert [row["clip_id"] for row in read_clips(dataset, "all")] == [0, 1, 3, 7]
    assert [row["clip_id"] for row in rows] == [0, 1, 3]
    dance = dance_from_clip(rows[1], dancer=2)
    assert (dance.name, dance.fps, dance.duration_s) == ("clip_000001", 30.0, 4.0)
    assert np.array_equal(dance.poses, export_factory.skeletons(1, 120, 3)[:, 2])
    assert isinstance(dance.video, bytes)
    assert dance.video[4:8] == b"ftyp"
    with pytest.raises(UserError, match=r"clip_000001 shows 3 dancers, counted from 0; there is no dancer 3"):
        dance_from_clip(rows[1], dancer=3)
    with pytest.raises(UserError, match=r"Unknown split 'tests' \(did you mean 'test'\?\)"):
        next(read_clips(dataset, "tests"))
    with pytest.raises(UserError, match="holds no dataset"):
        next(read_clips(dataset.parent, "test"))


def test_poses_as_numbers() -> None:
    poses = moving_poses(3.0)
    dance = dance_from_poses(poses)
    assert (dance.duration_s, dance.video) == (3.0, None)
    assert np.array_equal(dance_from_poses(poses.reshape(90, 75)).poses, poses)
    two = np.stack([poses, poses + 1], axis=1)
    assert np.array_equal(dance_from_poses(two, dancer=1).poses, poses + 1)
    assert dance_from_poses(poses, fps=60).duration_s == 1.5
    with pytest.raises(UserError, match=r"are 90x17x3; give frames x 25 joints"):
        Dance("x", poses[:, :17], 3.0)
    with pytest.raises(UserError, match="poses of here hold NaN"):
        dance_from_poses(np.where(poses > 300, np.nan, poses), name="here")
    with pytest.raises(UserError, match="show nobody"):
        dance_from_poses(np.zeros((90, 25, 3)))


# --- d2m sample


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and everything that was said, as the command would."""
    app = typer.Typer()
    app.command()(sample)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, UserError | SystemExit):
        raise result.exception
    return (1, f"{result.output}{result.exception}") if result.exception else (0, result.output)


def test_the_verb_makes_sound_film_and_record(
    rendered: tuple[Path, np.ndarray],
    posed: Dance,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimate_once(monkeypatch, posed)
    out = tmp_path / "out"
    code, said = run(checkpoint, rendered[0], "--out", out, "--device", "cpu", "--seed", 7)
    assert code == 0, said
    assert LICENCE in said
    assert sorted(path.name for path in out.iterdir()) == ["samples.json", "solo.mp4", "solo.wav"]
    sound, rate = soundfile.read(out / "solo.wav", dtype="float32")
    assert (len(sound), rate) == (round(2.1 * RATE), RATE)
    with soundfile.SoundFile(out / "solo.wav") as file:
        assert file.copyright == LICENCE
    with av.open(str(out / "solo.mp4")) as container:
        assert container.metadata["copyright"] == LICENCE
    assert media.probe(out / "solo.mp4").n_frames == 63
    heard = media.read_audio(out / "solo.mp4", sample_rate=RATE)
    assert np.corrcoef(heard[1000:45000], sound[1000:45000])[0, 1] > 0.9
    [entry] = json.loads((out / "samples.json").read_text())["samples"]
    assert entry.pop("realtime_factor") > 0
    assert entry.pop("gain_db") != 0
    assert entry.pop("loudness_lufs") <= -15.99
    assert entry == {
        "name": "solo",
        "source": "solo.mp4",
        "wav": "solo.wav",
        "video": "solo.mp4",
        "seconds": 2.1,
        "windows": 2,
        "checkpoint": str(checkpoint),
        "preset": "paper",
        "level": "high",
        "codec_sha256": fingerprint(tiny_codec()),
        "licence": LICENCE,
        "seed": 7,
        "overlap": 0.25,
        "denoise": False,
        "device": "cpu",
    }
    # The same command again: nothing is written anew unless told so, and never the input.
    before = (out / "solo.wav").read_bytes()
    code, said = run(checkpoint, rendered[0], "--out", out, "--device", "cpu")
    assert code == 1
    assert "solo.wav exists already" in said
    assert "1 of 1 failed" in said
    options = ("--out", out, "--device", "cpu", "--seed", 8, "--force", "--no-video")
    assert run(checkpoint, rendered[0], *options)[0] == 0
    assert (out / "solo.wav").read_bytes() == before  # no noise goes in: any seed makes the same
    code, said = run(checkpoint, rendered[0], "--out", rendered[0].parent, "--force", "--device", "cpu")
    assert code == 1
    assert "is the input itself" in said


def test_the_verb_takes_a_split_and_goes_on_after_a_failure(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = run(checkpoint, dataset, "--out", out, "--split", "train", "--device", "cpu", "--batch", 2)
    assert code == 1
    assert "1 of 3 failed" in said
    assert "clip_000003 is 1.10 s long; music is made for dances of at least 2 s" in said
    assert sorted(path.name for path in out.glob("*.*")) == [
        *("clip_000000.mp4", "clip_000000.wav", "clip_000001.mp4", "clip_000001.wav", "samples.json")
    ]
    assert media.probe(out / "clip_000001.mp4").n_frames == 120
    # A second call adds to the record.
    options = ("--out", out, "--no-video", "--float", "--denoise", "--overlap", 0, "--loudness", -23, "--device", "cpu")
    assert run(checkpoint, dataset, *options)[0] == 0
    entries = json.loads((out / "samples.json").read_text())["samples"]
    assert [entry["name"] for entry in entries] == ["clip_000000", "clip_000001", "clip_000007"]
    assert [entry["seconds"] for entry in entries] == pytest.approx([2.5, 4.0, 61 / 30], abs=1e-4)
    assert [entry["overlap"] for entry in entries] == [0.25, 0.25, 0.0]
    assert entries[2]["video"] is None
    assert entries[2]["denoise"] is True
    assert entries[2]["loudness_lufs"] <= -22.99
    assert soundfile.info(out / "clip_000007.wav").subtype == "FLOAT"
    # The clip's music is the same as in Python.
    music = DanceToMusic.from_pretrained(checkpoint, device="cpu")(
        dance_from_clip(list(read_clips(dataset, "train"))[1])
    )
    sound, _ = soundfile.read(out / "clip_000001.wav", dtype="float32")
    gain = 10 ** (entries[1]["gain_db"] / 20)
    assert sound == pytest.approx(music.audio * gain, abs=1e-3)


def test_one_bad_video_of_several(
    rendered: tuple[Path, np.ndarray], posed: Dance, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate_once(monkeypatch, posed)
    empty, twin = film(tmp_path / "empty.mp4", 2.2, picture=120), tmp_path / "twin" / "solo.mp4"
    out = tmp_path / "out"
    code, said = run(checkpoint, empty, rendered[0], twin, tmp_path / "none.mp4", "--out", out, "--device", "cpu")
    assert code == 1
    assert "3 of 4 failed" in said
    assert "shows no dancer" in said
    assert "another input is called solo too" in said
    assert "does not exist" in said
    assert [entry["name"] for entry in json.loads((out / "samples.json").read_text())["samples"]] == ["solo"]
    assert media.probe(out / "solo.mp4").n_frames == 63


def test_what_cannot_work_is_said_before_anything_is_done(dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    def said(*arguments: object) -> str:
        code, text = run(*arguments, "--out", tmp_path / "out", "--device", "cpu")
        assert code == 1
        assert not (tmp_path / "out").exists()
        return text

    clip = tmp_path / "x.mp4"
    assert "not both" in said(checkpoint, clip, dataset)
    assert "loudness is 0 LUFS" in said(checkpoint, clip, "--loudness", 0)
    assert "overlap is 0.7" in said(checkpoint, clip, "--overlap", 0.7)
    assert "made without genres" in said(checkpoint, clip, "--genre", 1)
    visual = write_checkpoint(tmp_path / "visual", codec=tiny_codec(), config=tiny_config(visual_features=24))
    assert "use a motion-only model" in said(visual, clip)
    genres = write_checkpoint(tmp_path / "genres", codec=tiny_codec(), config=tiny_config(genres=4))
    assert "give one of 0 to 3 (--genre)" in said(genres, clip)
    assert "neither a model folder nor a hub id" in said(tmp_path / "none", clip)
    (tmp_path / "out2").mkdir()
    (tmp_path / "out2" / "samples.json").write_text("[]")
    code, text = run(checkpoint, clip, "--out", tmp_path / "out2", "--device", "cpu")
    assert code == 1
    assert "no record of earlier samples" in text
