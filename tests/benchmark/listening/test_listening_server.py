"""The web application: what raters can and cannot do, headers, limits, results for the owner alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from listening_factory import Clock, open_store, study_of

pytest.importorskip("starlette", reason="the listening tests' server is not installed: pip install 'tiktok-dm[web]'")
from starlette.testclient import TestClient

from tiktok_dm.listening import study as studies
from tiktok_dm.listening.server import COOKIE, application
from tiktok_dm.listening.store import Store

SECRETS = ("alpha-net", "beta-net", "anchor", "the admin token", "clip0", "clip1", "clip2")


class Web:
    """A study behind the application, and browsers for it."""

    def __init__(self, folder: Path, **more) -> None:
        self.folder, self.clock = folder, Clock()
        self.study, self.key = study_of(folder, **more)
        self.store: Store = open_store(folder, self.clock)
        self.app = application(folder, self.store, hosts={"testserver"})

    def browser(self) -> TestClient:
        return TestClient(self.app)

    def begun(self) -> tuple[TestClient, dict]:
        browser = self.browser()
        return browser, browser.post("/api/begin", json={}).json()

    def hear(self, browser: TestClient, trial: dict) -> None:
        assert browser.get(trial["clip"]).status_code == 200
        if trial["original"]:
            assert browser.get(trial["original"]).status_code == 200
        self.clock.now += 5

    def answer(self, browser: TestClient, trial: dict, answer: int, **more):
        body = {"trial": trial["id"], "answer": answer, "plays": 1, "original_plays": 1} | more
        return browser.post("/api/answer", json=body)

    def to_rating(self, browser: TestClient, state: dict) -> dict:
        right = {"volume": 3, "headphones": 2, "practice": 4}
        while state["trial"]["kind"] != "rating":
            trial = state["trial"]
            self.hear(browser, trial)
            told = re.search(r"choose (\d)", trial["question"])
            state = self.answer(browser, trial, int(told[1]) if told else right[trial["kind"]]).json()
        return state


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    made = Web(tmp_path / "s")
    yield made
    made.store.close()


def test_a_whole_session_from_consent_to_code(web: Web) -> None:
    browser = web.browser()
    state = browser.get("/api/state").json()
    assert state["stage"] == "consent"
    assert state["consent"] == ["You take part."]
    kinds = []
    state = browser.post("/api/begin", json={}).json()
    while state["stage"] == "trial":
        kinds.append(state["trial"]["kind"])
        if kinds[-1] != "rating":
            state = web.to_rating(browser, state)
            continue
        web.hear(browser, state["trial"])
        state = web.answer(browser, state["trial"], 5).json()
    assert (state["stage"], state["answered"], state["of"], state["cut_short"]) == ("done", 3, 3, False)
    assert re.fullmatch(r"[0-9A-F]{8}", state["code"])
    assert kinds.count("rating") == 3
    assert sum(map(sum, web.store.votes())) == 3
    _, trials = web.store.everything()
    assert {trial["kind"] for trial in trials} == {"volume", "headphones", "practice", "check", "rating"}
    assert all(t["answer"] == t["expected"] for t in trials if t["kind"] == "check")


def test_a_double_click_counts_once(web: Web) -> None:
    browser, state = web.begun()
    trial = web.to_rating(browser, state)["trial"]
    web.hear(browser, trial)
    first, second = web.answer(browser, trial, 2), web.answer(browser, trial, 2)
    assert (first.status_code, first.json()["new"]) == (200, True)
    assert (second.status_code, second.json()["new"]) == (200, False)
    assert first.json()["trial"]["id"] == second.json()["trial"]["id"] != trial["id"]
    assert web.answer(browser, trial, 3).status_code == 409
    assert sum(map(sum, web.store.votes())) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"answer": 0}, 422),
        ({"answer": 6}, 422),
        ({"answer": -3}, 422),
        ({"answer": 3.5}, 422),
        ({"answer": "3"}, 422),
        ({"answer": True}, 422),
        ({"answer": None}, 422),
        ({"answer": 10**30}, 422),
        ({"plays": 0}, 425),
        ({"plays": -1}, 422),
        ({"trial": "forged"}, 404),
        ({"trial": "x' OR '1'='1"}, 404),
        ({"trial": ["list"]}, 422),
        ({"system": "alpha-net"}, 400),
    ],
    ids=str,
)
def test_forged_and_out_of_range_answers_are_refused_and_nothing_is_stored(web: Web, body: dict, status: int) -> None:
    browser, state = web.begun()
    trial = web.to_rating(browser, state)["trial"]
    web.hear(browser, trial)
    before = web.store.everything()[1]
    sent = {"trial": trial["id"], "answer": 3, "plays": 1, "original_plays": 0} | body
    refused = browser.post("/api/answer", json=sent)
    assert refused.status_code == status
    assert refused.json().keys() == {"error"}
    assert web.store.everything()[1] == before


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"[" * 2000, {"content-type": "application/json"}, 400),
        (b"{}", {"content-type": "application/json"}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {"content-type": "application/json", "origin": "https://elsewhere.example"}, 403),
        (b"{}", {"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
        (b" " * 5000, {"content-type": "application/json"}, 413),
    ],
)
def test_requests_that_are_no_answers_are_refused(web: Web, content: bytes, headers: dict, status: int) -> None:
    browser, _ = web.begun()
    assert browser.post("/api/answer", content=content, headers=headers).status_code == status


def test_a_body_without_a_stated_length_is_limited_too(web: Web) -> None:
    browser, _ = web.begun()

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    refused = browser.post("/api/answer", content=pieces(), headers={"content-type": "application/json"})
    assert refused.status_code == 413


def test_without_a_session_nothing_is_had(web: Web) -> None:
    _, state = web.begun()
    stranger = web.browser()
    assert stranger.get(state["trial"]["clip"]).status_code == 401
    assert web.answer(stranger, state["trial"], 3).status_code == 401
    stranger.cookies.set(COOKIE, "forged")
    assert stranger.get(state["trial"]["clip"]).status_code == 401
    assert stranger.get("/api/state").json()["stage"] == "consent"
    assert stranger.get("/go-on/forged").status_code == 404


def test_raters_cannot_reach_each_other_s_trials_nor_any_file(web: Web) -> None:
    (one, first), (other, _) = web.begun(), web.begun()
    trial = web.to_rating(one, first)["trial"]
    web.hear(one, trial)
    assert other.get(trial["clip"]).status_code == 404
    assert web.answer(other, trial, 1).status_code == 404
    file = web.key.clips[0][0].file
    for path in (
        "/key.json",
        "/study.json",
        "/votes.sqlite",
        f"/stimuli/{file}",
        f"/media/{trial['id']}/{file}",
        f"/media/{trial['id']}/..%2f..%2fkey.json",
        f"/media/{trial['id']}/original",  # the quality protocol has none
        "/api/votes",
        "/docs",
        "/openapi.json",
    ):
        assert other.get(path).status_code == 404, path
        assert one.get(path).status_code == 404, path


def test_nothing_that_a_rater_gets_tells_the_system(web: Web) -> None:
    browser, state = web.begun()
    seen = [browser.get(path) for path in ("/", "/app.js", "/style.css")]
    files = {clip.file for row in web.key.clips for clip in row}
    told = []
    while state["stage"] == "trial":
        if state["trial"]["kind"] != "rating":
            state = web.to_rating(browser, state)
            continue
        told.append(json.dumps(state))
        seen.append(browser.get(state["trial"]["clip"]))
        web.clock.now += 5
        state = web.answer(browser, state["trial"], 4).json()
    told += [f"{reply.headers}" for reply in seen]
    told += [reply.text for reply in seen[:3]]
    for text in told:
        for secret in (*SECRETS, *files):
            assert secret not in text, secret
    clips = seen[3:]
    assert len(clips) == 3
    assert len({tuple(sorted(clip.headers.keys())) for clip in clips}) == 1
    assert not {"etag", "last-modified", "content-disposition", "server"} & set(clips[0].headers)


def test_clips_are_served_in_ranges(web: Web) -> None:
    browser, state = web.begun()
    url = state["trial"]["clip"]
    whole = browser.get(url).content
    part = browser.get(url, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole[2:6])
    assert part.headers["content-range"] == f"bytes 2-5/{len(whole)}"
    assert browser.get(url, headers={"range": "bytes=-3"}).content == whole[-3:]
    assert browser.get(url, headers={"range": "bytes=4-"}).content == whole[4:]
    assert browser.get(url, headers={"range": "bytes=999-"}).status_code == 416


def test_a_closed_browser_goes_on_where_it_was(web: Web) -> None:
    browser, state = web.begun()
    state = web.to_rating(browser, state)
    web.hear(browser, state["trial"])
    web.answer(browser, state["trial"], 4)
    assert (
        browser.post("/api/leave", json={"trial": browser.get("/api/state").json()["trial"]["id"]}).status_code == 204
    )
    again = browser.get("/api/state").json()
    assert (again["stage"], again["answered"]) == ("trial", 1)
    assert browser.post("/api/begin", json={}).json()["answered"] == 1  # no second session for the same browser

    elsewhere = web.browser()
    page = elsewhere.get(state["link"])
    assert page.status_code == 200
    assert elsewhere.get("/api/state").json()["answered"] == 1
    assert len(web.store.everything()[0]) == 1


def test_cookies_and_headers_are_strict(web: Web) -> None:
    reply = web.browser().post("/api/begin", json={})
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "secure" not in cookie  # plain http on loopback
    for path in ("/", "/app.js", "/api/state", "/results", "/nowhere"):
        headers = web.browser().get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    page = web.browser().get("/").text
    assert not re.findall(r"""(?:src|href)=["'](?!/|#)""", page)  # nothing from elsewhere
    assert "<style" not in page
    assert not re.search(r"<script(?![^>]*src=)", page)


