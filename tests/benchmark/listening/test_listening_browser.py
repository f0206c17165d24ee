"""Simulated raters: a real server, a real browser (headless Chromium), and many clients at once."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from browser import ENTER, Visitor, loaded, serve, troubles
from listening_factory import spread, study_of, tone
from media_factory import constant, film, numbered

from tiktok_dm.listening import study as studies
from tiktok_dm.listening.making import Wanted, make
from tiktok_dm.listening.server import application
from tiktok_dm.listening.store import Store

pytest.importorskip("uvicorn", reason="the server is not installed: pip install 'tiktok-dm[web]'")
httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install 'tiktok-dm[test]'")


@dataclass
class Held:
    """A study on a real server."""

    url: str
    store: Store
    folder: Path

    def ratings(self) -> list[dict]:
        _, trials = self.store.everything()
        return [trial for trial in trials if trial["kind"] == "rating" and trial["answered_at"] is not None]


@contextlib.contextmanager
def held(folder: Path, clock: Callable[[], float] = time.time) -> Iterator[Held]:
    study, key = studies.read(folder)
    store = Store(folder, study, key, studies.digest(folder), clock=clock)
    try:
        with serve(application(folder, store)) as url:
            yield Held(url, store, folder)
    finally:
        store.close()


# ------------------------------------------------------------------------------------- many clients at once


def answer_for(trial: dict) -> int:
    told = re.search(r"choose (\d)", trial["question"])
    return int(told[1]) if told else {"volume": 3, "headphones": 2}.get(trial["kind"], 4)


def test_many_raters_at_once_never_share_a_slot_and_votes_stay_within_one(tmp_path: Path) -> None:
    study_of(tmp_path / "s", items=3, raters=40, headphone_trials=0, checks=1, lease_s=600.0, longest_s=9000.0)
    failures: list[BaseException] = []
    open_now: Counter[int] = Counter()
    shared: list[int] = []
    spreads: list[int] = []
    lock = threading.Lock()
    with held(tmp_path / "s", clock=lambda: time.time() * 60) as study:
        cells = {}

        def cell(trial: str) -> int:
            if trial not in cells:
                _, trials = study.store.everything()
                cells.update({row["trial"]: row["cell"] for row in trials})
            return cells[trial]

        def rate(drops_out: bool) -> None:
            try:
                with httpx.Client(base_url=study.url, timeout=60) as browser:
                    state = browser.post("/api/begin", json={}).json()
                    while state["stage"] != "done":
                        if state["stage"] == "wait":
                            time.sleep(0.05)
                            state = browser.get("/api/state").json()
                            continue
                        trial = state["trial"]
                        rating = trial["kind"] == "rating"
                        if rating:
                            with lock:
                                open_now[cell(trial["id"])] += 1
                                shared.extend(c for c, n in open_now.items() if n > 1)
                        browser.get(trial["clip"])
                        if rating and drops_out and state["answered"] == 1:
                            browser.post("/api/leave", json={"trial": trial["id"]})
                            with lock:
                                open_now[cell(trial["id"])] -= 1
                            return
                        time.sleep(0.05)
                        if rating:
                            with lock:
                                open_now[cell(trial["id"])] -= 1
                        body = {"trial": trial["id"], "answer": answer_for(trial), "plays": 1, "original_plays": 0}
                        replies = [browser.post("/api/answer", json=body) for _ in range(2)]  # a double click
                        assert [reply.json()["new"] for reply in replies] == [True, False]
                        state = replies[1].json()
                        spreads.append(spread(study.store))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=rate, args=(k == 0,)) for k in range(7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert shared == []
        assert max(spreads) == 1
        ratings = study.ratings()
        assert len(ratings) == sum(map(sum, study.store.votes()))
        assert len(ratings) >= 6 * 2 + 1
        assert max(Counter((row["rater"], row["item"]) for row in ratings).values()) == 1


# ------------------------------------------------------------------------------------------ a real browser


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two-system music and films of three clips, just over a second each."""
    root = tmp_path_factory.mktemp("media")
    made = {name: root / name for name in ("secret-one", "secret-two", "reference", "videos")}
    for k, folder in enumerate(made.values()):
        folder.mkdir()
        for clip in range(3):
            if folder.name == "videos":
                pictures = [np.rot90(numbered(n, 160, 96)).copy() for n in range(36)]  # upright, as phones film
                film(folder / f"c{clip}.mp4", pictures, *constant(36, 30))
            else:
                sf.write(folder / f"c{clip}.wav", tone(1.2, 300 + 100 * k + 40 * clip), 22_050)
    return made


