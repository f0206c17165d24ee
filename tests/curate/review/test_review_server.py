"""The review's server: what it saves, what it refuses, what it shows of the videos, and who may ask."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from media_factory import clicks, constant, film, number_of, numbered
from review_factory import started, tables

from tiktok_dm.curate.proposals import read_proposals, read_sources, work_folder, write_proposals, write_sources
from tiktok_dm.curate.review.assets import Assets, FrameTimes, picture_times, together
from tiktok_dm.errors import ProblemsError, UserError

testclient = pytest.importorskip(
    "starlette.testclient", reason="the server is not installed: pip install 'tiktok-dm[web]'"
)
httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install 'tiktok-dm[test]'")

from tiktok_dm.curate.review import server  # noqa: E402
from tiktok_dm.curate.review.server import create_app, find_sources  # noqa: E402


class Page:
    """The page of one window: it posts on the revision that it knows."""

    def __init__(self, folder: Path, sources: dict[int, Path] | None = None, app: Any = None) -> None:
        self.folder = folder
        self.app = app or create_app(folder, read_sources(folder) if sources is None else sources)
        self.client = testclient.TestClient(self.app, base_url="http://127.0.0.1:8000")
        self.state = self.get("/api/state").json()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def post(self, path: str = "/api/edit", **body: Any) -> Any:
        if path == "/api/edit":
            body = {"revision": self.state["revision"]} | body
        reply = self.client.post(path, json=body)
        if reply.content and "state" in reply.json():
            self.state = reply.json()["state"]
        return reply


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Video 0: 180 numbered pictures at 30 a second and a click every half second; 1: uneven, with B-frames, silent."""
    root = tmp_path_factory.mktemp("films")
    even = film(
        root / "compilation_0.mp4",
        [numbered(n) for n in range(180)],
        *constant(180, 30),
        sound=clicks(np.arange(0.25, 6, 0.5), 6.0, 48_000),
        gop=48,
    )
    stamps = [*range(0, 40), *range(42, 100, 2), *range(101, 160, 3)]
    uneven = film(
        root / "compilation_1.mp4", [numbered(n) for n in range(len(stamps))], stamps, Fraction(1, 25), b_frames=2
    )
    return {0: even, 1: uneven}


@pytest.fixture
def folder(tmp_path: Path, films: dict[int, Path]) -> Path:
    clips = [(0, 0, 0, 0.5, 2.0, 1), (1, 0, 1, 2.0, 4.0, 2), (2, 0, 0, 4.0, 6.0, 1), (3, 1, 1, 0.0, 2.0, 1)]
    tables(
        tmp_path / "p",
        clips,
        rejected=[(0, 0.0, 0.5, "title_card")],
        pairs=[(0, 2, 0.9, 1.0, 0.0), (1, 3, 0.6, 1.0, 0.0)],
        candidates=[(0, 2.0, "hard_cut", 0.9, "yes"), (0, 3.0, "flash", 0.2, "no")],
    )
    write_sources(tmp_path / "p", films)
    return tmp_path / "p"


def starts(folder: Path) -> dict[int, float]:
    clips = read_proposals(folder).clips
    return dict(zip(clips.clip_id, clips.start_s, strict=True))


# ------------------------------------------------------------------------------------------- edits


def test_an_edit_is_in_the_files_when_it_is_answered(folder: Path) -> None:
    page = Page(folder)
    reply = page.post(action="nudge", clip=1, edge="start", by=1)
    assert reply.status_code == 200
    assert reply.json()["what"] == "Start of clip 1 put to 2.03 s"
    assert starts(folder)[1] == 2.033333
    assert page.state["revision"] == read_proposals(folder).revision
    assert page.post(action="cut", clip=2, frame=150).json()["clip"] == 4
    assert page.post(action="merge", clip=4, other=2).json()["clip"] == 2
    assert page.post(action="song", clip=2, song=None).status_code == 200
    assert page.post(action="dancers", clip=2, n=5).status_code == 200
    assert page.post(action="accept", clip=3).status_code == 200
    assert page.post(action="move", clip=0, edge="start", frame=20).status_code == 200
    assert page.post(action="answer", a=1, b=3, answer="same").status_code == 200
    assert page.post(action="restore", compilation=0, start=0.0, end=0.5).json()["clip"] == 5
    assert page.post(action="reject", clip=1).json()["clip"] is None
    now = read_proposals(folder)
    assert list(now.clips.clip_id) == [0, 2, 3, 5]
    assert {c["id"]: (c["song"], c["dancers"], c["review"]) for c in page.state["clips"]} == {
        0: (0, 1, "mended"),
        2: (2, 5, "mended"),
        3: (1, 1, "accepted"),
        5: (3, None, "mended"),
    }


