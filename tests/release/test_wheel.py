"""What a release holds, and that it works where there is no checkout."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.release.wheel_factory import ROOT, Built, Environment, borrowing_environment, build_release


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return borrowing_environment(tmp_path_factory.mktemp("installed"), built.wheel)


def in_wheel(built: Built) -> set[str]:
    with zipfile.ZipFile(built.wheel) as archive:
        return set(archive.namelist())


def in_sdist(built: Built) -> set[str]:
    with tarfile.open(built.sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def tracked(pattern: str) -> set[str]:
    return {p.relative_to(ROOT).as_posix() for p in ROOT.glob(pattern) if p.is_file() and "__pycache__" not in p.parts}


def test_the_wheel_holds_all_that_the_packages_need(built: Built) -> None:
    names = in_wheel(built)
    for package in ("tiktok_dm", "d2m_model"):
        assert {name for name in tracked(f"{package}/**/*") if not name.endswith((".nbi", ".nbc"))} <= names
    for top in ("annotations", "splits", "submissions"):
        assert {f"tiktok_dm/shipped/{name}" for name in tracked(f"{top}/**/*")} <= names
    assert "d2m_model/configs/ablations/no_audio.yaml" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_nothing_else(built: Built) -> None:
    tops = {name.partition("/")[0] for name in in_wheel(built)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"tiktok_dm", "d2m_model"}
    assert built.wheel.stat().st_size < 3 << 20


def test_the_sdist_holds_the_whole_project(built: Built) -> None:
    names = in_sdist(built)
    for pattern in ("docs/**/*", "tests/**/*.py", "tests/data/*", "annotations/**/*", "splits/*", "submissions/**/*"):
        assert tracked(pattern) <= names
    for pattern in ("benchmarks/*", "tools/*", ".github/**/*", "tiktok_dm/**/*.py", "d2m_model/**/*.yaml"):
        assert tracked(pattern) <= names
    for name in ("CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", ".ci/run"):
        assert name in names
    assert {"constraints.txt", "pyproject.toml", "setup.py"} <= names
    assert not [name for name in names if name.endswith(".pyc") or name.startswith(("build/", ".venv"))]


def test_the_metadata_says_what_is_needed(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    assert "Requires-Python: >=3.11\n" in text
    needs = re.findall(r"^Requires-Dist: ([\w.-]+)", text, re.MULTILINE)
    assert not {"mediapipe", "jax", "opencv-contrib-python", "opencv-python"} & set(needs)
    without_extra = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", text, re.MULTILINE)
    assert not {"torch", "imageio-ffmpeg", "deno"} & set(without_extra)


def test_nothing_comes_from_the_checkout(installed: Environment) -> None:
    code = "import tiktok_dm, d2m_model; print(tiktok_dm.__file__, d2m_model.__file__)"
    for path in installed.run("python", "-c", code).split():
        assert Path(path).is_relative_to(installed.folder)


def test_released_annotations_and_splits_are_inside(installed: Environment) -> None:
    said = installed.run("tiktok-dm", "annotations", "check", "tiktok_dm", "--splits", "tiktok_dm")
    assert "15 compilations, 445 clips, 86 songs" in said
    assert "392 train clips" in said
    assert "307 test released segments" in said
    # As the README writes it for a checkout.
    check = ("tiktok-dm", "annotations", "check")
    assert installed.run(*check, "annotations/tiktok_dm", "--splits", "splits/tiktok_dm.csv") == said


def test_the_example_of_a_submission_is_inside(installed: Environment) -> None:
    installed.run("tiktok-dm", "submit", "example", "submissions")
    folder = installed.work / "submissions"
    card = yaml.safe_load((folder / "metronome" / "1.0" / "submission.yaml").read_text())
    assert (card["system"], card["benchmark"]["dataset"]) == ("metronome", "demo")
    assert "## submission.yaml" in (folder / "README.md").read_text()
    said = installed.run("tiktok-dm", "submit", "example", "submissions", code=1)
    assert "exists already: remove it first" in said


def test_configurations_are_inside(installed: Environment) -> None:
    said = installed.run("d2m", "configs")
    for name in ("demo", "paper_high", "released_aist_low", "ablations/visual_only", "jukebox_low"):
        assert re.search(rf"^  {name} +\S", said, re.MULTILINE), name
    text = installed.run("d2m", "configs", "codec/demo")
    assert text == (ROOT / "d2m_model/configs/codec/demo.yaml").read_text()
    said = installed.run("d2m", "train", "dem", code=1)
    assert "There is no configuration 'dem', neither a file nor a shipped one: did you mean 'demo'?" in said


def test_training_by_a_configurations_name(installed: Environment) -> None:
    """A codec, a model and music, two steps each, as narrow as they go, in an empty folder."""
    installed.run("tiktok-dm", "demo-segments", "demo_segments", "--songs", "4", "--clips", "8", "--test-share", "0.25")
    small = ["steps=2", "batch=2", "log_every=1", "save_every=2", "threads=1"]
    codec = {"width": 8, "depth": 1, "n_codes": 16, "latent_channels": 24}
    narrow = [f"codec.{name}={value}" for name, value in codec.items()]
    installed.run("d2m", "codec", "train", "demo", *small, "validate_every=2", "quantise_from=1", *narrow)
    said = installed.run(
        "d2m",
        "train",
        "configs/demo.yaml",
        *small,
        "validate_every=2",
        "validation_songs=1",
        "samples=0",
        "logger=none",
        "cache=cache",
        "accelerator=cpu",
        "model.width=0.03125",
        "model.motion_embedding=16",
        "decoded_frames=8",
    )
    assert "runs/demo: 2 steps" in said
    installed.run("d2m", "sample", "runs/demo/best", "demo_segments", "--out", "music")
    assert sorted((installed.work / "music").rglob("*.wav"))
