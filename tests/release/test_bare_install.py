"""The wheel in environments of its own, as a new user makes them: each verb's shortest real job.

It installs from the package index that pip is set to, so it has a make target of its own (`make test-wheel`).
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.release.wheel_factory import ROOT, Built, Environment, build_release, environment, new_environment

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_release(tmp_path_factory.mktemp("release"))


def install(where: Environment, *what: str) -> None:
    call = ["pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt"), *what]
    where.run(*call)


@pytest.fixture(scope="module")
def base(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel alone, and the smallest demo built with it."""
    made = new_environment(tmp_path_factory.mktemp("base"))
    install(made, str(built.wheel))
    made.run("tiktok-dm", "models", "fetch")
    made.run("tiktok-dm", "build", "--demo", "--clips", "4", "--songs", "2", "--out", "demo")
    return made


def megabytes(folder: Path) -> float:
    """What a folder takes on disk."""
    return sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 1e6


def test_its_size_on_disk(base: Environment) -> None:
    """No torch, no MediaPipe, no OpenCV, no ffmpeg; the README gives the figure that this prints."""
    [site] = base.folder.glob("lib/python*/site-packages")
    sizes = {path.name: megabytes(path) if path.is_dir() else path.stat().st_size / 1e6 for path in site.iterdir()}
    for name in ("torch", "mediapipe", "jaxlib", "cv2", "imageio_ffmpeg"):
        assert name not in sizes
    whole = megabytes(base.folder)
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:12]
    print(f"\nbase install: {whole:.0f} MB: " + ", ".join(f"{name} {sizes[name]:.0f}" for name in largest))
    assert whole < 1_150


def test_help_takes_under_half_a_second_of_processor_time(base: Environment) -> None:
    taken = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        base.run("tiktok-dm", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    print(f"\ntiktok-dm --help: {min(taken):.2f} s of processor time")
    assert min(taken) < 0.5


def test_a_dataset_is_built_checked_and_opened(base: Environment) -> None:
    assert "demo: sound" in base.run("tiktok-dm", "verify", "demo")
    numbers = json.loads(base.run("tiktok-dm", "stats", "demo", "--json"))
    assert (numbers["clips"], numbers["songs"]) == (4, 2)
    code = (
        "from datasets import load_dataset; print('rows', load_dataset('demo', split='train').num_rows)\n"
        "from tiktok_dm.reading import open_dataset, decode_audio, decode_video\n"
        "row = open_dataset('demo')['train'][0]; print('samples', decode_audio(row['audio'])[0].shape)"
    )
    said = base.run("python", "-c", code)  # among the lines of `datasets`' progress
    assert re.search(r"^rows [23]$", said, re.MULTILINE)
    assert re.search(r"^samples \(\d{5,},\)$", said, re.MULTILINE)


def test_it_is_scored(base: Environment) -> None:
    base.run("tiktok-dm", "baselines", "demo", "--out", "baselines")
    [truth] = [path for path in (base.work / "baselines").iterdir() if path.name == "ground_truth"]
    said = base.run("tiktok-dm", "evaluate", "--reference", "demo", "--generated", truth, "--json", "scores.json")
    assert "beat_f_70ms" in said
    for seed in (0, 1, 2):
        clicks = base.work / "baselines" / "metronome_120"
        shutil.copytree(clicks, base.work / "music" / str(seed), ignore=shutil.ignore_patterns("*.json"))
    made = base.run(
        "tiktok-dm", "submit", "new", "submissions/clicks/1.0", "--dataset", "demo", "--predictions", "music"
    )
    assert "FILL IN" in made or "fill in" in made
    wrong = base.run("tiktok-dm", "submit", "check", "submissions/clicks/1.0", "--dataset", "demo", code=1)
    assert "Traceback" not in wrong
    base.run("tiktok-dm", "submit", "example", "examples")
    said = base.run("tiktok-dm", "leaderboard", "build", "submissions", "--dataset", "demo", "--out", "site", code=1)
    assert "10 baselines; 1 refused" in said
    assert (base.work / "site" / "index.html").stat().st_size > 10_000
    click = base.run("tiktok-dm", "metronome-check")
    assert re.search(r"beat_hit_d2m.*1\.000", click)


def test_annotations_and_splits(base: Environment) -> None:
    assert "445 clips" in base.run("tiktok-dm", "annotations", "check", "tiktok_dm", "--splits", "tiktok_dm")
    (base.work / "mine").mkdir()
    (base.work / "mine" / "compilations.csv").write_text("compilation_id,title,url,file\n0,,,a.mp4\n")
    clips = "".join(f"{n},0,{n // 2},{10 * n},{10 * n + 8}\n" for n in range(8))
    (base.work / "mine" / "clips.csv").write_text("clip_id,compilation_id,song_id,start_s,end_s\n" + clips)
    (base.work / "mine" / "songs.csv").write_text("song_id,title\n" + "".join(f"{n},song {n}\n" for n in range(4)))
    base.run("tiktok-dm", "split", "mine", "--test-fraction", "0.25")
    base.run("tiktok-dm", "annotations", "export", "mine", "--format", "elan", "--fps", "30", "--out", "elan")
    base.run("tiktok-dm", "build", "mine", "--media", ".", "--out", "none", "--dry-run")


def test_clips_are_proposed_and_taken_out(base: Environment) -> None:
    from_build = base.work / "again"
    base.run("tiktok-dm", "build", "--demo", "--clips", "4", "--songs", "2", "--out", from_build, "--keep-work")
    [video] = sorted((base.work / "again.work").rglob("compilation_0.mp4"))[:1]
    said = base.run("tiktok-dm", "propose", video, "--out", "proposed", "--no-dancers")
    assert "compilation 0: " in said
    base.run("tiktok-dm", "annotations", "check", "proposed")
    base.run("tiktok-dm", "remove", from_build, "--clip", "0", "--reason", "asked for")
    assert json.loads(base.run("tiktok-dm", "stats", from_build, "--json"))["clips"] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("d2m", "train", "demo"), "tiktok-dm[model]"),
        (("tiktok-dm", "listen", "new", "study", "--help"), "Usage"),
        (("tiktok-dm", "build", "--demo", "--pose", "vitpose", "--out", "x"), "install_mmpose"),
    ],
)
def test_what_an_extra_brings_is_said_in_one_sentence(base: Environment, words: tuple[str, ...], says: str) -> None:
    said = base.run(*words, code=0 if "--help" in words else 1)
    assert says in said


