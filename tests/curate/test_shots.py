"""Shots of whole compilations whose cuts are known: rendered ones here, real footage where it is at hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import compilation_factory as factory
import media_factory as films
import numpy as np
import pytest

from tiktok_dm.curate.cuts.scan import scan
from tiktok_dm.curate.cuts.shots import Boundary, Content, Shot, find_shots, judge


def found_in(path: Path, work: Path) -> tuple[list[Shot], list[Boundary]]:
    """Shots and boundaries, after checking what always holds."""
    seen = scan(path, work)
    shots, boundaries = find_shots(seen)
    assert shots[0].start_s == seen.times_s[0]
    assert shots[-1].end_s == seen.end_s
    for one, following in pairwise(shots):
        assert one.end_s == following.start_s
        assert one.end == following.start
        assert one.end_s in seen.times_s, "a boundary is the time stamp of a frame"
        assert one.end.confidence >= 0.5
    assert [b.at_s for b in boundaries] == sorted(b.at_s for b in boundaries)
    used = {shot.start for shot in shots} | {shots[-1].end}
    for boundary in boundaries:
        assert 0 <= boundary.confidence <= 1
        assert boundary.reason
        assert boundary.start_s <= boundary.at_s <= boundary.end_s
        assert (boundary in used) == (boundary.confidence >= 0.5)
    assert all(0 <= shot.confidence <= 1 and shot.reason for shot in shots)
    assert shots[0].music_runs_on is None
    return shots, boundaries


def missed_and_false(shots: Sequence[Shot], truth: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Instants that no cut is within two frames of, and cuts that are within two frames of no such instant."""
    tolerance = 2.5 / truth["fps"]
    true, found = [t["at_s"] for t in truth["transitions"]], [shot.start_s for shot in shots[1:]]
    missed = [t for t in true if all(abs(t - f) > tolerance for f in found)]
    return missed, [f for f in found if all(abs(t - f) > tolerance for t in true)]