def test_an_edit_on_an_old_state_is_refused_with_the_new_one(folder: Path) -> None:
    one = Page(folder)
    other = Page(folder, app=one.app)
    other.post(action="dancers", clip=0, n=4)
    before = read_proposals(folder)
    reply = one.post(action="dancers", clip=0, n=2)
    assert reply.status_code == 409
    assert reply.json()["error"].startswith("The files were changed elsewhere, so this edit was not made")
    assert one.state["clips"][0]["dancers"] == 4
    assert read_proposals(folder).revision == before.revision
    assert one.post(action="dancers", clip=0, n=2).status_code == 200


def test_two_servers_on_one_folder_do_not_overwrite_each_other(folder: Path) -> None:
    one, other = Page(folder), Page(folder)
    assert other.post(action="dancers", clip=0, n=4).status_code == 200
    assert one.post(action="accept", clip=1).status_code == 409
    assert one.post(action="accept", clip=1).status_code == 200
    assert other.post(action="undo").status_code == 409
    assert "nothing to undo" in other.post(action="undo").json()["error"]
    clips = {c["id"]: c for c in other.state["clips"]}
    assert (clips[0]["dancers"], clips[1]["review"]) == (4, "accepted")


def test_undo_and_redo_reach_the_files(folder: Path) -> None:
    page = Page(folder)
    texts = {path.name: path.read_text() for path in folder.glob("*.csv")}
    page.post(action="cut", clip=1, frame=90)
    page.post(action="reject", clip=0)
    after = {path.name: path.read_text() for path in folder.glob("*.csv")}
    assert page.state["undo"] == "Clip 0 rejected"
    back = page.post(action="undo").json()
    assert (back["what"], back["clip"]) == ("Undone: clip 0 rejected", 0)
    assert page.post(action="undo").json()["clip"] == 1
    assert {path.name: path.read_text() for path in folder.glob("*.csv")} == texts
    assert (page.state["undo"], page.state["redo"]) == (None, "Clip 1 cut at 3.00 s; clip 4 begins there")
    assert page.post(action="redo").json()["clip"] == 4
    assert page.post(action="redo").json()["clip"] is None
    assert {path.name: path.read_text() for path in folder.glob("*.csv")} == after
    assert page.post(action="redo").status_code == 422


def test_ids_of_clips_that_are_gone_stay_gone_after_a_restart(folder: Path) -> None:
    page = Page(folder)
    assert page.post(action="cut", clip=1, frame=90).json()["clip"] == 4
    assert page.post(action="merge", clip=1, other=4).json()["clip"] == 1
    assert Page(folder).post(action="cut", clip=1, frame=90).json()["clip"] == 5


def test_files_edited_by_hand_are_shown_and_mistakes_are_named(folder: Path) -> None:
    page = Page(folder)
    page.post(action="dancers", clip=0, n=3)
    text = (folder / "clips.csv").read_text()
    (folder / "clips.csv").write_text(text.replace("0.5,2,3", "0.5,2,2"))
    assert page.get("/api/revision").json()["revision"] != page.state["revision"]
    page.state = page.get("/api/state").json()
    assert page.state["clips"][0]["dancers"] == 2
    assert page.state["undo"] is None  # it would take the hand's edit back too
    (folder / "clips.csv").write_text(text.replace("0.5,2,3", "0.5,2,9"))
    for reply in (page.post(action="accept", clip=0), page.post(action="undo")):
        assert reply.status_code == 423
        (problem,) = reply.json()["state"]["problems"]
        assert (problem["file"], problem["line"], problem["column"]) == ("clips.csv", 2, "n_dancers")
        assert "9 dancers do not fit" in problem["message"]
    assert page.get("/api/candidates/0").json() == []
    (folder / "clips.csv").write_text(text)
    page.state = page.get("/api/state").json()
    assert page.state["problems"] == []
    assert page.post(action="accept", clip=0).status_code == 200


