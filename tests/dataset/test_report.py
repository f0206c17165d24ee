"""The report page: everything is on it, nothing comes from elsewhere, and hostile words stay words."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from export_factory import HOSTILE, META, changed, make_items
from PIL import Image

from tiktok_dm.dataset.report import Bar, flatten, histogram, nice_step, report
from tiktok_dm.dataset.rows import ClipItem

VOID = {"meta", "img", "input", "br", "hr", "link"}


class Page(HTMLParser):
    """Collects text, attributes and scripts, and checks that every element is closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.sources: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
                self.sources.append((name, value or ""))
            assert not name.startswith("on"), f"{tag} has an event handler"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data + " "


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[ClipItem]:
    return make_items(tmp_path_factory.mktemp("stages"))


@pytest.fixture(scope="module")
def html(items: list[ClipItem]) -> str:
    return report(items, META)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_counts_against_the_plan(page: Page) -> None:
    text = words(page.text)
    assert "4 of 7 planned clips are in the dataset." in text
    assert "4 in the dataset" in text
    assert "1 filtered: do not belong in it" in text
    assert "1 failed: worth another try" in text
    assert "1 gone: not to be had any more" in text
    assert "at most 10 ms" in text, "starts moved from 0.51 to 0.5"
    assert "clips 4 of 7 planned compilations 2 of 3 planned songs 3" in text


def test_every_failure_has_its_reason_and_message(page: Page) -> None:
    text = words(page.text)
    for entry in META.ledger:
        if entry["status"] != "ok":
            assert words(entry["reason"]) in text
            assert words(entry["message"]) in text
            assert entry["item"].replace(":", " ") in text
    assert "asked <us> to" in text


def test_every_clip_is_there_with_its_picture(items: list[ClipItem], html: str, page: Page) -> None:
    for item in items:
        assert f"clip-{item.clip_id}" in page.ids
    pictures = [value for _, value in page.sources if value.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == 4
    for item, data in zip(items, pictures, strict=True):
        picture = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
        assert picture.size == (80, 64), "the content box of the frame"
        assert np.asarray(picture).std() > 10, item.clip_id
    assert html.count('loading="lazy"') == 4
    assert len(page.ids) == len(set(page.ids))


def test_the_thumbnail_shows_the_skeleton_of_the_best_frame(items: list[ClipItem], tmp_path) -> None:
    """One bone across the dark lower part of the picture, drawn where the pose says."""
    item = items[0]
    poses = np.zeros((75, 1, 25, 3), np.float32)
    poses[20, 0, 1] = (30, 55, 1)  # neck and mid-hip are joined by a bone
    poses[20, 0, 8] = (70, 55, 1)
    path = tmp_path / "poses.npy"
    np.save(path, poses)

    def picture(best: int) -> np.ndarray:
        html = report([changed(replace(item, pose=path), poses={"best_frame": best})], META)
        data = re.search(r"data:image/jpeg;base64,([^\"]+)", html)
        assert data is not None
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))), dtype=float)

    with_bone, without = picture(20), picture(21)
    row = with_bone[55].max(axis=1)
    # The content box begins at x = 8, so the bone runs from 22 to 62 in the thumbnail.
    assert row[26:58].min() > 120
    assert row[:14].max() < 80
    assert row[70:].max() < 80
    assert without[55].max() < 80


def test_nothing_comes_from_elsewhere(html: str, page: Page) -> None:
    for name, value in page.sources:
        assert value.startswith(("#", "data:image/jpeg;base64,")), (name, value)
    assert "link" not in page.tags
    assert "@import" not in html
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_hostile_words_stay_words(html: str, page: Page) -> None:
    assert HOSTILE in page.text
    assert "<b>bold</b>" not in html
    assert "<i>band</i>" not in html
    assert "A <i>band</i>" in page.text
    assert "<Private video>" not in html
    assert page.tags.count("script") == 1


def test_no_remark_where_there_is_no_truth(items: list[ClipItem]) -> None:
    text = Page(report(items, replace(META, pose_accuracy=None))).text
    assert "rendered truth" not in text
    assert "rendered truth" in Page(report(items, META)).text


def test_songs_and_splits(page: Page) -> None:
    text = words(page.text)
    assert "train 3 clips, 2 songs, 3 segments, 8 s" in text
    assert "test 1 clip, 1 song, 1 segment, 2 s" in text
    assert words(f"0 {HOSTILE} A <i>band</i> train 2 3 6.5 100") in text


def test_by_compilation(items: list[ClipItem], page: Page) -> None:
    text = words(page.text)
    assert "0 dances_0.mp4 3 2 2 ok, 1 failed 1 6 s" in text
    assert "1 https://example.org/watch?v=1&t=2 3 2 2 ok, 1 filtered 2 3 s" in text
    assert "2 https://example.org/gone 1 0 1 gone 0 0 s" in text
    without_plan = words(Page(report(items, replace(META, planned=()))).text)
    assert "0 dances_0.mp4 2 2 2 ok 1 6 s" in without_plan


def test_a_whole_dataset_misses_nothing(items: list[ClipItem]) -> None:
    ledger = [entry for entry in META.ledger if entry["status"] == "ok"]
    text = Page(report(items, replace(META, ledger=ledger, tombstones=(), plan_clips=4, planned=()))).text
    assert "Nothing: every planned clip is in the dataset." in text


def test_clips_without_poses_tempo_or_picture(items: list[ClipItem], tmp_path) -> None:
    broken = tmp_path / "clip.mp4"
    broken.write_bytes(b"no video")
    nobody = tmp_path / "nobody.npy"
    np.save(nobody, np.zeros((75, 0, 25, 3), np.float32))
    none = {"n_dancers": 0, "coverage": 0.0, "coverage_by_dancer": [], "mean_confidence": 0.0, "best_frame": None}
    odd = changed(replace(items[0], pose=nobody), poses=none, music={"tempo_bpm": None})
    page = Page(report([odd, replace(items[1], video=broken)], META))
    assert "0 dancers" in page.text
    assert sum(value.startswith("data:image") for _, value in page.sources) == 1


def test_an_empty_dataset_still_has_a_page() -> None:
    assert "0 of 7 planned clips are in the dataset." in words(Page(report([], META)).text)


def test_the_same_items_give_the_same_page(items: list[ClipItem], html: str) -> None:
    assert report(list(reversed(items)), META) == html


def test_histogram_bins_are_round_and_complete() -> None:
    values = [3.0, 3.9, 4.0, 11.99, 12.0]
    bars = histogram(values, most=10)
    assert bars[0] == Bar(3.0, 4.0, 2)
    assert bars[1] == Bar(4.0, 5.0, 1)
    assert bars[-1] == Bar(12.0, 13.0, 1)
    assert sum(bar.count for bar in bars) == 5
    assert [a.high for a in bars[:-1]] == [b.low for b in bars[1:]]
    assert histogram([]) == []
    assert [bar.count for bar in histogram([120.0, 120.0])] == [2]


@pytest.mark.parametrize(
    ("step", "nice"), [(0.9, 1), (1.0, 1), (1.1, 2), (2.4, 5), (6.0, 10), (0.03, 0.05), (140, 200)]
)
def test_nice_step(step: float, nice: float) -> None:
    assert nice_step(step) == pytest.approx(nice)


def test_parameters_are_flattened() -> None:
    assert list(flatten({"b": {"c": 0.3, "a": None}, "a": "x", "e": [1, 2], "d": {}})) == [
        ("a", "x"),
        ("b.a", "null"),
        ("b.c", "0.3"),
        ("d", "{}"),
        ("e", "[1, 2]"),
    ]
