"""AIST++ in the published layout, which the tests write themselves: its names, its split, and the dataset of it."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from aist_factory import (
    keypoints_of,
    motion_of,
    tone,
    write_dance,
    write_dance_video,
    write_layout,
    write_music,
)
from typer.testing import CliRunner

from tiktok_dm import schema
from tiktok_dm.cli.main import app
from tiktok_dm.dataset.verify import verify
from tiktok_dm.errors import UserError
from tiktok_dm.importers import segment_set
from tiktok_dm.importers.aist.driver import AistOptions, build_aist
from tiktok_dm.importers.aist.layout import (
    GENRES,
    PUBLISHED_SEGMENTS,
    open_aist,
    parse_name,
    read_keypoints2d,
    read_keypoints3d,
    read_motion,
)
from tiktok_dm.importers.aist.rows import body_25_at_30_fps, genre_of, smpl_motion
from tiktok_dm.reading import decode_audio, open_dataset

# 130 and 120 beats a minute: 16 beats are 7.38 s and 8 s.
TRAIN = ("gBR_sBM_cAll_d05_mBR5_ch03", "gHO_sBM_cAll_d19_mHO2_ch04", "gWA_sBM_cAll_d25_mWA5_ch07")
TEST = ("gLH_sBM_cAll_d17_mLH4_ch02",)
FRAMES = {TRAIN[0]: 443, TRAIN[1]: 480, TRAIN[2]: 443, TEST[0]: 479}  # the last one a frame short of 8 s
PITCH = {"mBR5": 220.0, "mHO2": 330.0, "mWA5": 440.0, "mLH4": 550.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = write_layout(tmp_path / "aist_plusplus_final", TRAIN, TEST, ignored=(TRAIN[2],))
    for seed, (name, frames) in enumerate(FRAMES.items()):
        write_dance(root, name, frames, seed)
    return root


@pytest.fixture
def music(tmp_path: Path) -> Path:
    for song, pitch in PITCH.items():
        write_music(tmp_path / "music", song, 9.0, pitch)
    return tmp_path / "music"


def rows_of(out: Path, config: str = "segments") -> dict[str, dict]:
    opened = open_dataset(out, config, streaming=True)
    key = "segment_id" if config == "segments" else "clip_id"
    return {row[key]: row for split in opened for row in opened[split]}


# -------------------------------------------------------------------------------------------- names and lengths


def test_a_name_tells_everything() -> None:
    dance = parse_name("gHO_sFM_cAll_d20_mHO3_ch14")
    assert (dance.genre, dance.situation, dance.dancer, dance.music, dance.choreography) == ("HO", "FM", 20, "mHO3", 14)
    assert dance.tempo_bpm == 125
    assert dance.song_id == 5 * 6 + 3
    assert dance.video("c09") == "gHO_sFM_c09_d20_mHO3_ch14"
    assert genre_of(dance).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert len({parse_name(f"g{g}_sBM_cAll_d01_m{g}{n}_ch01").song_id for g in GENRES for n in range(6)}) == 60
    for name in ("gHO_sFM_c01_d20_mHO3_ch14", "gXX_sFM_cAll_d20_mXX3_ch14", "gHO_sFM_cAll_d20_mBR3_ch14", "", "x" * 99):
        with pytest.raises(UserError, match="is no sequence of AIST"):
            parse_name(name)


@pytest.mark.parametrize(
    ("name", "segments"),
    [
        ("gBR_sBM_cAll_d04_mBR0_ch02", 6),  # 16 beats at 80: 12 s
        ("gPO_sBM_cAll_d10_mPO1_ch02", 5),
        ("gLH_sBM_cAll_d17_mLH4_ch02", 4),  # 8 s
        ("gJB_sBM_cAll_d09_mJB5_ch02", 3),
        ("gHO_sBM_cAll_d20_mHO5_ch02", 3),  # 135 beats a minute
        ("gLH_sFM_cAll_d18_mLH0_ch15", 24),  # 64 beats at 80: 48 s
        ("gKR_sFM_cAll_d28_mKR1_ch02", 21),
    ],
)
def test_lengths_by_beats(name: str, segments: int) -> None:
    assert parse_name(name).segments_by_beats == segments


# How many advanced dances to each song stand in the published train list, counted from it; of basic dances there are
# eight choreographies by two dancers to each of the 50 songs.
ADVANCED = {
    "BR": {1: 3, 2: 3, 3: 3, 4: 6, 5: 5},
    "PO": {0: 3, 2: 4, 3: 3, 4: 3, 5: 4},
    "LO": {0: 3, 1: 3, 3: 3, 4: 5, 5: 4},
    "MH": {0: 4, 1: 4, 2: 4, 4: 3, 5: 3},
    "LH": {0: 5, 1: 3, 2: 3, 3: 4, 5: 3},
    "HO": {0: 3, 1: 3, 2: 4, 3: 5, 4: 3},
    "WA": {1: 3, 2: 4, 3: 4, 4: 3, 5: 4},
    "KR": {0: 3, 1: 3, 3: 5, 4: 3, 5: 4},
    "JS": {0: 3, 1: 5, 2: 3, 4: 3, 5: 4},
    "JB": {0: 3, 1: 4, 2: 3, 3: 4, 4: 3},
}
TEST_SONGS = ("mBR0", "mPO1", "mLO2", "mMH3", "mLH4", "mHO5", "mWA0", "mKR2", "mJS3", "mJB5")


def published_lists() -> tuple[list[str], list[str]]:
    """Names with the published lists' composition: as many dances of each kind to each song."""
    train = []
    for genre, songs in ADVANCED.items():
        for song, count in songs.items():
            train += [f"g{genre}_sBM_cAll_d{d:02d}_m{genre}{song}_ch{c:02d}" for d in (1, 2) for c in range(3, 11)]
            train += [f"g{genre}_sFM_cAll_d01_m{genre}{song}_ch{c:02d}" for c in range(1, count + 1)]
    return train, [f"g{song[1:3]}_sBM_cAll_d{d:02d}_{song}_ch02" for song in TEST_SONGS for d in (1, 2)]


