"""The authors' preprocessed archives: an imitation of them imported, and whatever may be wrong with them."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
from preprocessed_factory import motion_of, sound_of, visual_of, write_many, write_one
from typer.testing import CliRunner

from tiktok_dm import schema
from tiktok_dm.annotations.released import released_annotations
from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.cli.main import app
from tiktok_dm.errors import DiskFull, UserError
from tiktok_dm.importers import archives as preprocessed
from tiktok_dm.importers import segment_set
from tiktok_dm.importers.archives import import_preprocessed
from tiktok_dm.reading import decode_audio, open_dataset


@pytest.fixture(scope="session")
def everything() -> Annotations:
    return released_annotations()


@pytest.fixture(scope="session")
def few(everything: Annotations) -> Annotations:
    """Two segments each of three songs of the train split and one of the test split."""
    test_songs = set(everything.splits.song_id[everything.splits.split == "test"])
    clips = everything.clips.drop_duplicates("song_id")
    train = clips[~clips.song_id.isin(test_songs)].head(3)
    test = clips[clips.song_id.isin(test_songs)].head(1)
    chosen = everything.clips[everything.clips.clip_id.isin([*train.clip_id, *test.clip_id])]
    return dataclasses.replace(everything, clips=chosen.assign(released_segments=2))


@pytest.fixture(scope="session")
def names(few: Annotations) -> list[str]:
    """Ids of the eight segments, in the order of their rows: train first."""
    return [segment.name for segment in preprocessed._expected(few)]


@pytest.fixture
def root(tmp_path: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        write_one(tmp_path / "in", name, number)
    return tmp_path / "in"


def rows_of(out: Path) -> dict[str, dict]:
    opened = open_dataset(out, "segments", streaming=True)
    return {row["segment_id"]: row for split in opened for row in opened[split]}


def test_every_released_segment_of_the_imitated_archives_is_there(
    tmp_path: Path, everything: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = preprocessed._expected(everything)
    assert len({segment.name for segment in expected}) == 2_691
    write_many(tmp_path / "archive" / "tiktok", [segment.name for segment in expected])
    (tmp_path / "archive" / "tiktok.kinds").rename(tmp_path / "kinds")
    words = ["import", "archives", "--root", str(tmp_path / "archive"), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["splits"] == {
        "train": {"clips": 392, "segments": 2_384, "songs": 43},
        "test": {"clips": 53, "segments": 307, "songs": 43},
    }
    assert told["report"] == {
        "expected": 2_691,
        "imported": 2_691,
        "visual": True,
        "missing": {"motion": [], "visual": [], "audio": []},
        **{key: [] for key in ("broken", "extra", "left_out", "fitted", "elsewhere")},
    }
    opened = open_dataset(tmp_path / "out", "segments", streaming=True)
    ids = {split: [row["segment_id"] for row in opened[split].select_columns("segment_id")] for split in opened}
    assert [*ids["train"], *ids["test"]] == [segment.name for segment in expected]


def test_rows_hold_the_files_to_the_last_bit(tmp_path: Path, root: Path, few: Annotations, names: list[str]) -> None:
    result = import_preprocessed(root, tmp_path / "out", released=few)
    assert result.complete
    assert result.sentences() == []
    rows = rows_of(tmp_path / "out")
    assert list(rows) == names
    for number, name in enumerate(names):
        row, parts = rows[name], schema.parse_segment_id(name)
        assert list(row) == [*schema.SEGMENT_COLUMNS, "visual"]
        assert (row["compilation_id"], row["song_id"], row["clip_id"], row["segment_index"]) == parts
        assert row["start_s"] == 2.0 * (parts.segment_index - 1)
        assert row["n_dancers"] is None
        np.testing.assert_array_equal(np.asarray(row["motion"], np.float32), motion_of(number).reshape(60, 75))
        np.testing.assert_array_equal(np.asarray(row["visual"], np.float32), visual_of(number)[0])
        samples, rate = decode_audio(row["audio"])
        assert rate == 22_050
        np.testing.assert_array_equal(np.round(samples * 32_768), sound_of(number))
    split_of = dict(zip(few.splits.song_id, few.splits.split, strict=True))
    assert {row["song_id"]: row["split"] for row in rows.values()} == {
        song: split_of[song] for song in {row["song_id"] for row in rows.values()}
    }


def test_verify_looks_at_it_and_finds_what_was_changed(tmp_path: Path, root: Path, few: Annotations) -> None:
    import pyarrow.parquet

    from tiktok_dm.dataset.verify import verify

    import_preprocessed(root, tmp_path / "out", released=few)
    report = verify(tmp_path / "out", decoders=False)
    assert [str(finding) for finding in report.findings] == []
    assert (report.counts["clips"], report.counts["segments"], report.counts["songs"]) == (0, 8, 4)
    path = tmp_path / "out" / "data" / "segments" / "test-00000-of-00001.parquet"
    table = pyarrow.parquet.read_table(path)
    songs = table.schema.get_field_index("song_id")
    train = pyarrow.parquet.read_table(path.with_name("train-00000-of-00001.parquet"))
    moved = pyarrow.array([train["song_id"][0].as_py()] * len(table))
    pyarrow.parquet.write_table(table.set_column(songs, table.schema.field(songs), moved), path)
    told = [str(finding) for finding in verify(tmp_path / "out", decoders=False).findings]
    assert any("a song belongs to one split" in text for text in told)
    assert any(text.startswith("data/segments/test-00000-of-00001.parquet") for text in told)


def test_load_dataset_opens_it_with_the_visual_column(tmp_path: Path, root: Path, few: Annotations) -> None:
    import datasets

    import_preprocessed(root, tmp_path / "out", released=few)
    opened = datasets.load_dataset(str(tmp_path / "out"), "segments", cache_dir=str(tmp_path / "cache"))
    assert opened.num_rows == {"train": 6, "test": 2}
    row = opened["train"].with_format("numpy").select_columns(["motion", "visual"])[0]
    assert row["motion"].shape == (60, 75)
    assert row["visual"].shape == (2048,)
    assert row["visual"].dtype == np.float32


@pytest.mark.parametrize("layout", ["tiktok/{kind}", "{kind}/{split}", "a/tiktok/{kind}/{split}", "{kind}/{kind}"])
def test_layouts_that_archives_may_have(
    tmp_path: Path, root: Path, few: Annotations, names: list[str], layout: str
) -> None:
    import_preprocessed(root, tmp_path / "plain", released=few)
    split_of = {segment.name: segment.split for segment in preprocessed._expected(few)}
    other = tmp_path / "other"
    for path in sorted(root.rglob("*.*")):
        place = other / layout.format(kind=path.parent.name, split=split_of[path.stem])
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)
        # What macOS puts into archives beside each file.
        (other / "__MACOSX").mkdir(exist_ok=True)
        (other / "__MACOSX" / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        (place / ".DS_Store").write_bytes(b"\0")
    result = import_preprocessed(other, tmp_path / "out", released=few)
    assert result.sentences() == []
    assert rows_of(tmp_path / "out") == rows_of(tmp_path / "plain")


def test_linked_folders_are_followed_and_rings_of_links_end(tmp_path: Path, root: Path, few: Annotations) -> None:
    (tmp_path / "links").mkdir()
    for folder in root.iterdir():
        (tmp_path / "links" / folder.name).symlink_to(folder)
    (tmp_path / "links" / "again").symlink_to(tmp_path / "links")
    assert import_preprocessed(tmp_path / "links", tmp_path / "out", released=few).complete


@pytest.mark.parametrize(
    "change",
    [
        lambda motion: motion.reshape(60, 75),
        lambda motion: motion.reshape(1, 60, 75),
        lambda motion: motion.reshape(-1),
        lambda motion: motion.reshape(60, 1, 25, 3),
        lambda motion: motion.astype(np.float64),
        lambda motion: np.asfortranarray(motion),
        lambda motion: motion.astype(">f4"),
    ],
)
def test_arrangements_of_the_same_motion(
    tmp_path: Path, root: Path, few: Annotations, names: list[str], change
) -> None:
    np.save(root / "motion_s2" / f"{names[0]}.npy", change(motion_of(0)))
    np.save(root / "video_s2" / f"{names[0]}.npy", visual_of(0)[0])
    import_preprocessed(root, tmp_path / "out", released=few)
    row = rows_of(tmp_path / "out")[names[0]]
    np.testing.assert_array_equal(np.asarray(row["motion"], np.float32), motion_of(0).reshape(60, 75))
    np.testing.assert_array_equal(np.asarray(row["visual"], np.float32), visual_of(0)[0])


class _Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.mkdir, ("/tmp/tiktok_dm_trap_was_sprung",)


def _pickled(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, np.array([_Trap(), array], dtype=object), allow_pickle=True)
    return stream.getvalue()


def _saved(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _wav(samples: np.ndarray, rate: int = 22_050, subtype: str = "PCM_16") -> bytes:
    import io

    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format="WAV", subtype=subtype)
    return stream.getvalue()


def _liar() -> bytes:
    """A header that promises 10^12 numbers."""
    import io

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
    return stream.getvalue()


_NAN = np.full((60, 75), np.nan, np.float32)
BROKEN = {
    "motion of another length": ("motion_s2", _saved(np.zeros((59, 75))), "shape 59x75 where 60x75 belongs"),
    "motion turned": ("motion_s2", _saved(np.zeros((75, 60))), "shape 75x60 where 60x75 belongs"),
    "motion of two dancers": ("motion_s2", _saved(np.zeros((2, 60, 75))), "shape 2x60x75 where 60x75 belongs"),
    "motion with NaN": ("motion_s2", _saved(_NAN), "holds NaN or infinite values"),
    "motion too large for float32": ("motion_s2", _saved(np.full((60, 75), 1e300)), "holds NaN or infinite values"),
    "motion as text": ("motion_s2", _saved(np.full((60, 75), "a")), "holds str32 where numbers belong"),
    "motion pickled": ("motion_s2", _pickled(np.zeros(3)), "holds Python objects, which are not loaded"),
    "a bare pickle": ("motion_s2", pickle.dumps(_Trap()), "is no NumPy array"),
    "motion cut short": ("motion_s2", _saved(np.zeros((60, 75)))[:-4], "is cut short"),
    "a lying header": ("motion_s2", _liar(), "is cut short"),
    "an empty file": ("motion_s2", b"", "is no NumPy array"),
    "visual of another length": ("video_s2", _saved(np.zeros((1, 1024))), "shape 1x1024 where 1x2048 belongs"),
    "visual turned into a web page": ("video_s2", b"<html>Sign in</html>", "is no NumPy array"),
    "sound at another rate": ("audio_s2", _wav(np.zeros(88_200), 44_100), "44,100 Hz where 22,050 belong"),
    "sound in stereo": ("audio_s2", _wav(np.zeros((44_100, 2))), "2 channels where one belongs"),
    "sound cut short": ("audio_s2", _wav(np.zeros(44_100))[:60_000], "1.36 s where 2 belong"),
    "sound too long": ("audio_s2", _wav(np.zeros(66_150)), "3.00 s where 2 belong"),
    "sound with NaN": ("audio_s2", _wav(np.full(44_100, np.nan), subtype="FLOAT"), "holds NaN or infinite values"),
    "sound that is none": ("audio_s2", b"RIFF....WAVE", "is no sound file"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_told_and_the_rest_is_imported(
    tmp_path: Path, root: Path, few: Annotations, names: list[str], case: str
) -> None:
    folder, data, reason = BROKEN[case]
    suffix = ".wav" if folder == "audio_s2" else ".npy"
    (root / folder / f"{names[3]}{suffix}").write_bytes(data)
    result = import_preprocessed(root, tmp_path / "out", released=few)
    assert result.report["broken"] == [{"file": f"{folder}/{names[3]}{suffix}", "reason": reason}]
    assert result.report["left_out"] == [names[3]]
    assert not result.complete
    assert list(rows_of(tmp_path / "out")) == [name for name in names if name != names[3]]
    assert result.sentences() == [
        f"1 broken file: {folder}/{names[3]}{suffix} ({reason})",
        "1 segment left out; import.json lists all of this",
    ]
    assert not Path("/tmp/tiktok_dm_trap_was_sprung").exists()


def test_missing_extra_and_misplaced_files_are_told(
    tmp_path: Path, root: Path, few: Annotations, names: list[str]
) -> None:
    (root / "motion_s2" / f"{names[0]}.npy").unlink()
    (root / "audio_s2" / f"{names[0]}.wav").unlink()
    (root / "audio_s2" / f"{names[1]}.wav").unlink()
    write_one(root, "000099_0_0_seg1", 50)  # no such compilation
    (root / "motion_s2" / "readme.npy").write_bytes(b"")
    (root / "motion_s2" / "train").mkdir()
    (root / "motion_s2" / f"{names[7]}.npy").rename(root / "motion_s2" / "train" / f"{names[7]}.npy")
    words = ["import", "archives", "--root", str(root), "--out", str(tmp_path / "out")]
    result = import_preprocessed(root, tmp_path / "out", released=few)
    assert result.report["missing"] == {"motion": [names[0]], "visual": [], "audio": names[:2]}
    assert result.report["extra"] == [
        "audio_s2/000099_0_0_seg1.wav",
        "motion_s2/000099_0_0_seg1.npy",
        "motion_s2/readme.npy",
        "video_s2/000099_0_0_seg1.npy",
    ]
    assert result.report["elsewhere"] == [f"motion_s2/train/{names[7]}.npy"]
    assert result.report["left_out"] == names[:2]
    assert result.sentences() == [
        f"1 released segment without a file in motion_s2: {names[0]}",
        f"2 released segments without a file in audio_s2: {names[0]}, {names[1]}",
        "4 files of no released segment: audio_s2/000099_0_0_seg1.wav, motion_s2/000099_0_0_seg1.npy, "
        "motion_s2/readme.npy, ...",
        f"1 file in a folder of the other split (the release counts): motion_s2/train/{names[7]}.npy",
        "2 segments left out; import.json lists all of this",
    ]
    text = (tmp_path / "out" / "README.md").read_text()
    assert "Of 8 released segments, 6 are here." in text
    assert f"- 1 released segment without a file in motion_s2: {names[0]}.\n" in text
    # Against all 2,691 released segments, on the command line: told, imported, and not taken for a whole success.
    shown = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "all")])
    assert shown.exit_code == 3
    assert "2,684 released segments without a file in motion_s2: " in shown.stdout
    assert CliRunner().invoke(app, [*words[:-1], str(tmp_path / "all"), "--allow-missing"]).exit_code == 0


def test_two_files_of_one_segment(tmp_path: Path, root: Path, few: Annotations, names: list[str]) -> None:
    (root / "motion_s2" / "train").mkdir()
    place = root / "motion_s2" / "train" / f"{names[0]}.npy"
    place.write_bytes((root / "motion_s2" / f"{names[0]}.npy").read_bytes())
    assert import_preprocessed(root, tmp_path / "out", released=few).complete
    np.save(place, motion_of(9))
    result = import_preprocessed(root, tmp_path / "out", released=few)
    assert result.report["broken"] == [
        {
            "file": f"motion_s2/{names[0]}.npy",
            "reason": f"differs from motion_s2/train/{names[0]}.npy, and both have its name",
        }
    ]


def test_sounds_a_few_samples_off_are_fitted_and_told(
    tmp_path: Path, root: Path, few: Annotations, names: list[str]
) -> None:
    for name, length in ((names[0], 44_000), (names[1], 44_200)):
        samples = np.resize(sound_of(1), length)
        soundfile.write(root / "audio_s2" / f"{name}.wav", samples, 22_050, subtype="PCM_16")
    result = import_preprocessed(root, tmp_path / "out", released=few)
    assert result.report["fitted"] == names[:2]
    assert result.complete
    rows = rows_of(tmp_path / "out")
    short, long = (np.round(decode_audio(rows[name]["audio"])[0] * 32_768) for name in names[:2])
    np.testing.assert_array_equal(short, np.concatenate([sound_of(1)[:44_000], np.zeros(100)]))
    np.testing.assert_array_equal(long, sound_of(1))


def test_without_visual_features_the_column_is_absent(
    tmp_path: Path, root: Path, few: Annotations, names: list[str]
) -> None:
    for path in (root / "video_s2").iterdir():
        path.unlink()
    result = import_preprocessed(root, tmp_path / "out", released=few)
    assert result.complete
    assert result.sentences() == ["no video_s2: the segments have no column 'visual'"]
    assert list(rows_of(tmp_path / "out")[names[0]]) == list(schema.SEGMENT_COLUMNS)


def test_the_same_files_give_the_same_bytes_and_a_second_run_does_nothing(
    tmp_path: Path, root: Path, few: Annotations, names: list[str]
) -> None:
    first = import_preprocessed(root, tmp_path / "one", released=few)
    import_preprocessed(root, tmp_path / "two", released=few)
    manifests = [(tmp_path / out / "manifest.json").read_bytes() for out in ("one", "two")]
    assert manifests[0] == manifests[1]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")}
    again = import_preprocessed(root, tmp_path / "one", released=few)
    assert again.counts == {**first.counts, "unchanged": True}
    assert again.report == first.report
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*")} == before
    # With a file mended since, the earlier import is replaced.
    (root / "motion_s2" / f"{names[0]}.npy").unlink()
    assert not import_preprocessed(root, tmp_path / "one", released=few).complete
    np.save(root / "motion_s2" / f"{names[0]}.npy", motion_of(0))
    assert import_preprocessed(root, tmp_path / "one", released=few).complete
    assert (tmp_path / "one" / "manifest.json").read_bytes() == manifests[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "one", "two"]


def test_nothing_else_is_overwritten_and_a_full_disk_leaves_what_was(
    tmp_path: Path, root: Path, few: Annotations, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("two years")
    with pytest.raises(UserError, match="is there already and holds something else"):
        import_preprocessed(root, tmp_path / "mine", released=few)
    import_preprocessed(root, tmp_path / "out", released=few)
    (tmp_path / "out" / ".notes").write_text("mine")  # no file of the set: then it is not replaced
    (root / "motion_s2" / f"{names[0]}.npy").unlink()
    with pytest.raises(UserError, match="is there already and holds something else"):
        import_preprocessed(root, tmp_path / "out", released=few)
    (tmp_path / "out" / ".notes").unlink()
    before = (tmp_path / "out" / "manifest.json").read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segment_set, "write_manifest", full)
        with pytest.raises(DiskFull, match="no room left to write data in"):
            import_preprocessed(root, tmp_path / "out", released=few)
    assert (tmp_path / "out" / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "mine", "out"]


def test_roots_that_hold_nothing_of_it(tmp_path: Path, root: Path, few: Annotations) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        import_preprocessed(tmp_path / "nowhere", tmp_path / "out", released=few)
    (tmp_path / "zips").mkdir()
    (tmp_path / "zips" / "motion_s2.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"holds no files such as motion_s2/.*; unpack motion_s2\.zip there first"):
        import_preprocessed(tmp_path / "zips", tmp_path / "out", released=few)
    for path in root.rglob("*.wav"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no segment can be imported from .*: 8 broken files: .* \(is no sound file\)"):
        import_preprocessed(root, tmp_path / "out", released=few)
    assert not (tmp_path / "out").exists()
    shown = CliRunner().invoke(app, ["import-preprocessed", "--out", str(tmp_path / "out")])
    assert "say where the unpacked archives are" in str(shown.exception)


def test_the_baseline_trains_on_it(tmp_path: Path, root: Path, few: Annotations) -> None:
    """Two steps of the released configuration, its sizes aside, through the command's own functions."""
    pytest.importorskip("torch")
    from tests.d2m_model.tiny_training import train_two_steps

    import_preprocessed(root, tmp_path / "out", released=few)
    model, losses = train_two_steps("released_tiktok_high", tmp_path / "out", tmp_path)
    assert model.visual_features == 2048
    trained = [row for row in losses if "latent" in row or "total" in row]
    assert len({row["step"] for row in losses}) >= 2
    assert trained
    assert all(np.isfinite(value) for row in losses for value in row.values())