NONSENSE: list[dict[str, Any]] = [
    {},
    {"action": "burn"},
    {"action": "accept"},
    {"action": "accept", "clip": "0"},
    {"action": "accept", "clip": True},
    {"action": "nudge", "clip": 0, "edge": "middle", "by": 1},
    {"action": "nudge", "clip": 0, "edge": "start", "by": 10**9},
    {"action": "move", "clip": 0, "edge": "start", "frame": -1},
    {"action": "answer", "a": 0, "b": 2, "answer": "maybe"},
    {"action": "answer", "a": 0, "b": 2, "answer": "different", "move": ["x"]},
    {"action": "restore", "compilation": 0, "start": None, "end": 1},
    {"action": "undo", "revision": 3},
]


def test_requests_that_the_page_never_makes(folder: Path) -> None:
    page = Page(folder)
    before = page.state["revision"]
    for body in NONSENSE:
        assert page.post(**body).status_code == 400, body
    assert page.get("/api/revision").json()["revision"] == before


def test_refusals_are_sentences(folder: Path) -> None:
    page = Page(folder)
    for body, words in [
        ({"action": "accept", "clip": 77}, "There is no clip 77 any more: choose one of the list."),
        ({"action": "cut", "clip": 77, "frame": 3}, "There is no clip 77 any more: choose one of the list."),
        ({"action": "nudge", "clip": 2, "edge": "end", "by": 5}, "The video ends there: it lasts 6.00 s."),
        ({"action": "dancers", "clip": 0, "n": 9}, "9 dancers do not fit"),
        ({"action": "answer", "a": 0, "b": 3, "answer": "same"}, "Clips 0 and 3 are no pair any more"),
    ]:
        reply = page.post(**body)
        assert reply.status_code == 422
        assert words in reply.json()["error"]
    reply = page.post(action="answer", a=0, b=2, answer="different")
    assert (reply.status_code, reply.json()["clips"], reply.json()["suggested"]) == (422, [0, 2], [2])
    assert page.post(action="answer", a=0, b=2, answer="different", move=[2]).status_code == 200


def test_without_a_video_times_stay_and_the_rest_goes(folder: Path) -> None:
    page = Page(folder, sources={})
    assert [c["present"] for c in page.state["compilations"]] == [False, False]
    reply = page.post(action="nudge", clip=0, edge="start", by=1)
    assert reply.status_code == 422
    assert "The video of compilation 0 is not here" in reply.json()["error"]
    assert page.get("/media/0/video").status_code == 404
    assert page.post(action="dancers", clip=0, n=2).status_code == 200


def test_the_place_is_kept_for_the_next_session(folder: Path) -> None:
    place = {"compilation": 0, "clip": 1, "time": 2.5, "filters": {"low": True}}
    assert Page(folder).post("/api/place", **place).status_code == 204
    assert Page(folder).state["place"] == place
    assert Page(folder).post("/api/place", folder="/etc").status_code == 400
    (work_folder(folder) / "review" / "place.json").write_text("{half")
    assert Page(folder).state["place"] == {}


# ------------------------------------------------------------------------------------------- who may ask


