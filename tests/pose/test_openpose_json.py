"""OpenPose's JSON files, in and out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tiktok_dm.errors import DiskFull, UserError
from tiktok_dm.pose import openpose_json
from tiktok_dm.pose.openpose_json import file_name, frame_from_json, frame_to_json, read_openpose, write_openpose
from tiktok_dm.pose.skeletons import COCO_17


def person(shift: float = 0.0) -> np.ndarray:
    """(25, 3): x = shift + joint, y = 10 joint, confidence 0.5; the third joint is missing."""
    pose = np.stack([shift + np.arange(25), 10.0 * np.arange(25), np.full(25, 0.5)], axis=-1).astype(np.float32)
    pose[2] = 0
    return pose


def as_openpose(*people: np.ndarray, ids: tuple[int, ...] | None = None) -> str:
    """A file as OpenPose itself writes it: person_id -1 unless it tracks, one empty list for each other part."""
    return json.dumps(
        {
            "version": 1.3,
            "people": [
                {
                    "person_id": [-1 if ids is None else ids[place]],
                    "pose_keypoints_2d": pose.ravel().tolist(),
                    "face_keypoints_2d": [],
                    "hand_left_keypoints_2d": [],
                    "hand_right_keypoints_2d": [],
                    "pose_keypoints_3d": [],
                    "face_keypoints_3d": [],
                    "hand_left_keypoints_3d": [],
                    "hand_right_keypoints_3d": [],
                }
                for place, pose in enumerate(people)
            ],
        }
    )


def folder_of(place: Path, files: dict[int, str], name: str = "dance") -> Path:
    place.mkdir(exist_ok=True)
    for frame, text in files.items():
        (place / file_name(name, frame)).write_text(text)
    return place


def test_the_files_are_named_and_laid_out_as_openposes(tmp_path: Path) -> None:
    poses = np.zeros((13, 2, 25, 3), np.float32)
    poses[12, 1] = person()
    assert write_openpose(poses, tmp_path / "out", "dance") == 13
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[0] == "dance_000000000000_keypoints.json"
    assert names[12] == "dance_000000000012_keypoints.json"
    assert json.loads((tmp_path / "out" / names[0]).read_text()) == {"version": 1.3, "people": []}
    (only,) = json.loads((tmp_path / "out" / names[12]).read_text())["people"]
    theirs = json.loads(as_openpose(person()))["people"][0]
    assert list(only) == list(theirs)
    assert only == {**theirs, "person_id": [1]}
    assert only["pose_keypoints_2d"][3:9] == [1.0, 10.0, 0.5, 0, 0, 0]


def test_openposes_own_files_are_read_in_the_order_of_people(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "in",
        {0: as_openpose(person(1), person(2)), 1: as_openpose(), 3: as_openpose(person(3))},
    )
    poses = read_openpose(folder)
    assert poses.shape == (4, 2, 25, 3)
    assert poses.dtype == np.float32
    assert (poses[0, 0] == person(1)).all()
    assert (poses[0, 1] == person(2)).all()
    assert not poses[1:3].any(), "a frame without people, and one without a file"
    assert (poses[3, 0] == person(3)).all()
    assert not poses[3, 1].any()


def test_person_ids_tell_dancers_apart_where_all_have_one(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "in",
        {0: as_openpose(person(7), person(4), ids=(70, 40)), 1: as_openpose(person(5), ids=(40,)), 2: as_openpose()},
    )
    poses = read_openpose(folder)
    assert poses.shape == (3, 2, 25, 3)
    assert (poses[0, 0] == person(4)).all(), "40 comes before 70"
    assert (poses[0, 1] == person(7)).all()
    assert (poses[1, 0] == person(5)).all()
    # One id twice in a frame: they mean nothing, so the order counts.
    twice = folder_of(tmp_path / "twice", {0: as_openpose(person(7), person(4), ids=(40, 40))})
    assert (read_openpose(twice)[0, 0] == person(7)).all()


def test_what_openpose_writes_besides_is_taken(tmp_path: Path) -> None:
    sure = person()
    sure[1, 2] = 1.0367  # OpenPose gives such
    faint = np.zeros((25, 3), np.float32)
    faint[:, :2] = 5  # places without confidence are no joints
    document = json.loads(as_openpose(sure, faint, person(9)))
    document["people"].append({"person_id": [-1], "pose_keypoints_2d": [], "face_keypoints_2d": [1, 2, 3]})
    found = frame_from_json(document, "frame 0")
    assert len(found) == 2
    assert found[0][1][1].tolist() == [1, 10, 1]
    assert (found[1][1] == person(9)).all()


def test_other_skeletons_in_the_same_layout(tmp_path: Path) -> None:
    poses = np.random.default_rng(0).uniform(0.1, 1, (2, 1, 17, 3)).astype(np.float32)
    write_openpose(poses, tmp_path / "coco", "dance")
    np.testing.assert_array_equal(read_openpose(tmp_path / "coco", skeleton=COCO_17), poses)


_COORDINATES = st.floats(-5000, 5000, width=32, allow_subnormal=False)


@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3)),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_out_and_in_again_gives_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, shape: tuple[int, int]
) -> None:
    poses = data.draw(npst.arrays(np.float32, (*shape, 25, 3), elements=_COORDINATES, fill=st.just(0.0)))
    poses[..., 2] = np.abs(poses[..., 2]) / 5000
    poses[poses[..., 2] == 0] = 0
    poses[data.draw(npst.arrays(np.bool_, shape))] = 0
    folder = tmp_path_factory.mktemp("json") / "out"
    write_openpose(poses, folder, "dance")
    seen = poses.any(axis=(0, 2, 3))
    np.testing.assert_array_equal(read_openpose(folder), poses[:, seen])


def test_shortest_decimals_not_float64_noise() -> None:
    pose = np.zeros((1, 25, 3), np.float32)
    pose[0, 0] = 320.1, 0.1, 0.7
    assert frame_to_json(pose)["people"][0]["pose_keypoints_2d"][:3] == [320.1, 0.1, 0.7]


def test_a_clip_of_several_in_one_folder_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {0: as_openpose(person(1))}, "a")
    folder_of(folder, {0: as_openpose(person(2)), 1: as_openpose(person(3))}, "b_0")
    with pytest.raises(UserError, match=r"holds the files of 2 clips \(a, b_0\): name one"):
        read_openpose(folder)
    assert read_openpose(folder, "b_0").shape == (2, 1, 25, 3)
    with pytest.raises(UserError, match=r"holds no files such as c_000000000000_keypoints\.json"):
        read_openpose(folder, "c")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("\x00", "is no JSON"),
        ("[]", "has no list 'people'"),
        ('{"people": "nobody"}', "has no list 'people'"),
        ('{"people": [3]}', "person 0: 'pose_keypoints_2d' is not a list of numbers"),
        ('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}', "3 values are not the 25 joints x 3 of BODY_25"),
        (json.dumps({"people": [{"pose_keypoints_2d": [None] * 75}]}), "something that is not a number"),
        (json.dumps({"people": [{"pose_keypoints_2d": [True] * 75}]}), "something that is not a number"),
        (json.dumps({"people": [{"pose_keypoints_2d": [float("nan")] * 75}]}), "values that are not finite"),
        (json.dumps({"people": [{"pose_keypoints_2d": [10**400] * 75}]}), "values that are not finite"),
        (json.dumps({"people": [{"pose_keypoints_2d": [1e300] * 75}]}), "values that are not finite"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_files_that_are_not_openposes(tmp_path: Path, text: str, sentence: str) -> None:
    folder = folder_of(tmp_path / "in", {0: as_openpose(), 1: text})
    with pytest.raises(UserError, match="dance_000000000001_keypoints.json.*" + sentence):
        read_openpose(folder)


def test_folders_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        read_openpose(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no files such as NAME_000000000000"):
        read_openpose(tmp_path)
    folder = folder_of(tmp_path / "far", {})
    (folder / "dance_999999999999_keypoints.json").write_text(as_openpose())
    with pytest.raises(UserError, match="beyond 1,000,000"):
        read_openpose(folder)
    twice = folder_of(tmp_path / "twice", {7: as_openpose()})
    (twice / "dance_7_keypoints.json").write_text(as_openpose())
    with pytest.raises(UserError, match="are the same frame"):
        read_openpose(twice)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poses = np.zeros((2, 1, 25, 3), np.float32)
    poses[0, 0] = person()
    folder = folder_of(tmp_path / "full", {0: "mine"})
    with pytest.raises(UserError, match="is there already and holds something"):
        write_openpose(poses, folder, "dance")
    assert (folder / file_name("dance", 0)).read_text() == "mine"
    for name in ("", ".hidden", "a/b", "../up"):
        with pytest.raises(UserError, match="cannot begin a file name"):
            write_openpose(poses, tmp_path / "new", name)
    with pytest.raises(ValueError, match="not finite"):
        write_openpose(poses + np.float32(np.nan), tmp_path / "new", "dance")
    with pytest.raises(ValueError, match="frames, dancers, joints, 3"):
        write_openpose(poses[0], tmp_path / "new", "dance")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(openpose_json.os, "rename", full)
    with pytest.raises(DiskFull, match="no room left"):
        write_openpose(poses, tmp_path / "new", "dance")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