def test_the_rule_gives_as_many_segments_as_are_published(tmp_path: Path) -> None:
    train, test = published_lists()
    assert (len(train), len(test)) == (980, 20)
    opened = open_aist(write_layout(tmp_path / "aist", train, test))
    counts = {part: sum(dance.segments_by_beats for dance in opened.splits[part]) for part in ("train", "test")}
    assert counts == PUBLISHED_SEGMENTS == {"train": 6_632, "test": 86}
    songs = {part: {dance.song_id for dance in opened.splits[part]} for part in ("train", "test")}
    assert (len(songs["train"]), len(songs["test"])) == (50, 10)
    assert not songs["train"] & songs["test"]
    assert len({opened.clip_id(dance) for part in ("train", "test") for dance in opened.splits[part]}) == 1_000


# ----------------------------------------------------------------------------------------------------- the files


def test_motion_is_translation_and_rotation_matrices() -> None:
    poses = np.zeros((2, 24, 3))
    poses[1, 0] = 0, 0, np.pi / 2  # the root turned about z
    motion = smpl_motion(poses, np.array([[1.0, 2, 3], [4, 5, 6]]))
    assert motion.shape == (2, 219)
    assert motion.dtype == np.float32
    assert motion[0].tolist() == [1, 2, 3, *(np.eye(3).ravel().tolist() * 24)]
    assert motion[1, :12] == pytest.approx([4, 5, 6, 0, -1, 0, 1, 0, 0, 0, 0, 1], abs=1e-7)
    matrices = smpl_motion(np.random.default_rng(0).normal(size=(5, 24, 3)), np.zeros((5, 3)))[:, 3:]
    matrices = matrices.reshape(-1, 3, 3)
    assert np.abs(matrices @ matrices.transpose(0, 2, 1) - np.eye(3)).max() < 1e-5
    assert np.linalg.det(matrices) == pytest.approx(1, abs=1e-5)