def real_study(folder: Path, media: dict[str, Path], protocol: str) -> Path:
    study, key = make(
        folder,
        Wanted(
            protocol=protocol,
            systems={name: media[name] for name in ("secret-one", "secret-two")},
            reference=media["reference"],
            videos=media["videos"],
            items=3,
            raters=20,
            access="open",
            address_limit=1000,
            headphone_trials=0,
            checks=0,
            practice=False,
        ),
    )
    # A volume check of one second instead of three: every test begins with it.
    short = [material.model_copy(update={"clip": key.clips[0][0]}) for material in key.materials]
    studies.write(folder, study, key.model_copy(update={"materials": tuple(short)}))
    return folder


@pytest.fixture(scope="module")
def quality(tmp_path_factory: pytest.TempPathFactory, media: dict[str, Path]) -> Iterator[Held]:
    with held(real_study(tmp_path_factory.mktemp("q") / "study", media, "quality")) as study:
        yield study


@pytest.fixture(scope="module")
def coherence(tmp_path_factory: pytest.TempPathFactory, media: dict[str, Path]) -> Iterator[Held]:
    with held(real_study(tmp_path_factory.mktemp("c") / "study", media, "coherence")) as study:
        yield study


class Rater(Visitor):
    """Someone who rates: a fresh session in one tab."""

    def __init__(self, browser, study: Held) -> None:
        super().__init__(browser)
        self.study = study
        browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
        browser.get(study.url)
        browser.execute_script("localStorage.clear()")
        troubles(browser)  # of earlier tests

    def trial(self) -> dict | None:
        return self.browser.execute_script("return trial")

    def begin(self) -> None:
        self.until("!document.getElementById('page-consent').hidden")
        assert not self.browser.find_element("id", "begin").is_enabled()
        self.click("#agree")
        self.click("#begin")
        self.until("trial !== null")
        self.volume()

    def volume(self) -> None:
        """Pass the volume check, whose answer a test may look up."""
        trial = self.trial()
        assert trial is not None
        assert trial["kind"] == "volume"
        _, trials = self.study.store.everything()
        (expected,) = [row["expected"] for row in trials if row["trial"] == trial["id"]]
        self.hear()
        self.press(str(expected))
        self.press(ENTER)
        self.until("trial && trial.kind === 'rating'")

    def hear(self) -> None:
        for side in ("original", "clip"):
            if self.browser.find_element("id", f"player-{side}").is_displayed():
                self.click(f"#player-{side} .play")
                self.until(f"document.querySelector('#player-{side} .heard').textContent !== ''")


def test_a_whole_session_by_keyboard_ends_with_a_code(chromium, quality: Held) -> None:
    rater = Rater(chromium, quality)
    before = len(quality.ratings())
    rater.begin()
    for k in range(3):
        trial = rater.trial()
        assert trial is not None
        assert not chromium.find_element("id", "next").is_enabled()
        rater.press("4")  # too early: the clip was not heard
        assert not chromium.execute_script("return document.querySelector('input[name=answer]:checked')")
        rater.press(" ")
        rater.until("document.querySelector('#player-clip').classList.contains('playing')")
        rater.until("document.querySelector('#player-clip .heard').textContent !== ''")
        rater.press(str(k + 2))
        rater.press(ENTER)
        rater.until(f"!trial || trial.id !== '{trial['id']}'")
    rater.until("!document.getElementById('page-done').hidden")
    assert re.fullmatch(r"[0-9A-F]{8}", chromium.find_element("id", "code").text)
    assert sorted(row["answer"] for row in quality.ratings()[before:]) == [2, 3, 4]
    assert all(row["plays"] == 1 for row in quality.ratings()[before:])
    assert spread(quality.store) <= 1
    assert troubles(chromium) == []
    names = loaded(chromium)
    assert names
    assert all(name.startswith(f"{quality.url}/") for name in names)
    assert not any("secret" in name for name in names)


def test_an_answer_is_kept_when_the_tab_is_closed_right_after_it_and_the_session_goes_on(
    chromium, quality: Held
) -> None:
    rater = Rater(chromium, quality)
    rater.begin()
    before = len(quality.ratings())
    first = chromium.current_window_handle
    chromium.switch_to.new_window("tab")
    chromium.get(quality.url)
    rater.until("trial !== null")
    answered = rater.trial()
    assert answered is not None
    rater.hear()
    rater.press("5")
    chromium.execute_script("document.getElementById('next').click()")
    chromium.close()
    chromium.switch_to.window(first)
    for _ in range(100):
        if len(quality.ratings()) > before:
            break
        time.sleep(0.05)
    (kept,) = [row for row in quality.ratings() if row["trial"] == answered["id"]]
    assert kept["answer"] == 5
    chromium.get(quality.url)
    rater.until("trial !== null")
    assert chromium.find_element("id", "count").text == "1 of 3"
    assert (rater.trial() or {})["id"] != answered["id"]


