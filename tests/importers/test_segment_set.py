"""The folder of a set of segments: whole or absent, never over anything else; one sentence for whatever stops it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from aist_factory import motion_of, write_dance, write_layout, write_music
from preprocessed_factory import write_one
from typer.testing import CliRunner, Result

from tiktok_dm.cli.main import app
from tiktok_dm.errors import DiskFull, UserError
from tiktok_dm.importers.segment_set import (
    column_table,
    counted,
    describe_set,
    examples,
    held,
    set_meta,
    write_segment_set,
)

META = set_meta("a-set", "A set", {"seed": 3}, clips=1, compilations=1)


def fill(key: str, text: str):
    """Writes a set of one file."""

    def write(folder: Path) -> None:
        (folder / "data").mkdir()
        (folder / "data" / "rows.txt").write_text(text)
        describe_set(folder, key, META, {"segments": len(text)}, "# card\n")

    return write


def fail(error: BaseException):
    def write(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise error

    return write


def test_a_set_is_written_once_and_kept(tmp_path: Path) -> None:
    out = tmp_path / "a" / "set"
    first = write_segment_set(out, "k", fill("k", "abc"))
    assert (first["name"], first["segments"], first["unchanged"]) == ("a-set", 3, False)
    assert first["bytes"] == 3 + len("# card\n")
    assert write_segment_set(out, "k", fail(AssertionError())) == {**first, "unchanged": True}
    (out / "data" / "rows.txt").write_text("abd")
    assert held(out, "k") is None, "a byte of it was changed"
    assert [path.name for path in out.parent.iterdir()] == ["set"]


def test_only_a_whole_set_of_that_name_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "set"
    write_segment_set(out, "k", fill("k", "abc"))
    for name in (None, "another-set"):
        with pytest.raises(UserError, match="is there already and holds something else"):
            write_segment_set(out, "other", fill("other", "x"), replaces=name)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already and holds something else"):
        write_segment_set(out, "other", fill("other", "x"), replaces="a-set")
    (out / "mine.txt").unlink()
    assert write_segment_set(out, "other", fill("other", "x"), replaces="a-set")["segments"] == 1
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "data", "manifest.json"]


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (OSError(28, "No space left on device"), DiskFull, "no room left to write data in"),
        (OSError(30, "Read-only file system", "/x/y"), UserError, r"cannot be written: Read-only file system \(/x/y\)"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_what_stops_it_leaves_what_was(
    tmp_path: Path, error: BaseException, kind: type[BaseException], sentence: str | None
) -> None:
    out = tmp_path / "set"
    with pytest.raises(kind, match=sentence):
        write_segment_set(out, "k", fail(error))
    assert list(tmp_path.iterdir()) == []
    write_segment_set(out, "k", fill("k", "abc"))
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(kind, match=sentence):
        write_segment_set(out, "other", fail(error), replaces="a-set")
    assert (out / "manifest.json").read_bytes() == before
    assert held(out, "k") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_words() -> None:
    assert [counted(["a"] * n, "file") for n in (0, 1, 2_384)] == ["0 files", "1 file", "2,384 files"]
    assert [examples(list("abcd")[:n]) for n in (1, 3, 4)] == ["a", "a, b, c", "a, b, c, ..."]
    assert column_table({"x": ("int64", "a number")}) == "| `x` | int64 | a number |\n"


# ------------------------------------------------------------------------------------------ the commands, given badly


@pytest.fixture
def preprocessed(tmp_path: Path) -> list[str]:
    for k in (1, 2):
        write_one(tmp_path / "in", f"000000_0_0_seg{k}", k)
    return ["import-preprocessed", "--root", str(tmp_path / "in")]


@pytest.fixture
def aist(tmp_path: Path) -> list[str]:
    train, test = ["gBR_sBM_cAll_d05_mBR5_ch03", "gHO_sBM_cAll_d19_mHO2_ch04"], ["gLH_sBM_cAll_d17_mLH4_ch02"]
    root = write_layout(tmp_path / "ann", train, test)
    for seed, name in enumerate([*train, *test]):
        write_dance(root, name, 480, seed)
        write_music(tmp_path / "music", name.split("_")[4], 9.0, 300.0)
    return ["build", "--dataset", "aist++", "--annotations", str(root), "--media", str(tmp_path / "music")]


def run(words: list[str], out: Path) -> Result:
    return CliRunner().invoke(app, [*words, "--out", str(out)])


def told(result: Result) -> str:
    assert isinstance(result.exception, UserError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


@pytest.mark.parametrize("which", ["preprocessed", "aist"])
def test_an_out_that_is_somebody_else_s(tmp_path: Path, which: str, request: pytest.FixtureRequest) -> None:
    words = request.getfixturevalue(which)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("two years")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    inputs = Path(words[words.index("--root" if which == "preprocessed" else "--annotations") + 1])
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt", inputs):
        assert "is there already and holds something else: choose another folder" in told(run(words, out))
    sentence = told(run(words, tmp_path / "mine" / "thesis.txt" / "out"))
    assert f"{tmp_path / 'mine' / 'thesis.txt' / 'out'} cannot be written: File exists" in sentence
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_truncated_file_of_the_archives(tmp_path: Path, preprocessed: list[str]) -> None:
    path = tmp_path / "in" / "motion_s2" / "000000_0_0_seg2.npy"
    path.write_bytes(path.read_bytes()[:300])
    result = run(preprocessed, tmp_path / "out")
    assert result.exit_code == 3
    assert "1 broken file: motion_s2/000000_0_0_seg2.npy (is cut short)\n" in result.stdout
    assert "train: 1 segments of 1 clips, 1 songs" in result.stdout


class _Trap:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("/tmp/tiktok_dm_aist_trap_was_sprung",)


@pytest.mark.parametrize(
    ("folder", "data", "reason"),
    [
        ("motions", pickle.dumps(motion_of(480, 0))[:3_000], "is damaged or no pickle: download it again"),
        ("motions", b"", "is damaged or no pickle: download it again"),
        ("motions", pickle.dumps({"smpl_poses": _Trap()}), "this one asks for posix.mkdir"),
        (
            "motions",
            pickle.dumps({**motion_of(480, 0), "smpl_trans": np.zeros((479, 3))}),
            "holds poses 480x72 and places 479x3 where Nx72 and Nx3 belong",
        ),
    ],
)
def test_a_broken_file_of_aist(tmp_path: Path, aist: list[str], folder: str, data: bytes, reason: str) -> None:
    """The rest is made, and the command does not end well."""
    name = "gBR_sBM_cAll_d05_mBR5_ch03.pkl"
    (tmp_path / "ann" / folder / name).write_bytes(data)
    result = run(aist, tmp_path / "out")
    assert result.exit_code == 3
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("1 broken file: ")]
    assert line.startswith(f"1 broken file: {name} (")
    assert reason in line
    assert str(tmp_path) not in (tmp_path / "out" / "import.json").read_text()
    assert not Path("/tmp/tiktok_dm_aist_trap_was_sprung").exists()
    # Mended, the same command gives the whole, in the place of what was there.
    write_dance(tmp_path / "ann", name[:-4], 480, 0)
    result = run(aist, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "12 segments, 0 clips" in result.stdout