def test_behind_https_cookies_travel_encrypted_only(tmp_path: Path) -> None:
    web = Web(tmp_path / "s")
    app = application(web.folder, web.store, public_url="https://listen.example.org", hosts={"listen.example.org"})
    browser = TestClient(app, base_url="https://listen.example.org")
    assert "secure" in browser.post("/api/begin", json={}).headers["set-cookie"].lower()
    assert TestClient(app, base_url="http://evil.example").get("/").status_code == 421
    web.store.close()


def test_results_want_the_admin_token(web: Web) -> None:
    browser, state = web.begun()
    trial = web.to_rating(browser, state)["trial"]
    web.hear(browser, trial)
    web.answer(browser, trial, 4)
    assert browser.get("/api/results").status_code == 401
    for wrong in ("Bearer wrong", "Bearer ", "Basic the admin token", "Bearer the admin tokenX", "Bearer é"):
        assert browser.get("/api/results", headers={"authorization": wrong.encode()}).status_code == 401
    assert browser.get("/api/results?token=the admin token").status_code == 401
    page = browser.get("/results")
    assert "alpha-net" not in page.text
    refused = browser.post("/results", data={"token": "wrong"})
    assert refused.status_code == 403
    assert "alpha-net" not in refused.text
    granted = browser.post("/results", data={"token": "the admin token"})
    assert granted.status_code == 200
    assert "alpha-net" in granted.text
    told = browser.get("/api/results", headers={"authorization": "Bearer the admin token"}).json()
    assert (told["votes"], told["raters_begun"], told["raters_finished"]) == (1, 1, 0)
    assert {score["name"] for score in told["scores"]} == {"alpha-net", "beta-net", "reference", "anchor"}