def test_a_double_click_counts_once(chromium, quality: Held) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    rater = Rater(chromium, quality)
    rater.begin()
    before = sum(map(sum, quality.store.votes()))
    trial = rater.trial()
    assert trial is not None
    rater.hear()
    rater.press("3")
    ActionChains(chromium).double_click(chromium.find_element("id", "next")).perform()
    rater.until(f"trial && trial.id !== '{trial['id']}'")
    assert sum(map(sum, quality.store.votes())) == before + 1
    assert len([row for row in quality.ratings() if row["trial"] == trial["id"]]) == 1


def test_an_answer_outlives_a_lost_connection(chromium, quality: Held) -> None:
    rater = Rater(chromium, quality)
    rater.begin()
    trial = rater.trial()
    assert trial is not None
    rater.hear()
    rater.press("2")
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    chromium.execute_cdp_cmd("Network.enable", {})
    chromium.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        rater.click("#next")
        rater.until("!document.getElementById('trouble').hidden")
        assert "Your answer is kept" in chromium.find_element("id", "trouble").text
        assert not [row for row in quality.ratings() if row["trial"] == trial["id"]]
    finally:
        chromium.execute_cdp_cmd("Network.emulateNetworkConditions", offline | {"offline": False})
        chromium.execute_cdp_cmd("Network.disable", {})
    rater.until(f"trial && trial.id !== '{trial['id']}'")
    (kept,) = [row for row in quality.ratings() if row["trial"] == trial["id"]]
    assert kept["answer"] == 2


def test_the_page_cannot_reach_what_is_not_its_own(chromium, quality: Held) -> None:
    rater = Rater(chromium, quality)
    rater.begin()
    others = next(row["trial"] for row in quality.ratings())
    for path in ("/key.json", "/votes.sqlite", "/study.json", f"/media/{others}/clip", "/api/results"):
        script = "const done = arguments[1]; fetch(arguments[0]).then(r => done(r.status))"
        assert chromium.execute_async_script(script, path) in (401, 404), path
    assert chromium.execute_script("return document.cookie") == ""  # the session is for the server alone


def test_a_phone_shows_both_clips_and_all_of_the_scale(chromium, coherence: Held, tmp_path: Path) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        rater = Rater(chromium, coherence)
        rater.begin()
        assert chromium.execute_script("return innerWidth") == 390
        assert chromium.execute_script("return document.scrollingElement.scrollWidth") <= 390
        shown = chromium.find_elements("css selector", ".player")
        assert all(player.is_displayed() for player in shown)
        assert abs(shown[0].rect["y"] - shown[1].rect["y"]) < 1  # upright films stand side by side
        for button in chromium.find_elements("css selector", ".play, .choice, #next"):
            assert button.rect["height"] >= 44
        labels = [choice.get_attribute("aria-label") for choice in chromium.find_elements("name", "answer")]
        assert labels == ["1, Not at all", "2, Poorly", "3, Fairly", "4, Well", "5, Perfectly"]
        rater.click("#player-clip .play")
        rater.until("document.querySelector('#player-clip .heard').textContent !== ''")
        assert not chromium.find_element("css selector", "input[name=answer]").is_enabled()  # the original not yet
        rater.click("#player-original .play")
        rater.until("document.querySelector('#player-original .heard').textContent !== ''")
        trial = rater.trial()
        assert trial is not None
        chromium.find_elements("css selector", ".choice")[3].click()
        chromium.save_screenshot(str(tmp_path / "phone.png"))
        assert (tmp_path / "phone.png").stat().st_size > 10_000
        rater.click("#next")
        rater.until(f"trial && trial.id !== '{trial['id']}'")
        (row,) = coherence.ratings()
        assert (row["answer"], row["plays"], row["original_plays"]) == (4, 1, 1)
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_the_owner_sees_results_with_the_token_alone(chromium, quality: Held) -> None:
    rater = Rater(chromium, quality)
    chromium.get(quality.url + "/results")
    chromium.find_element("id", "token").send_keys("wrong")
    chromium.find_element("css selector", "form button").click()
    rater.until("document.querySelector('.trouble') !== null")
    assert "secret-one" not in chromium.page_source
    chromium.find_element("id", "token").send_keys(quality.store.key.admin_token)
    chromium.find_element("css selector", "form button").click()
    rater.until("document.querySelector('.lead') !== null")
    assert "secret-one" in chromium.page_source
    assert "votes" in chromium.find_element("css selector", ".lead").text


@pytest.mark.parametrize("size", [(390, 664), (1280, 720), (1920, 1080)])
def test_start_is_seen_without_scrolling(chromium, quality: Held, size: tuple[int, int]) -> None:
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        rater = Rater(chromium, quality)
        rater.until("!document.getElementById('page-consent').hidden")
        box = chromium.execute_script(
            "const b = document.getElementById('begin').getBoundingClientRect();"
            "return [b.left, b.top, b.right, b.bottom]"
        )
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= size[0]
        assert box[3] <= size[1]
        assert chromium.execute_script("return document.scrollingElement.scrollWidth") <= size[0]
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