def test_files_are_read_in_their_published_shapes(folder: Path) -> None:
    poses, places = read_motion(folder / "motions" / f"{TRAIN[0]}.pkl")
    assert poses.shape == (443, 24, 3)
    assert places[60].tolist() == pytest.approx([1 / 90, 1, 0])  # divided by the scaling
    points = read_keypoints2d(folder / "keypoints2d" / f"{TRAIN[0]}.pkl", "c03")
    assert points.shape == (443, 17, 3)
    assert points[7, 4].tolist() == [300 + 4 + 7, 40, 0.5]
    assert not points[:, 15].any(), "never found, NaN in the file"
    assert (read_keypoints3d(folder / "keypoints3d" / f"{TRAIN[0]}.pkl") == 1).all()
    assert (read_keypoints3d(folder / "keypoints3d" / f"{TRAIN[0]}.pkl", optimised=False) == 0).all()
    opened = open_aist(folder.parent)  # a folder above does as well
    assert opened.root == folder
    assert opened.ignored == {TRAIN[2]}
    assert opened.picture_size(parse_name(TRAIN[0]), "c01") == (1920, 1080)


def test_poses_take_every_second_frame_in_the_video_s_own_px() -> None:
    points = keypoints_of(20)[0].astype(np.float32)
    points[:, 15] = 0
    poses = body_25_at_30_fps(points, 12, (1920, 1080), (192, 108))
    assert poses.shape == (12, 1, 25, 3)
    assert poses[3, 0, 0].tolist() == pytest.approx([(100 + 0 + 6) / 10, 0, 0.5])  # nose of frame 6
    assert poses[3, 0, 1].tolist() == pytest.approx([(100 + 5.5 + 6) / 10, 5.5, 0.5])  # between the shoulders, 5 and 6
    assert not poses[:, 0, 14].any(), "the left ankle"
    assert not poses[:, 0, 19:].any(), "COCO-17 has no feet"
    assert (poses[11] == poses[10]).all() or poses[11, 0, 0, 0] == pytest.approx((100 + 19) / 10)


# -------------------------------------------------------------------------------------------------- the dataset


