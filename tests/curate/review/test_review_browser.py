"""The review in a real browser: a rendered compilation, keys and clicks, and what the files hold then."""

from __future__ import annotations

import os
import signal
import time
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import ENTER, ESCAPE, Visitor, loaded, serve, troubles
from review_factory import proposed, rendered, started

from tiktok_dm.curate.proposals import Proposals, read_proposals, read_sources

pytest.importorskip("uvicorn", reason="the server is not installed: pip install 'tiktok-dm[web]'")

from tiktok_dm.curate.review.server import create_app

SIZES = [(1280, 720), (1920, 1080)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of two seconds after a title card, one compilation, two songs."""
    root = tmp_path_factory.mktemp("demo")
    rendered(root, clips=4, songs=2, compilations=1, width=256, height=144, shortest_s=2, longest_s=2, title_s=0.5)
    return root


@pytest.fixture
def folder(demo: Path, tmp_path: Path) -> Path:
    return proposed(demo, tmp_path / "proposals")


def served(folder: Path) -> AbstractContextManager[str]:
    return serve(create_app(folder, read_sources(folder)))


class Person(Visitor):
    """Someone who reviews, in the tab that is open."""

    def __init__(self, browser: Any, url: str, size: tuple[int, int] = SIZES[0]) -> None:
        super().__init__(browser)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.open(url)

    def open(self, url: str) -> None:
        self.browser.get(url)
        self.until("window.review && review.ready")

    def run(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def press(self, keys: str, said: str | None = None) -> None:
        """Press keys; `said`: wait until the page says that this was saved."""
        super().press(keys)
        if said is not None:
            self.until(f"document.getElementById('status').textContent.includes({said!r})")

    def text(self, selector: str) -> str:
        return self.browser.find_element("css selector", selector).text

    def choose(self, clip: int) -> None:
        self.click(f"#clips [data-key=clip-{clip}] button")
        self.until(f"review.chosen === 'clip-{clip}'")


def clips(folder: Path) -> list[tuple]:
    frame = read_proposals(folder).clips
    names = ["clip_id", "song_id", "start_s", "end_s", "n_dancers"]
    return [tuple(row) for row in frame.sort_values("start_s")[names].itertuples(index=False, name=None)]


def review_of(proposals: Proposals) -> dict[int, Any]:
    frame = proposals.proposals.astype(object).where(proposals.proposals.notna(), None)
    return dict(zip(frame.clip_id, frame.review, strict=True))


def test_a_session_by_keyboard_is_in_the_files(chromium: Any, folder: Path) -> None:
    before = clips(folder)
    assert [row[2:4] for row in before] == [(0.5, 2.5), (2.5, 4.5), (4.5, 6.5), (6.5, 8.5)]
    with served(folder) as url:
        person = Person(chromium, url)
        troubles(chromium)  # of earlier tests
        assert person.run("return review.chosen") == "clip-0"
        person.press("a", "Clip 0 accepted")
        person.until("review.chosen === 'clip-1' && review.frame === 75")
        # Mend a cut: the touching clips' edges move together, and the page shows the first picture.
        person.press("ww", "Start of clip 1 put to 2.57 s")
        person.until("review.frame === 77")
        assert [row[2:4] for row in clips(folder)][:2] == [(0.5, 2.566667), (2.566667, 4.5)]
        person.press("E", "End of clip 1 put to 4.17 s")  # ten pictures
        assert [row[2:4] for row in clips(folder)][1:3] == [(2.566667, 4.166667), (4.166667, 6.5)]
        # Cut here, five pictures into clip 1, and merge again.
        person.run("review.showFrame(90)")
        person.press("c", "Clip 1 cut at 3.00 s; clip 4 begins there")
        person.until("review.chosen === 'clip-4' && review.frame === 90")
        assert [row[0] for row in clips(folder)] == [0, 1, 4, 2, 3]
        person.press("M", "the clip is 1")
        person.until("review.chosen === 'clip-1'")
        # A song by its number, a new one, and dancers.
        first, second = before[0][1], before[1][1]
        other = first if second != first else 1 - first
        person.press("s")
        person.until("document.activeElement.id === 'song-find'")
        person.press(str(other))
        person.press(ENTER, f"Clip 1 has song {other}")
        assert clips(folder)[1][1] == other
        person.choose(3)
        person.press("s")
        person.click("#song-new")
        person.until("document.getElementById('status').textContent.includes('Clip 3 has song 2')")
        person.press("4", "Clip 3 has 4 dancers")
        assert clips(folder)[3][1:] == (2, 6.5, 8.5, 4)
        # Reject, undo, redo.
        person.press("x", "Clip 3 rejected")
        assert [row[0] for row in clips(folder)] == [0, 1, 2]
        person.press("z", "Undone: clip 3 rejected")
        person.until("review.chosen === 'clip-3'")
        assert [row[0] for row in clips(folder)] == [0, 1, 2, 3]
        person.press("y", "Made again")
        person.press("z", "Undone")
        person.until("review.chosen === 'clip-3'")
        time.sleep(0.6)  # the place is kept a moment later
        held = clips(folder)
        person.open(url)
        assert person.run("return review.chosen") == "clip-3"
        assert clips(folder) == held
        assert held[1] == (1, other, 2.566667, 4.166667, before[1][4])
        assert review_of(read_proposals(folder)) == {0: "mended", 1: "mended", 2: None, 3: "mended"}
        assert person.text("#count").startswith("3 of 4 reviewed, less than a minute left")
        assert troubles(chromium) == []
        names = loaded(chromium)
        assert names
        assert all(name.startswith(f"{url}/") for name in names)


def test_a_rejected_stretch_becomes_a_clip(chromium: Any, folder: Path) -> None:
    with served(folder) as url:
        person = Person(chromium, url)
        person.press("g")
        person.press("k")
        person.until("review.chosen === 'rejected-0-0-0.5'")
        assert "title card" in person.text("#inspector")
        person.press("u", "is a clip again, 4")
        assert clips(folder)[0][0] == 4
        assert clips(folder)[0][2:4] == (0.0, 0.5)
        assert len(read_proposals(folder).rejected) == 0


def test_filters_show_what_is_left(chromium: Any, folder: Path) -> None:
    with served(folder) as url:
        person = Person(chromium, url)
        keys = "return [...document.querySelectorAll('#clips [data-key]')].map(n => n.dataset.key)"
        person.press("l")  # clip 2 has a value of .55, clip 1 one of .75
        assert person.run(keys) == ["clip-0", "clip-1", "clip-2"]  # the chosen one stays until another is chosen
        person.press("j")
        assert person.run(keys) == ["clip-1", "clip-2"]
        person.press("l")
        person.press("f")
        person.press("a", "Clip 1 accepted")
        person.until("review.chosen === 'clip-2'")
        assert person.run(keys) == ["clip-0", "clip-2", "clip-3"]


def test_the_second_windows_stale_edit_is_refused_in_a_sentence(chromium: Any, folder: Path) -> None:
    with served(folder) as url:
        first = Person(chromium, url)
        one = chromium.current_window_handle
        chromium.switch_to.new_window("tab")
        try:
            second = Person(chromium, url)
            # It learns nothing of the other's edit by asking; only by trying.
            second.run(
                "const real = fetch; fetch = (a, b) => a === '/api/revision' ? new Promise(() => {}) : real(a, b)"
            )
            chromium.switch_to.window(one)
            first.press("5", "Clip 0 has 5 dancers")
            chromium.switch_to.window(chromium.window_handles[-1])
            second.press("2")
            second.until("!document.getElementById('banner').hidden")
            assert "changed elsewhere, so this edit was not made" in second.text("#banner")
            assert clips(folder)[0][4] == 5
            assert second.run("return review.state.clips[0].dancers") == 5
            second.press("2", "Clip 0 has 2 dancers")  # on the new state it goes
            assert clips(folder)[0][4] == 2
            assert not chromium.find_element("id", "banner").is_displayed()
        finally:
            chromium.close()
            chromium.switch_to.window(one)
        first.until("review.state.clips[0].dancers === 2")  # which the first window sees by itself
        assert "changed elsewhere" in first.text("#banner")


def test_pairs_are_answered_side_by_side(chromium: Any, folder: Path) -> None:
    songs = {row[0]: row[1] for row in clips(folder)}
    alike = [(a, b) for a in songs for b in songs if a < b and songs[a] == songs[b]]
    with served(folder) as url:
        person = Person(chromium, url)
        person.press("d")
        person.until("document.querySelectorAll('#pairs video').length === 2")
        person.until("[...document.querySelectorAll('#pairs video')].every(v => v.readyState >= 2)")
        # The most doubtful first: clips 0 and 1, offset by half a second.
        assert person.text("#pairs h3").startswith("Clip 0")
        person.press(" ")
        person.until("[...document.querySelectorAll('#pairs video')].every(v => !v.paused && v.currentTime > 0.8)")
        apart = person.run(
            "const [a, b] = document.querySelectorAll('#pairs video'); return b.currentTime - a.currentTime"
        )
        assert apart == pytest.approx(2.0 + 0.5, abs=0.25)
        person.press("d", "Clips 0 and 1: different song") if songs[0] != songs[1] else None
        assert read_proposals(folder).same_songs.answer.notna().sum() == (songs[0] != songs[1])
        # Two clips of one song, called different: who goes?
        while True:
            names = [e.text.split("\n")[0] for e in chromium.find_elements("css selector", "#pairs h3")]
            shown = tuple(int(name.split()[1]) for name in names)
            if shown in alike:
                break
            person.press("j")
        person.press("d")
        person.until("document.querySelector('#split[open]') !== null")
        assert "share song" in person.text("#split")
        person.press(ENTER, "went to song 2")
        after = {row[0]: row[1] for row in clips(folder)}
        assert (after[shown[0]], after[shown[1]]) == (songs[shown[0]], 2)
        person.press(ESCAPE)
        assert not chromium.find_element("id", "pairs").is_displayed()
        person.press("z", "Undone")
        assert {row[0]: row[1] for row in clips(folder)} == songs


def test_mistakes_made_by_hand_are_shown_until_they_are_mended(chromium: Any, folder: Path) -> None:
    with served(folder) as url:
        person = Person(chromium, url)
        path = folder / "clips.csv"
        good = path.read_text()
        path.write_text(good.replace("4.5,6.5", "6.5,4.5"))
        person.until("!document.getElementById('trouble').hidden")
        told = person.text("#trouble")
        assert "clips.csv" in told
        assert "end_s" in told
        assert "the clip ends at 4.5 s but starts at 6.5 s" in told
        person.press("3")  # nothing can be edited
        path.write_text(good)
        person.until("document.getElementById('trouble').hidden")
        assert path.read_text() == good
        person.press("3", "Clip 0 has 3 dancers")


def test_a_killed_server_loses_nothing_and_the_page_says_so(chromium: Any, folder: Path) -> None:
    process, address = started(folder)
    try:
        person = Person(chromium, address)
        person.press("5", "Clip 0 has 5 dancers")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        person.press("2")
        person.until("document.getElementById('banner').textContent.includes('does not answer')")
        assert clips(folder)[0][4] == 5
    finally:
        process.kill()
        process.wait()
    with served(folder) as url:
        again = Person(chromium, url)
        assert again.run("return review.state.clips[0].dancers") == 5
        again.choose(0)
        again.press("2", "Clip 0 has 2 dancers")


def test_an_edge_is_dragged_and_the_skeleton_follows_the_dancers(
    chromium: Any, folder: Path, demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    from tiktok_dm.curate import video_findings as dancers

    joints = np.load(demo / "truth" / "compilation_0.npz")["joints"]

    def stored(work: Path, sha256: str, start_s: float, end_s: float) -> np.ndarray:
        part = joints[round(start_s * 30) : round(end_s * 30)]
        poses = np.concatenate([part, np.ones((*part.shape[:-1], 1), np.float32)], axis=-1)
        return np.where(np.isnan(poses).any(-1, keepdims=True), 0, poses).astype(np.float32)

    monkeypatch.setattr(dancers, "stored_poses", stored)
    with served(folder) as url:
        person = Person(chromium, url)
        most = max(clips(folder), key=lambda row: row[4])
        person.choose(int(most[0]))
        person.until(f"document.getElementById('skeleton').dataset.dancers === '{most[4]}'")
        person.press("p")
        person.until("!document.getElementById('video').paused")
        person.until(f"document.getElementById('video').paused && review.frame === {round(most[3] * 30) - 1}")
        person.press("v")
        assert person.run("return document.getElementById('skeleton').dataset.dancers") == "0"
        # The selected clip's right edge, dragged to the left by about half a second.
        person.choose(3)
        script = (
            "const host = document.querySelector('#wave > div').shadowRoot;"
            "const box = host.querySelector('[part~=clip-3]').getBoundingClientRect();"
            "return [box.left, box.right, box.top + box.height / 2]"
        )
        left, right, y = person.run(script)
        drag = ActionChains(chromium)
        drag.w3c_actions.pointer_action.move_to_location(round(right - 3), round(y))
        drag.w3c_actions.pointer_action.pointer_down()
        for k in range(1, 6):
            drag.w3c_actions.pointer_action.move_to_location(round(right - 3 - k * (right - left) / 20), round(y))
        drag.w3c_actions.pointer_action.pointer_up()
        drag.perform()
        person.until("document.getElementById('status').textContent.includes('End of clip 3 put to')")
        end = clips(folder)[3][3]
        assert end == pytest.approx(8.0, abs=0.1)
        assert end * 30 == pytest.approx(round(end * 30), abs=1e-3)  # on a picture


@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_cut_off_or_moves(chromium: Any, folder: Path, size: tuple[int, int]) -> None:
    places = (
        "return ['#screen', '.transport', '#inspector', '#timeline', '#clips', '.actions', '.tools']"
        ".map(s => document.querySelector(s).getBoundingClientRect()).map(b => [b.x, b.y, b.width, b.height])"
    )
    with served(folder) as url:
        person = Person(chromium, url, size)
        before = person.run(places)
        person.press("a", "Clip 0 accepted")
        person.press("w", "Start of clip 1")
        person.press("cx")
        assert person.run(places) == before
        over = person.run(
            "return [...document.querySelectorAll('.top, #inspector, .transport, .left .filters, #timeline')]"
            ".filter(n => n.scrollWidth > n.clientWidth + 1 || n.scrollHeight > n.clientHeight + 1)"
            ".map(n => n.className)"
        )
        assert over == []
        assert person.run("return document.scrollingElement.scrollHeight <= innerHeight")
        for selector in ("button", "input"):
            named = person.run(
                f"return [...document.querySelectorAll('{selector}')]"
                ".every(b => (b.innerText || b.ariaLabel || '').trim())"
            )
            assert named
        person.press("?")
        assert "Cut: this picture begins a new clip" in person.text("#help")
        box = person.run(
            "const b = document.getElementById('help').getBoundingClientRect(); return [b.x, b.y, b.right, b.bottom]"
        )
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= size[0]
        assert box[3] <= size[1]
        person.press(ESCAPE)


@pytest.mark.parametrize("width", [390, 768])
def test_a_narrow_window_is_one_column_that_shows_everything(chromium: Any, folder: Path, width: int) -> None:
    with served(folder) as url:
        person = Person(chromium, url, (width, 844))
        width = person.run("return document.scrollingElement.clientWidth")  # without a scroll bar
        assert person.run("return document.scrollingElement.scrollWidth") == width
        boxes = person.run(
            "return ['.top', '#stage', '#timeline', '#inspector', '.left'].map(s => document.querySelector(s)"
            ".getBoundingClientRect()).map(b => [b.left, b.top + scrollY, b.right, b.bottom + scrollY])"
        )
        for left, _, right, _ in boxes:
            assert (left, right) == (0, width)
        for above, below in pairwise(boxes):
            assert below[1] >= above[3] - 1  # nothing lies on top of anything
        outside = person.run(
            "return ['.tools', '.transport', '#inspector', '.filters']"
            ".flatMap(s => [...document.querySelectorAll(s + ' button')])"
            ".filter(b => { const r = b.getBoundingClientRect(); return r.left < 0 || r.right > innerWidth; })"
            ".map(b => b.innerText)"
        )
        assert outside == []
        person.press("jj")
        assert person.run("return scrollY") == 0  # choosing a clip moves the list, not the page
        for key, part in (("d", "#pairs"), ("?", "#help")):
            person.press(key)
            assert person.run(f"return document.querySelector('{part}').scrollWidth <= {width}")
            person.press(ESCAPE)