def test_only_this_machines_own_page_may_ask(folder: Path) -> None:
    page = Page(folder)
    assert page.get("/", host="evil.example:8000").status_code == 421
    assert page.get("/", host="127.0.0.1.evil.example").status_code == 421
    assert page.get("/", host="localhost:8000").status_code == 200
    assert page.get("/api/state", **{"sec-fetch-site": "cross-site"}).status_code == 403
    assert page.get("/media/0/video", **{"sec-fetch-site": "same-site"}).status_code == 403
    assert page.get("/", **{"sec-fetch-site": "cross-site"}).status_code == 200  # a link to the page
    edit = {"revision": page.state["revision"], "action": "dancers", "clip": 0, "n": 5}
    for headers, status in [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-length": "99999999"}, 413),
    ]:
        sent = {"content-type": "application/json"} | headers
        assert page.client.post("/api/edit", content=json.dumps(edit), headers=sent).status_code == status
    assert page.get("/api/revision").json()["revision"] == page.state["revision"]
    assert page.client.post("/api/edit", json=edit, headers={"origin": "http://127.0.0.1:8000"}).status_code == 200


def test_no_path_leads_out(folder: Path) -> None:
    page = Page(folder)
    for path in (
        "/media/9/video",
        "/media/..%2f..%2fetc/video",
        "/media/0/huge/1.jpg",
        "/media/0/small/x.jpg",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/vendor/wavesurfer/LICENSE.txt",
        "/api/beats/99",
        "/api/poses/-1",
    ):
        assert page.get(path).status_code == 404, path


def test_the_page_brings_everything_it_needs(folder: Path) -> None:
    page = Page(folder)
    reply = page.get("/")
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    (nonce,) = [word for word in policy.split() if "nonce-" in word]
    assert nonce.strip("';").removeprefix("nonce-") in reply.text
    assert "{{" not in reply.text
    assert "http" not in reply.text.replace("http-equiv", "")
    for name in ("app.js", "app.css", "dom.js", "overlay.js", "pairs.js", "timeline.js"):
        found = page.get(f"/static/{name}")
        assert found.status_code == 200
        assert "http://" not in found.text
        assert "https://" not in found.text
    assert page.get("/static/app.js").headers["content-type"].startswith("text/javascript")
    assert page.get("/favicon.ico").status_code == 204


def test_wavesurfer_is_the_released_file_with_its_licence() -> None:
    import hashlib
    from importlib import resources

    vendored = resources.files("tiktok_dm.curate.review") / "static" / "vendor" / "wavesurfer"
    told = (vendored / "README.txt").read_text()
    assert "wavesurfer.js 7.12.12" in told
    for name in ("wavesurfer.esm.js", "regions.esm.js"):
        assert f"{hashlib.sha256((vendored / name).read_bytes()).hexdigest()}  {name}" in told
    assert "BSD 3-Clause License" in (vendored / "LICENSE.txt").read_text()


# ------------------------------------------------------------------------------------------- videos