def test_segments_from_annotations_and_music(tmp_path: Path, folder: Path, music: Path) -> None:
    result = build_aist(AistOptions(folder, music, tmp_path / "out"))
    assert {split: part["segments"] for split, part in result.report["splits"].items()} == {"train": 10, "test": 4}
    assert result.report["splits"]["train"] == {"sequences": 3, "segments": 10, "by_beats": 10, "published": 6_632}
    assert result.report["other_length"] == []
    assert result.counts["clips"] == 0
    assert not (tmp_path / "out" / "data" / "clips").exists()
    rows = rows_of(tmp_path / "out")
    assert list(rows) == [f"{name.replace('cAll', 'c01')}_seg{k + 1}" for name in (*TRAIN, *TEST)
                          for k in range((FRAMES[name] + 3) // 120)]  # fmt: skip
    for seed, name in enumerate(FRAMES):
        dance, held = parse_name(name), motion_of(FRAMES[name], seed)
        whole = smpl_motion(held["smpl_poses"].reshape(-1, 24, 3), held["smpl_trans"] / 90)
        for k in range(dance.segments_by_beats):
            row = rows[f"{dance.video('c01')}_seg{k + 1}"]
            assert list(row) == [*schema.SEGMENT_COLUMNS, "genre"]
            assert row["split"] == ("test" if name in TEST else "train")
            assert (row["song_id"], row["compilation_id"]) == (dance.song_id, dance.dancer)
            assert (row["segment_index"], row["start_s"], row["n_dancers"]) == (k + 1, 2.0 * k, 1)
            assert np.argmax(row["genre"]) == GENRES.index(dance.genre)
            assert sum(row["genre"]) == 1
            motion = np.asarray(row["motion"], np.float32)
            assert motion.shape == (120, 219)
            wanted = whole[np.minimum(np.arange(120 * k, 120 * (k + 1)), FRAMES[name] - 1)]
            np.testing.assert_array_equal(motion, wanted)
            samples, rate = decode_audio(row["audio"])
            assert rate == 22_050
            part = tone(9.0, PITCH[dance.music])[44_100 * k : 44_100 * (k + 1)]
            assert np.abs(samples - part).max() < 1e-4
    assert "train: 10 segments where 6,632 are published; the 3 sequences of the list have 10 by their beats" in (
        result.sentences()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aist_plusplus_final", "music", "out"]


def test_the_released_model_s_reader_takes_them(tmp_path: Path, folder: Path, music: Path) -> None:
    pytest.importorskip("torch")
    from d2m_model.config import preset_config
    from d2m_model.training.data import read_rows

    build_aist(AistOptions(folder, music, tmp_path / "out"))
    model = preset_config("released", "high", "aist", visual_features=0)
    rows = list(read_rows(str(tmp_path / "out"), "train", model))
    assert len(rows) == 10
    assert {row["motion"].shape for row in rows} == {(120, 219)}
    assert [row["genre"] for row in rows] == [0] * 3 + [5] * 4 + [6] * 3
    assert {len(row["audio"]) for row in rows} == {44_100}


def test_clips_and_sound_from_the_camera_s_videos(tmp_path: Path, folder: Path) -> None:
    media = tmp_path / "videos"
    sound = tone(8.0, 300.0)
    write_dance_video(media, TRAIN[0].replace("cAll", "c02"), 443, sound[: round(443 / 60 * 22_050)])
    write_dance_video(media, TEST[0].replace("cAll", "c02"), 480, None)  # without sound: the music's, and no clip
    write_dance_video(media, TRAIN[1].replace("cAll", "c01"), 60, sound)  # of another camera
    write_music(media, "mLH4", 9.0, 550.0, rate=44_100)
    result = build_aist(AistOptions(folder, media, tmp_path / "out", camera="c02"))
    assert result.report["missing"] == {"motion": [], "sound": [TRAIN[1], TRAIN[2]]}
    assert result.report["clips_left_out"] == [
        {"file": f"{TEST[0].replace('cAll', 'c02')}.mp4", "reason": "the video has no sound"}
    ]
    segments = rows_of(tmp_path / "out")
    assert list(segments) == [f"{TRAIN[0].replace('cAll', 'c02')}_seg{k}" for k in (1, 2, 3)] + [
        f"{TEST[0].replace('cAll', 'c02')}_seg{k}" for k in (1, 2, 3, 4)
    ]
    heard, _ = decode_audio(segments[f"{TRAIN[0].replace('cAll', 'c02')}_seg2"]["audio"])
    assert np.corrcoef(heard, sound[44_100:88_200])[0, 1] > 0.99  # through AAC
    # 44,100 Hz music, at 22,050 Hz; close to the same tone made at that rate.
    heard, _ = decode_audio(segments[f"{TEST[0].replace('cAll', 'c02')}_seg3"]["audio"])
    assert np.corrcoef(heard, tone(9.0, 550.0)[88_200:132_300])[0, 1] > 0.999
    verified = verify(tmp_path / "out", decoders=False)
    assert [str(finding) for finding in verified.findings] == []
    assert (verified.counts["clips"], verified.counts["segments"]) == (1, 7)
    (clip,) = rows_of(tmp_path / "out", "clips").values()
    assert clip["clip_id"] == open_aist(folder).clip_id(parse_name(TRAIN[0])) == 0
    assert (clip["width"], clip["height"], clip["n_dancers"], clip["pose_fps"]) == (192, 108, 1, 30.0)
    assert clip["pose_model"] == "AIST++ keypoints2d 1.0"
    assert clip["duration_s"] == pytest.approx(443 / 60, abs=0.02)
    pose = np.asarray(clip["pose"], np.float32)
    assert pose.shape[1:] == (5, 25, 3)
    assert abs(len(pose) - 443 / 2) <= 1
    assert pose[10, 0, 0].tolist() == pytest.approx([(200 + 20) / 10, 0, 0.5])  # camera 2, frame 20
    assert not pose[:, 1:].any()
    assert not (tmp_path / "out.work").exists()


def test_a_stopped_build_does_not_cut_again(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media = tmp_path / "videos"
    write_dance_video(media, TRAIN[0].replace("cAll", "c01"), 130, tone(130 / 60, 300.0))
    options = AistOptions(folder, media, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(segment_set, "write_manifest", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build_aist(options)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.work").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr("tiktok_dm.pipeline.segment.segment", lambda *args: 1 / 0)
        result = build_aist(options)
    assert result.counts["clips"] == 1
    assert result.report["other_length"] == [{"sequence": TRAIN[0], "segments": 1, "by_beats": 3}]
    again = build_aist(options)
    assert again.counts == {**result.counts, "unchanged": True}
    build_aist(AistOptions(folder, media, tmp_path / "other"))
    assert (tmp_path / "other" / "manifest.json").read_bytes() == (tmp_path / "out" / "manifest.json").read_bytes()


def test_missing_and_broken_files_are_told_and_the_rest_is_made(tmp_path: Path, folder: Path, music: Path) -> None:
    (folder / "motions" / f"{TRAIN[0]}.pkl").unlink()
    bad = motion_of(480, 0)
    bad["smpl_poses"] = bad["smpl_poses"][:, :71]
    (folder / "motions" / f"{TRAIN[1]}.pkl").write_bytes(pickle.dumps(bad))
    (music / "mLH4.wav").write_bytes(b"RIFF")
    result = build_aist(AistOptions(folder, music, tmp_path / "out"))
    assert list(rows_of(tmp_path / "out")) == [f"{TRAIN[2].replace('cAll', 'c01')}_seg{k}" for k in (1, 2, 3)]
    assert result.report["missing"] == {"motion": [TRAIN[0]], "sound": []}
    assert result.report["broken"][0] == {
        "file": f"{TRAIN[1]}.pkl",
        "reason": f"{TRAIN[1]}.pkl holds poses 480x71 and places 480x3 where Nx72 and Nx3 belong",
    }
    assert [entry["file"] for entry in result.report["broken"]] == [f"{TRAIN[1]}.pkl", "mLH4.wav"]
    told = "\n".join(result.sentences())
    assert f"1 sequence without motion: {TRAIN[0]}" in told
    assert "2 broken files: " in told


def test_broken_and_missing_keypoints_cost_their_clips_alone(tmp_path: Path, folder: Path, music: Path) -> None:
    for name in TRAIN:
        write_dance_video(music, name.replace("cAll", "c01"), 130, tone(130 / 60, 300.0))
    path = folder / "keypoints2d" / f"{TRAIN[0]}.pkl"
    path.write_bytes(path.read_bytes()[:2_000])
    (folder / "keypoints2d" / f"{TRAIN[1]}.pkl").unlink()
    video = music / f"{TRAIN[2].replace('cAll', 'c01')}.mp4"
    video.write_bytes(video.read_bytes()[:600])
    result = build_aist(AistOptions(folder, music, tmp_path / "out"))
    assert result.failed
    assert [entry["file"] for entry in result.report["broken"]] == [path.name, video.name]
    assert result.report["broken"][0]["reason"] == f"{path.name} is damaged or no pickle: download it again"
    assert str(tmp_path) not in (tmp_path / "out" / "import.json").read_text()
    assert result.report["clips_left_out"] == [
        {"file": f"{TRAIN[1].replace('cAll', 'c01')}.mp4", "reason": "there are no keypoints2d of it"}
    ]
    assert result.counts["clips"] == 0
    # Sound comes from the music where the video has none that can be read.
    assert {split: part["segments"] for split, part in result.report["splits"].items()} == {"train": 5, "test": 4}


class _Trap:
    def __reduce__(self) -> tuple:
        return print, ("sprung",)


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"smpl_poses": 1}, "does not hold smpl_poses and smpl_trans and smpl_scaling"),
        ([1, 2], "does not hold smpl_poses"),
        ({**motion_of(5, 0), "smpl_scaling": np.array([0.0])}, "holds no scaling above 0"),
        ({**motion_of(5, 0), "smpl_trans": np.full((5, 3), np.nan)}, "smpl_trans is no array of finite numbers"),
        ({**motion_of(5, 0), "smpl_poses": np.zeros((0, 72))}, "where Nx72 and Nx3 belong"),
        ({**motion_of(5, 0), "smpl_poses": [[0.0] * 72] * 5}, "smpl_poses is no array of finite numbers"),
        (_Trap(), "asks for builtins.print"),
    ],
)
def test_motion_files_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture, held: object, reason: str) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(UserError, match=reason):
        read_motion(tmp_path / "a.pkl")
    assert "sprung" not in capsys.readouterr().out


def test_the_ignore_list_is_left_in_unless_told(tmp_path: Path, folder: Path, music: Path) -> None:
    words = ["build", "--dataset", "aist++", "--annotations", str(folder), "--media", str(music), "--json"]
    shown = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "all")])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["segments"] == 14
    # The verb of its own, of which the words above are the old spelling.
    words = ["import", "aist++", *words[3:], "--out", str(tmp_path / "new")]
    assert CliRunner().invoke(app, words).exit_code == 0
    old, new = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in sorted((tmp_path / name).rglob("*.parquet"))}
        for name in ("all", "new")
    )
    assert old == new != {}
    shown = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "some"), "--skip-ignored"])
    told = json.loads(shown.stdout)
    assert told["segments"] == 11
    assert told["report"]["ignored"] == [TRAIN[2]]
    card = (tmp_path / "all" / "README.md").read_text()
    assert "| train | 10 | 3 |" in card
    assert "| `motion` | float32[120,219] |" in card