def clip(k: int, **more: Any) -> factory.Part:
    takes, songs = factory.demo_footage(), factory.demo_music()
    usual: dict[str, Any] = {"frames": 75, "layout": "tall", "border": 3, "music": songs[k % 5], "offset_s": 2.0 * k}
    return factory.Part("clip", footage=takes[k % 5], **(usual | more))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Title, four clips (hard cut, cross-fade, hard cut; one with a flash and a zoom), outro."""
    title = factory.Part("title_card", 45, border=5, text="DANCE MIX", card="still")
    outro = factory.Part("outro_card", 50, border=6, text="Who won?", card="text")
    parts = (
        title, clip(0), clip(1, transition="crossfade", fade=12),
        clip(2, frames=90, effects=(("flash", 0.8, 0.2), ("zoom", 1.4, 0.9))), clip(3, layout="full"), outro,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("rendered") / "a.mp4"
    return path, factory.write(factory.Compilation(parts, (320, 180), Fraction(30)), path)


def test_a_rendered_compilation(rendered: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, truth = rendered
    shots, boundaries = found_in(path, tmp_path)
    assert missed_and_false(shots, truth) == ([], [])
    assert [shot.kind for shot in shots] == ["title_card", *["clip"] * 4, "outro_card"]
    assert [shot.start.kind for shot in shots] == ["start", "hard_cut", "crossfade", "hard_cut", "hard_cut", "hard_cut"]
    fade = shots[2].start
    known = truth["transitions"][1]
    assert fade.start_s == pytest.approx(known["start_s"], abs=0.1)
    assert fade.end_s == pytest.approx(known["end_s"], abs=0.1)
    hard = [shot.start.at_s for shot in shots[1:] if shot.start.kind == "hard_cut"]
    exact = [t["at_s"] for t in truth["transitions"] if t["kind"] == "hard_cut"]
    assert hard == pytest.approx(exact, abs=1e-4), "hard cuts lie at the very frame"
    flash = [b for b in boundaries if abs(b.at_s - truth["distractors"][0]["start_s"]) < 0.25]
    assert flash
    assert all(b.confidence < 0.5 and b.kind in ("flash", "zoom", "motion") for b in flash)


def test_the_same_file_gives_the_same_shots(rendered: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    seen = scan(rendered[0], tmp_path)
    assert find_shots(seen) == find_shots(seen)


@pytest.mark.parametrize(
    ("seed", "choices"),
    [
        (301, {"fps": Fraction(25), "variable": True, "sound": "stereo", "layouts": ("blur", "tall")}),
        (302, {"fps": Fraction(30000, 1001), "crf": 30, "sound": "none", "size": (180, 320)}),
    ],
)
def test_compilations_drawn_at_random(seed: int, choices: dict[str, Any], tmp_path: Path) -> None:
    takes, songs = factory.demo_footage(), factory.demo_music()
    usual = {"clips": 4, "seconds": (2.0, 3.5), "size": (320, 180), "same_room": 0.0, "effects": 0.5}
    plan = factory.drawn(seed, takes, songs, **(usual | choices))
    truth = factory.write(plan, tmp_path / "a.mp4")
    shots, _ = found_in(tmp_path / "a.mp4", tmp_path)
    missed, false = missed_and_false(shots, truth)
    assert len(missed) + len(false) <= 1, (missed, false, truth["transitions"], truth["distractors"])
    clips = [shot for shot in shots if shot.kind == "clip"]
    assert abs(len(clips) - 4) <= 1
    if plan.sound == "none":
        assert all(shot.music_runs_on is None for shot in shots)


def test_no_cut_is_one_clip(tmp_path: Path) -> None:
    factory.write(factory.Compilation((clip(0, frames=120),), (320, 180)), tmp_path / "a.mp4")
    shots, _ = found_in(tmp_path / "a.mp4", tmp_path)
    assert [shot.kind for shot in shots] == ["clip"]
    assert (shots[0].start.kind, shots[0].end.kind) == ("start", "end")


def test_black_is_no_clip(tmp_path: Path) -> None:
    black = [np.zeros((64, 96, 3), np.uint8)] * 60
    path = films.film(tmp_path / "a.mp4", black, *films.constant(60, Fraction(30)))
    shots, _ = found_in(path, tmp_path)
    assert [shot.kind for shot in shots] == ["black"]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_video_of_a_few_frames(count: int, tmp_path: Path) -> None:
    pictures = [films.numbered(k) for k in range(max(2, count))]
    path = films.film(tmp_path / "a.mp4", pictures, *films.constant(max(2, count), Fraction(30)))
    shots, _ = found_in(path, tmp_path)
    assert shots[-1].end_s == pytest.approx(max(2, count) / 30, abs=0.02)


def test_what_a_shot_shows() -> None:
    def kind(people: float | None, moving: float, moves: float, seconds: float = 6.0) -> str:
        return judge(Content(people, moving, moves, False), seconds)[0]

    assert kind(0.95, 0.05, 0.2) == "clip"
    assert kind(0.95, 0.0, 0.0) == "card", "a photo"
    assert kind(0.95, 0.02, 0.005) == "card", "a photo, letters that move"
    assert kind(0.0, 0.0, 0.0) == "card"
    assert kind(0.1, 0.05, 0.0) == "card", "confetti"
    assert kind(None, 0.05, 0.0) == "clip", "never thrown away unseen"
    sure, unsure = (judge(Content(p, 0.05, 0.1, False), 6.0)[1] for p in (0.97, 0.62))
    assert sure > 0.9
    assert unsure < 0.8


@pytest.mark.parametrize(("name", "clips"), [("compilation_a", 11), ("compilation_b", 9)])
def test_real_compilations(name: str, clips: int, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "compilations"
    truth = json.loads((folder / f"{name}.truth.json").read_text())
    shots, _ = found_in(folder / f"{name}.mp4", tmp_path)
    assert missed_and_false(shots, truth) == ([], [])
    assert sum(shot.kind == "clip" for shot in shots) == clips
    wanted = {card["kind"] for card in truth["non_clips"]}
    assert {shot.kind for shot in shots} - {"clip"} == wanted
    # Where picture and music change together, what is heard agrees, mostly.
    heard = [(t["song_changes"], s.music_runs_on) for t, s in zip(truth["transitions"], shots[1:], strict=True)]
    right = [changes == (runs_on < 0.5) for changes, runs_on in heard if runs_on is not None]
    assert np.mean(right) >= 0.8
