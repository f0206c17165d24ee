"""The command as a user meets it: exit codes, one sentence an error, JSON for machines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.build_factory import write_annotations
from tiktok_dm.cli import main as cli

RELEASED = Path(__file__).resolve().parents[1] / "annotations" / "tiktok_dm"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tiktok_dm", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "--demo"], "--out"),
        (["build", "--out", "x"], "--demo"),
        (["build", "nowhere", "--out", "x"], "nowhere"),
        (["build", "--demo", "--out", "x", "--pose", "mediapip"], "did you mean 'mediapipe'"),
        (["build", "--demo", "--out", "x", "--only", "clip"], "--only"),
        (["build", "--demo", "--out", "x", "--executor", "slurm"], "slurm"),
        (["build", "--demo", "--out", "x", "--cookies", "none.txt"], "none.txt"),
        (["verify", "nowhere"], "nowhere"),
        (["stats", "nowhere"], "nowhere"),
        (["remove", "nowhere", "--clip", "1", "--reason", "x"], "nowhere"),
        (["remove", "nowhere", "--reason", "x"], "exactly one"),
        (["split", "nowhere"], "nowhere"),
        (["annotations", "import", "nowhere.csv", "--out", "x"], "nowhere.csv"),
        (["annotations", "import", "nowhere.csv", "--out", "x", "--column", "a"], "name=theirs"),
    ],
)
def test_bad_requests_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_check_names_every_problem_and_fails(tmp_path: Path) -> None:
    write_annotations(tmp_path / "films", {0: (0, 0, 2.0, 1.0), 1: (0, 1, -3.0, 5.5)})
    done = run("annotations", "check", tmp_path / "films", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert not found["ok"]
    assert {(p["file"], p["row"]) for p in found["problems"]} == {("clips.csv", 2), ("clips.csv", 3)}


def test_the_released_annotations_have_no_problem() -> None:
    done = run("annotations", "check", RELEASED, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["ok"]
    done = run("split", RELEASED, "--audit", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"]


def test_dry_run_of_the_released_clips_says_what_is_missing() -> None:
    done = run("build", RELEASED, "--out", "unused", "--dry-run", "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert (found["clips"], found["buildable"]) == (445, 0)
    assert found["not_buildable_because"] == ["no start and end in the annotations"]
    assert not Path("unused").exists()


def test_split_writes_whole_songs(tmp_path: Path) -> None:
    clips = {i: (0, i % 4, 10.0 * i, 10.0 * i + 5) for i in range(12)}
    write_annotations(tmp_path / "films", clips)
    done = run("split", tmp_path / "films", "--test-fraction", "0.25", "--seed", "1", "--json")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "films" / "splits.csv").read_text().splitlines()
    assert lines[0] == "song_id,split"
    assert sorted(line.split(",")[1] for line in lines[1:]) == ["test", "train", "train", "train"]
    assert run("split", tmp_path / "films", "--audit").returncode == 0


def test_the_help_of_a_build_groups_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    panels: dict[str, list[str]] = {}
    for line in run("build", "--help").stdout.splitlines():
        if line.startswith("╭─"):
            rows = panels.setdefault(line.strip("╭─╮ "), [])
        elif line.startswith("│ --"):
            rows.append(line.split()[1])
    assert {name: " ".join(options) for name, options in panels.items()} == {
        "Arguments": "",
        "Options": "--out --splits --seed --only --max-height --dry-run --json --help",
        "Sources": "--media --annotations --demo --clips --songs --audio-track",
        "Downloads": "--max-gigabytes --max-hours --pause --retries --retry-gone --cookies --cookies-from-browser "
        "--allow-private-networks",
        "Poses and visual features": "--pose --visual --visual-weights --visual-flow --device",
        "Machine": "--workers --executor --ray-address --keep-work",
    }


def test_version() -> None:
    from tiktok_dm import __version__

    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    ("number", "words"), [(30, "read-only"), (13, "may not"), (28, "no room"), (24, "too many files")]
)
def test_an_error_of_the_disk_is_one_sentence(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise OSError(number, "as the system says", "/somewhere/file")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    told = capsys.readouterr().err
    assert stop.value.code == 1
    assert told.count("\n") == 1
    assert words in told
    assert "/somewhere/file" in told


def test_the_keyboard_ends_any_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", stopped)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert (stop.value.code, capsys.readouterr().err) == (130, "tiktok-dm: stopped\n")