def test_what_a_user_may_get_wrong(tmp_path: Path, folder: Path, music: Path) -> None:
    def asked(*words: str) -> str:
        result = CliRunner().invoke(app, ["build", "--out", str(tmp_path / "out"), *words])
        assert isinstance(result.exception, UserError), result.output
        assert "\n" not in str(result.exception)
        assert not (tmp_path / "out").exists()
        return str(result.exception)

    ours = ["--dataset", "aist++", "--annotations", str(folder), "--media", str(music)]
    assert asked(*ours[:4]) == "--dataset aist++ needs --annotations FOLDER and --media FOLDER"
    assert "there is no dataset 'kinetics'" in asked("--dataset", "kinetics", *ours[2:])
    assert "there is no camera 'c10'" in asked(*ours, "--camera", "c10")
    assert "named twice" in asked(str(folder), *ours)
    assert "--demo, --dry-run, --only and --splits are not for" in asked(*ours, "--dry-run")
    assert "there is no folder" in asked(*ours[:4], "--media", str(tmp_path / "nowhere"))
    assert "holds no AIST++" in asked(*ours[:2], "--annotations", str(music), *ours[4:])
    (tmp_path / "empty").mkdir()
    told = asked(*ours[:4], "--media", str(tmp_path / "empty"))
    assert told.startswith("no segment can be made: 4 sequences without sound: ")
    (folder / "splits" / "crossmodal_test.txt").write_text(TRAIN[0] + "\n")
    assert "music mBR5 is in train and in test" in asked(*ours)
    (folder / "splits" / "crossmodal_test.txt").write_text("gBR_everything\n")
    assert "'gBR_everything' is no sequence of AIST++" in asked(*ours)
    (folder / "splits" / "crossmodal_test.txt").unlink()
    assert "crossmodal_test.txt is missing" in asked(*ours)