def test_ranges_of_the_video(folder: Path, films: dict[int, Path]) -> None:
    data, page = films[0].read_bytes(), Page(folder)
    whole = page.get("/media/0/video")
    assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, "video/mp4", data)
    part = page.get("/media/0/video", range="bytes=100-299")
    assert (part.status_code, part.content) == (206, data[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(data)}"
    assert page.get("/media/0/video", range=f"bytes={len(data) - 5}-").content == data[-5:]
    assert page.get("/media/0/video", range=f"bytes={len(data)}-").status_code == 416


def test_pictures_are_those_asked_for(folder: Path) -> None:
    from PIL import Image

    page = Page(folder)
    for compilation, index in [(0, 0), (0, 59), (0, 60), (0, 61), (0, 179), (0, 500), (1, 45), (1, 44), (1, 80)]:
        reply = page.get(f"/media/{compilation}/small/{index}.jpg")
        assert reply.headers["content-type"] == "image/jpeg"
        assert "max-age" in reply.headers["cache-control"]
        picture = np.asarray(Image.open(BytesIO(reply.content)))
        assert number_of(picture) == min(index, 179)
    kept = sorted(work_folder(folder).glob("review/0-*/small/*.jpg"))
    # 60 is on screen at 2.0 s: the whole seconds came along; 59 and 179 brought their neighbours.
    assert {int(p.stem) for p in kept} == {0, 30, 60, 90, 120, 150, 57, 58, 59, 61, 177, 178, 179}
    large = np.asarray(Image.open(BytesIO(page.get("/media/0/large/33.jpg").content)))
    assert number_of(large) == 33


def test_pictures_that_are_made_together() -> None:
    uneven = FrameTimes(np.array([0.0, 0.4, 0.9, 1.6, 2.2, 2.3, 9.5, 10.0]))
    assert together(uneven, 2) == [0, 2, 3, 5]  # on screen at 1.0 s; so are 0, 3 and 5 (to 9.5 s) at others
    assert together(uneven, 1) == [0, 1, 2, 3]
    assert together(uneven, 4) == [2, 3, 4, 5, 6]


def test_when_pictures_come(folder: Path, films: dict[int, Path]) -> None:
    page = Page(folder)
    even = np.frombuffer(page.get("/media/0/frames").content, "<f8")
    np.testing.assert_allclose(even, np.arange(181) / 30, atol=1e-4)
    uneven = picture_times(films[1])
    stamps = [*range(0, 40), *range(42, 100, 2), *range(101, 160, 3)]
    np.testing.assert_allclose(uneven[:-1], np.array(stamps) / 25, atol=1e-4)
    assert uneven[-1] > uneven[-2]
    facts = page.get("/media/0/facts").json()
    assert (facts["width"], facts["height"], facts["fps"], facts["sound"]) == (96, 64, 30.0, True)
    assert facts["duration_s"] == pytest.approx(6.0, abs=0.05)


def test_the_outline_shows_the_clicks(folder: Path) -> None:
    page = Page(folder)
    outline = np.frombuffer(page.get("/media/0/outline").content, np.uint8)
    loud = np.flatnonzero(outline > 60)
    assert {round(k / 100 * 4) / 4 for k in loud} == set(np.arange(0.25, 6, 0.5))
    assert outline.max() <= 255
    silent = np.frombuffer(page.get("/media/1/outline").content, np.uint8)
    assert silent.max() == 0
    assert len(silent) == round(page.get("/media/1/facts").json()["duration_s"] * 100)


def test_beats_of_a_clip_lie_in_the_compilations_time(folder: Path) -> None:
    page = Page(folder)
    found = page.get("/api/beats/2").json()
    beats = np.array(found["beats_s"])
    assert found["tempo_bpm"] == pytest.approx(120, rel=0.02) or found["tempo_bpm"] == pytest.approx(60, rel=0.02)
    assert len(beats) >= 2
    assert ((beats >= 4) & (beats < 6)).all()
    assert np.abs((beats - 0.25 + 0.25) % 0.5 - 0.25).max() < 0.06
    assert page.get("/api/beats/3").json() == {"tempo_bpm": None, "beats_s": []}


def test_poses_are_sent_as_they_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiktok_dm.curate import video_findings as dancers
    from tiktok_dm.files import sha256_file

    page = Page(folder)
    assert page.get("/api/poses/1").status_code == 204
    poses = np.random.default_rng(0).random((60, 2, 25, 3)).astype(np.float32)
    asked: list[Any] = []

    def stored(*args: Any) -> np.ndarray:
        asked.append(args)
        return poses

    monkeypatch.setattr(dancers, "stored_poses", stored)
    data = page.get("/api/poses/1").content
    assert tuple(np.frombuffer(data[:8], "<i4")) == (60, 2)
    np.testing.assert_array_equal(np.frombuffer(data[8:], "<f4").reshape(poses.shape), poses)
    assert asked == [(work_folder(folder), sha256_file(read_sources(folder)[0]), 2.0, 4.0)]


def test_a_clip_that_is_no_more_has_no_beats_and_no_poses(folder: Path) -> None:
    page = Page(folder)
    page.post(action="reject", clip=3)
    for what in ("beats", "poses"):
        gone = page.get(f"/api/{what}/3")  # asked for while it was rejected: nothing to complain of
        assert (gone.status_code, gone.content) == (204, b"")
        assert page.get(f"/api/{what}/4").status_code == 404


def test_another_video_under_the_same_id_is_another_thing(folder: Path, films: dict[int, Path], tmp_path: Path) -> None:
    first = Assets(work_folder(folder), films).frame_times(0)
    other = Assets(work_folder(folder), {0: films[1]}).frame_times(0)
    assert (len(first), len(other)) == (181, 40 + 29 + 20 + 1)


def test_sources_are_found_by_name_or_id(folder: Path, films: dict[int, Path], tmp_path: Path) -> None:
    assert find_sources(folder, None) == films
    media = tmp_path / "media"
    media.mkdir()
    with pytest.raises(UserError, match="holds none of the videos"):
        find_sources(folder, media)
    (media / "1.mp4").symlink_to(films[1])
    assert find_sources(folder, media) == {0: films[0], 1: media / "1.mp4"}
    with pytest.raises(UserError, match="is not a folder"):
        find_sources(folder, tmp_path / "nowhere")


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    held: list[subprocess.Popen[str]] = []
    yield held
    for process in held:
        process.kill()
        process.wait()


def test_a_server_that_is_killed_loses_nothing(folder: Path, processes: list) -> None:
    process, address = started(folder)
    processes.append(process)
    with httpx.Client(base_url=address.partition("/?")[0], timeout=30, follow_redirects=True) as client:
        assert client.get(address).status_code == 200
        state = client.get("/api/state").json()
        for n in (4, 5, 3):
            body = {"revision": state["revision"], "action": "dancers", "clip": 0, "n": n}
            state = client.post("/api/edit", json=body).json()["state"]
    os.kill(process.pid, signal.SIGKILL)
    assert Page(folder).state["clips"][0]["dancers"] == 3
    # A change that was cut off while it was written is finished by whoever opens the folder next.
    pending = folder / ".pending"
    pending.mkdir()
    (pending / "clips.csv").write_text((folder / "clips.csv").read_text().replace("0.5,2,3", "0.5,2,1"))
    (pending / "complete.json").write_text('["clips.csv"]')
    assert Page(folder).state["clips"][0]["dancers"] == 1


def test_what_serve_refuses(folder: Path) -> None:
    from tiktok_dm.curate.review import serve

    with pytest.raises(UserError, match="is not a folder"):
        serve(folder / "nowhere", open_browser=False)
    with pytest.raises(UserError, match=r"0\.0\.0\.0 is not this machine's own"):
        serve(folder, host="0.0.0.0", open_browser=False)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match=r"port \d+ cannot be had"):
        serve(folder, port=taken.getsockname()[1], open_browser=False)


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_no_folder_of_proposals_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "clips.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes holds no clips\.csv: give the folder that"):
        server.serve(tmp_path / "notes", open_browser=False)
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]
    assert _bytes_of(tmp_path / "notes") == {"clips.txt": b"mine"}