def test_the_model_trains_and_samples(base: Environment, built: Built) -> None:
    """The extra `model`, on top: codec, model, music, plot, as narrow as they go."""
    install(base, "torch")
    install(base, f"{built.wheel}[model]")
    base.run("tiktok-dm", "demo-segments", "demo_segments", "--songs", "4", "--clips", "8", "--test-share", "0.25")
    small = ["steps=2", "batch=2", "log_every=1", "save_every=2", "threads=1", "validate_every=2"]
    narrow = ["codec.width=8", "codec.depth=1", "codec.n_codes=16", "codec.latent_channels=24"]
    base.run("d2m", "codec", "train", "demo", *small, "quantise_from=1", *narrow)
    model = ["validation_songs=1", "samples=0", "logger=none", "cache=cache", "accelerator=cpu", "decoded_frames=8"]
    base.run("d2m", "train", "demo", *small, *model, "model.width=0.03125", "model.motion_embedding=16")
    base.run("d2m", "plot", "runs/demo")
    base.run("d2m", "info")
    video = next((base.work / "again.work").rglob("compilation_0.mp4"))
    base.run("d2m", "sample", "runs/demo/best", video, "--out", "music")
    assert len(list((base.work / "music").glob("*.wav"))) == 1


def test_the_web_pages_are_served(base: Environment, built: Built) -> None:
    install(base, f"{built.wheel}[web]")
    base.run("python", "-c", "import starlette, uvicorn, sqlalchemy, psycopg, statsmodels")
    assert "serve" in base.run("tiktok-dm", "listen", "--help")


@pytest.mark.parametrize("extra", ["decode", "model", "ray", "test", "visual", "web", "youtube"])
def test_each_extra_resolves(base: Environment, built: Built, extra: str) -> None:
    install(base, "--dry-run", f"{built.wheel}[{extra}]")


def test_from_the_sdist_as_from_the_wheel(built: Built, tmp_path: Path) -> None:
    import zipfile

    call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    done = subprocess.run(
        [*call, str(built.sdist)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [again] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(again) as one, zipfile.ZipFile(built.wheel) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