def test_the_study_closes_when_enough_have_come(tmp_path: Path) -> None:
    web = Web(tmp_path / "s", raters=1)
    browser, state = web.begun()
    assert state["stage"] == "trial"
    late = web.browser()
    assert late.get("/api/state").json()["stage"] == "consent"  # who has rated nothing takes no place
    trial = web.to_rating(browser, state)["trial"]
    web.hear(browser, trial)
    web.answer(browser, trial, 4)
    assert late.get("/api/state").json()["stage"] == "full"
    assert late.post("/api/begin", json={}).json() == {"stage": "full"}
    assert "set-cookie" not in late.post("/api/begin", json={}).headers
    web.clock.now += 3600  # the first one has gone, and the place is free again
    assert late.post("/api/begin", json={}).json()["stage"] == "trial"
    web.store.close()


def test_coherence_shows_the_original_beside(tmp_path: Path) -> None:
    web = Web(tmp_path / "s", protocol="coherence")
    browser, state = web.begun()
    trial = web.to_rating(browser, state)["trial"]
    assert trial["video"]
    assert browser.get(trial["original"]).status_code == 200
    web.clock.now += 30
    assert web.answer(browser, trial, 3).status_code == 425  # the clip itself was never fetched
    assert browser.get(trial["clip"]).status_code == 200
    assert web.answer(browser, trial, 3).status_code == 200
    web.store.close()


def test_an_invited_study_opens_by_a_link_of_the_rater_s_own(tmp_path: Path) -> None:
    web = Web(tmp_path / "s", access="invited")
    (token,) = studies.invite(web.folder, 1)
    stranger = web.browser()
    assert stranger.get("/api/state").json()["stage"] == "uninvited"
    refused = stranger.post("/api/begin", json={})
    assert (refused.status_code, "by invitation" in refused.json()["error"]) == (403, True)
    assert stranger.get("/go-on/forged").status_code == 404
    rater = web.browser()
    assert rater.get(f"/go-on/{token}").status_code == 200
    assert rater.get("/api/state").json()["stage"] == "consent"
    state = rater.post("/api/begin", json={}).json()
    assert (state["stage"], state["link"]) == ("trial", f"/go-on/{token}")
    elsewhere = web.browser()
    elsewhere.get(f"/go-on/{token}")
    assert elsewhere.post("/api/begin", json={}).json()["trial"]["id"] == state["trial"]["id"]
    assert len(web.store.everything()[0]) == 1
    web.store.close()


def test_one_address_begins_no_more_sessions_of_an_open_study_than_it_may(tmp_path: Path) -> None:
    web = Web(tmp_path / "s", address_limit=3)
    begin = lambda address: TestClient(web.app, client=(address, 1)).post("/api/begin", json={}).status_code  # noqa: E731
    assert [begin("203.0.113.5") for _ in range(5)] == [200, 200, 200, 429, 429]
    assert begin("::ffff:203.0.113.5") == 429  # the same one
    assert begin("203.0.113.6") == 200
    assert [begin(f"2001:db8::{k}") for k in range(4)] == [200, 200, 200, 429]  # one subscriber
    assert begin("2001:db8:0:1::1") == 200
    assert len(web.store.everything()[0]) == 8
    assert b"203.0.113" not in b"".join(path.read_bytes() for path in web.folder.glob("votes*"))
    web.store.close()
