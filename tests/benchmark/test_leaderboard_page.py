"""The leaderboard page in a real browser: sorted by click and key, intervals drawn, baselines grey, sound, offline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_sets import write_wav
from browser import ENTER, loaded, troubles

from tiktok_dm.benchmark.leaderboard.page import (
    PUBLISHED,
    WARNING,
    axes,
    cell,
    csv_text,
    markdown,
    newest,
    number,
    page,
    scale,
    verdict,
)

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> | `tick` \"quoted\" & 'single'"

# name, title, value and interval of beat_f_70ms, value of kad, ranks
ROWS = (
    ("retrieval_aligned", "aligned music", 0.95, 0.90, 1.0, -0.5, [1, 1]),
    ("good/2", "good 2", 0.61, 0.5, 0.7, 12.0, [2, 3]),
    ("metronome_120", "metronome at 120 bpm", 0.30, 0.25, 0.35, 150.0, None),
    ("example/1.0", "example 1.0", 0.25, None, None, 140.0, None),
    ("silence", "silence", None, None, None, 300.0, None),
)


def score(value: float | None, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 4, "songs": 2, "undefined": 0, "seed_sd": None, **more}


def card(system: str, version: str, **more: Any) -> dict[str, Any]:
    return {
        "system": system,
        "version": version,
        "authors": [HOSTILE],
        "paper": "https://example.org/?a=1&b=2",
        "code": {"url": "none", "commit": "none"},
        "licence": {"code": "MIT", "predictions": "CC0-1.0"},
        "track": "open",
        "standing": "secondary",
        "pretrained": [{"name": HOSTILE, "source": "none", "licence": "none", "trained_on": HOSTILE}],
        "training_data": {"sets": [{"name": HOSTILE, "split": "train"}], "overlap": "none", "overlap_note": HOSTILE},
        "seeds": [0, 1, 2],
        "parameters": 3,
        "hardware": HOSTILE,
        "real_time_factor": 0.5,
        "post_processing": [HOSTILE],
        "benchmark": {"dataset": "demo", "content": "1:" + "0" * 64, "split": "test", "config": "clips"},
        "predictions": {"folder": "predictions"},
        **more,
    }


def board() -> dict[str, Any]:
    """What `leaderboard.json` holds, small."""
    rows: list[dict[str, Any]] = []
    for name, title, value, low, high, kad, ranks in ROWS:
        spread = 0.02 if "/" in name else None
        row: dict[str, Any] = {
            "kind": "submission" if "/" in name else "baseline",
            "name": name,
            "title": title,
            "seeds": [0, 1, 2] if "/" in name else [0],
            "metrics": {"beat_f_70ms": score(value, low, high, seed_sd=spread), "kad": score(kad)},
            "beside": {"beat_f_70ms_shuffled": score(0.29)},
            "p_values": {},
            "verdict": {"failures": [] if ranks else ["It is farther off."], "ranks": ranks},
            "clips": {"clip_000001": {"beat_f_70ms": value}},
        }
        if "/" in name:
            system, version = name.split("/")
            row |= {"system": system, "version": version, "baseline": system == "example"}
            row["card"] = card(system, version)
        rows.append(row)
    about = {"better": "higher", "unit": "", "meaning": "F-measure", "source": "mir_eval"}
    return {
        "format": 1,
        "benchmark": {
            "dataset": "demo",
            "content": f"1:{'ab' * 32}",
            "manifest_sha256": "0" * 64,
            "split": "test",
            "config": "clips",
            "reference": "1 clips of the test split of demo",
            "clips": 1,
            "songs": 1,
            "seconds": 6.0,
        },
        "metrics_version": "2.0",
        "parameters": {"resamples": 100, "seed": 0, "level": 0.95, "embedding": None, "tools": {"librosa": "0"}},
        "metrics": {
            "beat_f_70ms": {"group": "tracked beats", **about},
            "kad": {"group": "distributions", **about, "better": "lower"},
        },
        "gate": {"kad_limit": 80.0, "coverage_floor": 0.01, "ranked_by": "beat_f_70ms", "alpha": 0.05},
        "levels": {
            "truth": {"beat_f_70ms": score(0.97), "kad": score(-0.8)},
            "chance": {"beat_f_70ms": score(0.3)},
            "halves": {"kad": 2.0, "coverage": 0.7},
        },
        "rows": rows,
        "refused": {"bad/1": [HOSTILE]},
        "notes": [HOSTILE],
        "published": {"warning": WARNING, "tables": [asdict(table) for table in PUBLISHED]},
        "audio": {"audio/submissions/good/2": {"clip_000001": "audio/submissions/good/2/clip_000001.wav"}},
    }


# ------------------------------------------------------------------------------------------- without a browser


def test_a_score_lies_where_the_scale_says() -> None:
    shown = cell(score(0.5, 0.25, 1.0, seed_sd=0.012), (0.0, 2.0), 3)
    assert (shown.dot, shown.left, shown.width) == (25.0, 12.5, 37.5)
    assert (shown.text, shown.interval, shown.sort) == ("0.500", "0.250 to 1.000", "0.5")
    assert shown.more == "± 0.012 over 3 seeds"
    assert cell(score(None), (0.0, 1.0)).dot is None
    assert cell(score(0.5), (0.0, 1.0)).left is None


def test_a_scale_starts_at_zero_and_ends_round() -> None:
    assert scale([score(0.2), score(0.4, 0.3, 0.9)]) == (0.0, 1.0)
    assert scale([score(0.2), score(1.1)]) == (0.0, 1.5)
    assert scale([score(-4.93), score(162.6)]) == (-5.0, 200.0)
    assert scale([score(None)]) == (0.0, 1.0)
    assert [number(value) for value in (None, 0.12345, -4.9, 162.58)] == ["–", "0.123", "-4.900", "162.6"]


def test_nothing_of_a_submission_becomes_markup() -> None:
    text = page(board())
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("<script>") == 1
    told = markdown(board())
    assert "<" not in told.replace("\\<", "")


def test_page_and_text_say_which_content_was_scored_and_no_checksum_of_files() -> None:
    for text in (page(board()), markdown(board())):
        assert f"1:{'ab' * 32}" in text
        assert "0" * 64 not in text


def test_no_word_of_the_page_asks_for_anything_from_elsewhere() -> None:
    text = page(board())
    for word in ("src=", "href=", "url(", "@import", "fetch(", "XMLHttpRequest"):
        for part in text.split(word)[1:]:
            link = part[1:60]
            assert not link.startswith(("http:", "https:", "//")) or (word == "href=" and "example.org" in link)
    assert 'src="audio/submissions/good/2/clip_000001.wav"' in text


def test_the_first_sentence_says_who_is_best_and_how_sure_that_is() -> None:
    data = board()
    assert verdict(data) == (
        "good 2 follows the dance best among the systems that sound like the test music (rank 2–3). It is surely "
        "behind the baseline aligned music."
    )
    data["rows"][1]["verdict"] = {"failures": ["It is farther off."], "ranks": None}
    assert verdict(data) == "None of the systems sounds like the test music, so none is ranked."
    data["rows"] = [row for row in data["rows"] if row["kind"] == "baseline"]
    assert verdict(data) == "No system that sounds like the test music has been submitted yet."


def test_a_line_of_the_csv_for_each_row_and_metric() -> None:
    lines = csv_text(board()).splitlines()
    assert len(lines) == 1 + 2 * len(ROWS)
    assert lines[3] == "submission,good/2,good 2,2,3,3,beat_f_70ms,0.61,0.5,0.7,4"
    assert lines[-1] == "baseline,silence,silence,,,1,kad,300.0,,,4"
    data = board()
    data["rows"][1]["title"] = "=1+1"
    assert "submission,good/2,'=1+1,2,3," in csv_text(data)


def test_both_axes_lie_where_the_scores_say() -> None:
    found = axes(board())
    assert found is not None
    points = {one["title"]: one for one in found["points"]}
    assert points["good 2"]["y"] == 61.0
    assert points["good 2"]["x"] == pytest.approx(71.72)  # 1 - sqrt(12 / 150)
    assert points["aligned music"]["x"] == 100.0  # a KAD below 0
    assert found["gate"] == pytest.approx(100 * (1 - np.sqrt(80 / 150)), abs=0.01)
    assert [line["y"] for line in found["lines"]] == [97.0, 30.0]
    assert "silence" not in points  # it has no score


def test_older_versions_are_told_from_the_newest() -> None:
    data = board()
    for version in ("10", "9"):
        data["rows"].append({**data["rows"][1], "name": f"good/{version}", "version": version})
    assert {"good/10", "example/1.0", "silence"} <= newest(data)
    assert not {"good/2", "good/9"} & newest(data)


# ------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    place = folder / "audio" / "submissions" / "good" / "2"
    place.mkdir(parents=True)
    write_wav(place / "clip_000001.wav", np.zeros(22_050 * 2), subtype="PCM_16")
    (folder / "index.html").write_text(page(board()), encoding="utf-8")
    return folder


@pytest.fixture
def shown(chromium: Any, site: Path) -> Any:
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get((site / "index.html").as_uri())
    return chromium


def order(browser: Any) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('#overview tbody th')].map(e => e.dataset.v)")


def head(browser: Any, column: int) -> Any:
    return browser.find_elements("css selector", "#overview thead th")[column]


def test_columns_are_sorted_by_click_and_by_key(shown: Any) -> None:
    titles = [title for _, title, *_ in ROWS]
    assert order(shown) == titles
    assert head(shown, 1).get_attribute("aria-sort") == "ascending"
    kad = head(shown, 4).find_element("tag name", "button")
    kad.click()  # lower is better: least first
    assert order(shown) == ["aligned music", "good 2", "example 1.0", "metronome at 120 bpm", "silence"]
    assert head(shown, 4).get_attribute("aria-sort") == "ascending"
    assert head(shown, 1).get_attribute("aria-sort") is None
    kad.send_keys(ENTER)
    assert order(shown) == ["silence", "metronome at 120 bpm", "example 1.0", "good 2", "aligned music"]
    assert shown.execute_script("return document.querySelector('#said').textContent") == "Sorted by kad, descending."
    head(shown, 3).find_element("tag name", "button").send_keys(" ")
    assert order(shown) == titles
    head(shown, 3).find_element("tag name", "button").send_keys(" ")
    assert order(shown) == [
        "example 1.0",
        "metronome at 120 bpm",
        "good 2",
        "aligned music",
        "silence",
    ]  # undefined last
    head(shown, 0).find_element("tag name", "button").click()
    assert order(shown) == sorted(titles)
    # The other tables keep their own order.
    others = shown.execute_script("return [...document.querySelectorAll('#group-0 tbody th')].map(e => e.dataset.v)")
    assert others == titles


def test_rows_are_filtered(shown: Any) -> None:
    def titles() -> list[str]:
        return shown.execute_script(
            "return [...document.querySelectorAll('#overview tbody tr')].filter(e => e.offsetParent)"
            ".map(e => e.cells[0].dataset.v)"
        )

    assert titles() == [title for _, title, *_ in ROWS]
    shown.find_element("id", "hide-baselines").click()
    assert titles() == ["good 2"]
    assert shown.execute_script("return document.querySelector('#said').textContent") == "1 rows are shown."
    shown.find_element("id", "hide-baselines").click()
    assert len(titles()) == len(ROWS)


def test_every_control_is_reached_by_the_tab_key(shown: Any) -> None:
    reached = set()
    for _ in range(26):
        shown.switch_to.active_element.send_keys("\ue004")
        reached.add(shown.execute_script("return document.activeElement.textContent.trim().slice(0, 12)"))
    assert {"system", "seeds", "kad", "Skip to the "} <= reached


def test_intervals_are_drawn_to_scale(shown: Any) -> None:
    drawn = shown.execute_script(
        "return [...document.querySelectorAll('#overview tbody tr')].map(row => {"
        " const plot = row.cells[3].querySelector('.plot'); if (!plot) return null;"
        " const all = plot.getBoundingClientRect(), bar = plot.querySelector('.bar'), dot = plot.querySelector('.dot');"
        " const part = e => { const r = e.getBoundingClientRect();"
        "   return [(r.left - all.left) / all.width, (r.right - all.left) / all.width, r.height]; };"
        " return [bar && part(bar), part(dot)]; })"
    )
    for (_, _, value, low, high, *_), found in zip(ROWS, drawn, strict=True):
        if value is None:
            assert found is None
            continue
        bar, dot = found
        assert (dot[0] + dot[1]) / 2 == pytest.approx(value, abs=0.01)
        assert dot[2] > 4
        if low is None:
            assert bar is None
        else:
            assert bar[0] == pytest.approx(low, abs=0.01)
            assert bar[1] == pytest.approx(high, abs=0.01)
            assert bar[2] > 3
    text = shown.find_elements("css selector", "#overview tbody tr")[1].text
    assert "0.610" in text
    assert "0.500 to 0.700" in text


def colour(browser: Any, row: int) -> list[int]:
    text = browser.execute_script(
        "return getComputedStyle(document.querySelectorAll('#overview tbody tr')[arguments[0]].cells[3]).color", row
    )
    return [int(value) for value in text.removeprefix("rgb(").removesuffix(")").split(", ")]


def test_baselines_are_grey_everywhere_and_systems_are_not(shown: Any) -> None:
    grey, plain = colour(shown, 0), colour(shown, 1)
    assert max(grey) - min(grey) < 16
    assert 80 < sum(grey) / 3 < 180
    assert sum(plain) / 3 < 60 or sum(plain) / 3 > 220
    names = {title for name, title, *_ in ROWS if "/" not in name} | {"example 1.0"}
    for table in shown.find_elements("css selector", "table.board"):
        marked = {row.get_attribute("data-v") for row in table.find_elements("css selector", "tr.baseline th")}
        assert marked == names
        assert len(table.find_elements("css selector", "tbody tr")) == len(ROWS)
        assert all(
            "baseline" in row.text for row in table.find_elements("css selector", "tr.baseline th")
        )  # not by colour alone


def test_a_shipped_clip_can_be_heard(shown: Any) -> None:
    (player,) = shown.find_elements("tag name", "audio")
    assert player.get_attribute("controls") is not None
    assert player.get_attribute("aria-label") == "good 2, clip_000001"
    seconds = shown.execute_async_script(
        "const a = arguments[0], done = arguments[1]; a.onloadedmetadata = () => done(a.duration);"
        " a.onerror = () => done('error'); a.preload = 'metadata'; a.load();",
        player,
    )
    assert seconds == 2.0


def test_published_numbers_stand_apart_and_say_so(shown: Any) -> None:
    section = shown.find_element("id", "published")
    assert "not comparable" in section.find_element("tag name", "h2").text
    tables = section.find_elements("tag name", "table")
    assert [("not comparable" in table.find_element("tag name", "caption").text) for table in tables] == [True, True]
    row = next(row for row in section.find_elements("css selector", "tbody tr") if row.text.startswith("D2M-GAN"))
    assert [one.text for one in row.find_elements("tag name", "td")] == [
        "88.2",
        "84.7",
        "UniMuMo's Table 2 (arXiv 2410.04534), as transcribed in a public results file: look it up before citing",
    ]
    assert not section.find_elements("css selector", "table.board")


def test_nothing_is_fetched_and_nothing_complains(shown: Any) -> None:
    assert all(name.startswith("file:") for name in loaded(shown))
    assert troubles(shown) == []
    assert shown.execute_script("return document.querySelectorAll('#cards img, #refused img').length") == 0


def test_every_part_has_a_name_and_every_table_its_heads(shown: Any) -> None:
    for table in shown.find_elements("tag name", "table"):
        assert all(one.get_attribute("scope") == "col" for one in table.find_elements("css selector", "thead th"))
        assert all(one.get_attribute("scope") == "row" for one in table.find_elements("css selector", "tbody th"))
    assert all(one.get_attribute("aria-label") for one in shown.find_elements("css selector", "[role=region]"))
    assert shown.execute_script("return document.documentElement.lang") == "en"
    broken = shown.execute_script(
        "return [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert broken == []
    ids = shown.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_a_phone_shows_it_without_scrolling_sideways(shown: Any) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    shown.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    shown.refresh()
    assert shown.execute_script("return document.documentElement.scrollWidth") == 390
    wide = shown.execute_script(
        "return [...document.querySelectorAll('#overview tbody th')].map(e => e.getBoundingClientRect().width)"
    )
    assert all(90 <= width <= 150 for width in wide)  # the name stays in sight beside a column of scores
    box = "document.querySelector('#overview .scroll')"
    shown.execute_script(f"{box}.scrollLeft = 300")
    left = shown.execute_script("return document.querySelector('#overview tbody th').getBoundingClientRect().left")
    assert left == pytest.approx(16, abs=1)