def test_the_command_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiktok_dm.cli import main as cli

    monkeypatch.setattr(sys, "argv", ["tiktok-dm", "review", str(tmp_path / "nowhere"), "--no-browser"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("tiktok-dm: ")
    assert "nowhere is not a folder: give the one that `tiktok-dm propose --out` wrote" in told


@pytest.mark.parametrize(
    ("table", "text", "told"),
    [
        ("clips", "clip_id,compilation_id,song_id,start_s,end_s\n0,0,0,3,1\n", r"clips\.csv, line 2, column end_s"),
        ("proposals", "clip_id,start_confidence\n0,much\n", r"proposals\.csv, line 2, column start_confidence"),
        ("same_songs", "\x00\x01", r"same_songs\.csv"),
    ],
)
def test_damaged_tables_are_named_before_a_session_begins(folder: Path, table: str, text: str, told: str) -> None:
    (folder / f"{table}.csv").write_text(text)
    before = _bytes_of(folder)
    with pytest.raises(ProblemsError, match=told):
        server.serve(folder, open_browser=False)
    assert _bytes_of(folder) == before


def test_a_place_that_cannot_be_written_is_named_before_a_session_begins(folder: Path) -> None:
    before = _bytes_of(folder)
    work_folder(folder).rename(folder.parent / "aside")
    work_folder(folder).write_text("a file in the place of the folder")
    with pytest.raises(UserError, match=r"p\.work cannot be written \(File exists\): a review saves every edit there"):
        server.serve(folder, open_browser=False)
    work_folder(folder).unlink()
    (folder.parent / "aside").rename(work_folder(folder))
    folder.chmod(0o555)
    try:
        if not os.access(folder, os.W_OK):  # root may write anywhere
            with pytest.raises(UserError, match=r"p cannot be written \(Permission denied\)"):
                server.serve(folder, open_browser=False)
    finally:
        folder.chmod(0o755)
    assert _bytes_of(folder) == before


def test_a_table_that_cannot_be_read_any_more_is_shown_and_nothing_is_edited(folder: Path) -> None:
    page = Page(folder)
    (folder / "clips.csv").rename(folder / "aside")
    (folder / "clips.csv").mkdir()
    reply = page.post(action="dancers", clip=0, n=5)
    assert reply.status_code == 423
    (problem,) = page.state["problems"]
    assert problem["file"].endswith("clips.csv")
    assert problem["message"] == "cannot be read (Is a directory)"
    (folder / "clips.csv").rmdir()
    (folder / "aside").rename(folder / "clips.csv")
    page.state = page.get("/api/state").json()
    assert page.post(action="dancers", clip=0, n=5).status_code == 200


def test_an_edit_that_cannot_be_saved_is_refused_in_a_sentence(folder: Path) -> None:
    page = Page(folder)
    before = _bytes_of(folder)
    (work_folder(folder) / "lock").unlink()
    (work_folder(folder) / "lock").mkdir()
    reply = page.post(action="dancers", clip=0, n=5)
    assert reply.status_code == 422
    assert "cannot be written (Is a directory)" in reply.json()["error"]
    assert _bytes_of(folder) == before
    (work_folder(folder) / "lock").rmdir()
    (folder / ".pending").write_text("a file in the place of the folder")
    reply = page.post(action="dancers", clip=0, n=5)
    assert reply.status_code == 422
    assert "cannot be written" in reply.json()["error"]
    (folder / ".pending").unlink()
    assert _bytes_of(folder) == before
    assert page.post(action="dancers", clip=0, n=5).status_code == 200
    assert page.post(action="undo").status_code == 200  # edits that failed are not in the history
    assert page.post(action="undo").status_code == 422


def test_videos_that_are_gone_are_named(folder: Path, films: dict[int, Path]) -> None:
    proposals = read_proposals(folder)
    assert server.check_sources(proposals, films) == []
    assert server.check_sources(proposals, {0: films[0]}) == [1]
    write_sources(folder, {0: folder / "gone.mp4"})
    with pytest.raises(UserError, match=r"none of the videos of .*p is where it was when it was proposed.*--media"):
        server.serve(folder, open_browser=False)
    (work_folder(folder) / "sources.json").write_text("[1, 2]")
    assert read_sources(folder) == {}


def test_a_video_that_is_another_one_by_now_is_refused(folder: Path, films: dict[int, Path], tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    shutil.copy(films[0], media / "compilation_0.mp4")
    proposals = read_proposals(folder)
    table = proposals.annotations.compilations.copy()
    table["sha256"] = [hashlib.sha256(films[0].read_bytes()).hexdigest(), None]
    proposals = write_proposals(proposals.with_tables(compilations=table))
    sources = find_sources(folder, media)
    assert sources == {0: media / "compilation_0.mp4", 1: films[1]}
    assert server.check_sources(proposals, sources) == []
    with (media / "compilation_0.mp4").open("ab") as file:
        file.write(b"more")
    with pytest.raises(UserError, match=r"media/compilation_0\.mp4 is not the video that compilation 0 was proposed"):
        server.serve(folder, media=media, open_browser=False)
    assert read_sources(folder) == films  # the next sitting still looks where the right one is


# ------------------------------------------------------------------------------------------- whatever is sent

KEYS = [
    "action",
    "clip",
    "frame",
    "by",
    "edge",
    "other",
    "song",
    "n",
    "a",
    "b",
    "answer",
    "move",
    "time",
    "zoom",
    "compilation",
    "start",
    "end",
    "filters",
    "x",
]
KEYS += ["revision", "rejected", "\\ud800"]
JSON_TEXT = st.recursive(
    st.one_of(
        st.none().map(lambda _: "null"),
        st.sampled_from(["true", "false", "NaN", "Infinity", "-Infinity", "1e999", "9" * 40, "9" * 5000, "-1", "0.5"]),
        st.integers(-(10**12), 10**12).map(str),
        st.sampled_from(['"\\ud800"', '"\\udfff x"', '"\\u0000"', '"accept"', '"start"', '"same"']),
        st.text(max_size=10).map(json.dumps),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]"),
        st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=6,
        ).map(lambda parts: "{" + ",".join(f'"{key}":{value}' for key, value in parts.items()) + "}"),
    ),
    max_leaves=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def shared_page(films: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Page:
    folder = tmp_path_factory.mktemp("whatever") / "p"
    tables(folder, [(0, 0, 0, 0.5, 2.5, 1), (1, 0, 1, 2.5, 4.5, 2)])
    return Page(folder, sources=films)


@settings(max_examples=150, deadline=None)
@given(text=JSON_TEXT, path=st.sampled_from(["/api/edit", "/api/place"]), revised=st.booleans())
def test_whatever_json_is_sent_the_state_can_be_read(shared_page: Page, text: str, path: str, revised: bool) -> None:
    revision = shared_page.get("/api/state").json()["revision"]
    if revised and text.startswith("{"):
        text = text[:-1] + ("," if len(text) > 2 else "") + f'"revision":"{revision}"}}'
    reply = shared_page.client.post(path, content=text.encode(), headers={"content-type": "application/json"})
    assert reply.status_code in (200, 204, 400, 409, 422, 423), (text, reply.text)
    assert shared_page.get("/api/state").json()["problems"] == []
    # Also by a server that is started anew.
    assert Page(shared_page.folder, sources={}).state["problems"] == []


@settings(max_examples=100, deadline=None)
@given(
    path=st.one_of(
        st.sampled_from(["/api/candidates/", "/api/beats/", "/api/poses/", "/media/"]).flatmap(
            lambda start: st.one_of(st.integers(0, 10**30), st.text(max_size=8)).map(lambda end: f"{start}{end}")
        ),
        st.tuples(st.integers(0, 10**12), st.sampled_from(["small", "large", "x"]), st.integers(0, 10**30)).map(
            lambda parts: f"/media/{parts[0]}/{parts[1]}/{parts[2]}.jpg"
        ),
        st.text("abc/.%0123456789\u0660", max_size=20).map(lambda text: "/" + text),
    )
)
def test_whatever_path_is_asked_for_is_no_error_of_the_server(shared_page: Page, path: str) -> None:
    from urllib.parse import quote

    assert shared_page.get(quote(path, safe="/%" if "%" in path else "/")).status_code < 500


def test_each_start_has_a_token_without_which_nothing_is_answered(folder: Path) -> None:
    app = create_app(folder, read_sources(folder), token="the-token")
    stranger = testclient.TestClient(app, base_url="http://127.0.0.1:8000")
    for path in ("/", "/api/state", "/static/app.js", "/?token=another", "/?token="):
        reply = stranger.get(path)
        assert (reply.status_code, "by the link" in reply.json()["error"]) == (403, True)
    assert stranger.post("/api/edit", json={"revision": "x", "action": "undo"}).status_code == 403
    person = testclient.TestClient(app, base_url="http://127.0.0.1:8000")
    assert person.get("/?token=the-token", follow_redirects=False).headers["location"] == "/"
    assert person.get("/").status_code == 200
    assert person.get("/api/state").json()["problems"] == []
    cookie = person.get("/?token=the-token", follow_redirects=False).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    # Another start of it has another token and another cookie.
    other = create_app(folder, read_sources(folder), token="another-token")
    again = testclient.TestClient(other, base_url="http://127.0.0.1:8000", cookies=person.cookies)
    assert again.get("/api/state").status_code == 403
