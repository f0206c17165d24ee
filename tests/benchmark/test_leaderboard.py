"""The leaderboard: scores come from the predictions alone, beside all baselines, and the same every time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from benchmark_sets import write_wav
from submission_sets import TEST, demo, edit, music, submission, tune
from typer.testing import CliRunner

from tiktok_dm.benchmark.baselines import TITLES
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.evaluation import Evaluation, over_seeds
from tiktok_dm.benchmark.leaderboard import board as leaderboard
from tiktok_dm.benchmark.leaderboard.board import Board, BoardOptions, build
from tiktok_dm.benchmark.leaderboard.open_benchmark import open_benchmark
from tiktok_dm.benchmark.leaderboard.page import PUBLISHED, WARNING, groups
from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.benchmark.metrics.definitions import METRICS, METRICS_VERSION, SETS
from tiktok_dm.benchmark.metrics.intervals import Score
from tiktok_dm.cli.main import app
from tiktok_dm.errors import UserError

EXAMPLE = Path(__file__).resolve().parents[2] / "submissions" / "metronome" / "1.0"
OPTIONS = BoardOptions(resamples=100)


@pytest.fixture(scope="module", autouse=True)
def fewer_seeds() -> Iterator[None]:
    """Two seeds of what draws anything are worked through as five are."""
    assert leaderboard.RANDOM_SEEDS == 5
    with patch.object(leaderboard, "RANDOM_SEEDS", 2):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demo_dances`, `submissions` with `tunes/1.0`, and `site` with the leaderboard of both, heard."""
    folder = tmp_path_factory.mktemp("board")
    demo(folder / "demo_dances")
    submission(folder / "submissions" / "tunes" / "1.0", folder / "demo_dances", music(folder / "music"))
    board(folder, audio=True)
    return folder


@pytest.fixture
def mine(place: Path, tmp_path: Path) -> Path:
    """A copy of it to change; what was scored stays known."""
    return Path(shutil.copytree(place, tmp_path / "mine"))


def board(folder: Path, *, audio: bool = False, reference_audio: bool = False) -> Board:
    options = BoardOptions(resamples=100, audio=audio, reference_audio=reference_audio)
    return build(folder / "submissions", folder / "demo_dances", folder / "site", options, work=folder / "work")


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "site" / "leaderboard.json").read_text(encoding="utf-8"))


def no_scoring(*_: object, **__: object) -> Evaluation:
    raise AssertionError("this was scored again")


# ------------------------------------------------------------------------------------------- the numbers


def test_a_row_holds_what_evaluate_says_of_its_files(place: Path) -> None:
    rows = {row["title"]: row for row in read(place)["rows"]}
    baseline = next((place / "work" / "objects" / "baselines").glob("*/*/music-0/motion_metronome"))
    options = EvaluateOptions(config="clips", resamples=100, training=place / "demo_dances")
    found = evaluate(place / "demo_dances", baseline, options)
    for name, score in found.metrics.items():
        row = rows["metronome that watches the dance"]["metrics"][name]
        for part in ("value", "low", "high"):
            assert row[part] == pytest.approx(getattr(score, part), abs=1e-6), (name, part)
    assert read(place)["levels"]["truth"]["beat_f_70ms"]["value"] == pytest.approx(1.0, abs=0.05)
    assert rows["noise"]["seeds"] == rows["metronome at 120 bpm"]["seeds"] == [0, 1]
    assert rows["silence"]["metrics"]["beat_f_70ms"]["value"] == 0.0


def test_the_mean_over_seeds_is_that_of_the_seeds_scores(place: Path) -> None:
    rows = {row["title"]: row for row in read(place)["rows"]}
    options = EvaluateOptions(config="clips", resamples=100)
    runs = [evaluate(place / "demo_dances", place / "music" / str(seed), options) for seed in range(3)]
    for name in ("beat_hit_d2m", "csd", "f1_loris", "beat_f_70ms", "kad"):
        row = rows["tunes 1.0"]["metrics"][name]
        values = [run.metrics[name].value or 0.0 for run in runs]
        assert row["value"] == pytest.approx(np.mean(values), abs=1e-6)
        assert row["seed_sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-6)
        assert (row["low"], row["high"]) == (None, None)  # of so few songs


def run(precision: list[float], recall: list[float], fad: Score) -> Evaluation:
    table = pd.DataFrame({"id": list("abcd"), "beat_precision_loris": precision, "beat_recall_loris": recall})
    names = ("beat_precision_loris", "csd", "f1_loris")
    metrics = {name: Score(0.0, None, None, 4, 2) for name in names} | {"fad": fad}
    return Evaluation("r", metrics, {}, {}, table, {}, {}, [], ["a note"], {}, {}, [1, 1, 2, 2])


def test_seeds_are_joined_as_worked_by_hand() -> None:
    a = run([0.0, 1.0, 0.0, 1.0], [0.5] * 4, Score(2.0, 1.0, 3.0, 4, 2))
    b = run([0.2] * 4, [0.4] * 4, Score(4.0, 2.0, 7.0, 4, 2))
    found = over_seeds({0: a, 1: b})
    assert found["metrics"]["beat_precision_loris"]["value"] == pytest.approx(0.35)  # (0.5 + 0.2) / 2
    # Deviations sqrt(1/3) and 0, each over its own clips; the deviation of the clips' means would be half of it too,
    # but the F1 is the mean of 2 .5 .5 / 1 and 2 .2 .4 / .6, not that of the means.
    assert found["metrics"]["csd"]["value"] == pytest.approx(np.sqrt(1 / 3) / 2, abs=1e-6)
    assert found["metrics"]["f1_loris"]["value"] == pytest.approx((0.5 + 0.8 / 3) / 2, abs=1e-6)
    assert found["metrics"]["f1_loris"]["low"] is None  # two songs
    assert [found["metrics"]["fad"][part] for part in ("value", "low", "high")] == [3.0, 1.5, 5.0]
    assert found["metrics"]["fad"]["seed_sd"] == pytest.approx(np.sqrt(2), abs=1e-6)
    assert found["notes"] == ["a note"]


def test_one_seed_is_the_plain_interval() -> None:
    table = pd.DataFrame({"id": list("abcdefgh"), "beat_precision_loris": np.linspace(0.1, 0.9, 8) ** 2})
    songs = [1, 1, 2, 2, 3, 4, 5, 6]
    metrics = {"beat_precision_loris": Score(0.0, None, None, 8, 6), "fad": Score(None, None, None, 8, 6)}
    one = Evaluation("r", metrics, {}, {}, table, {}, {}, [], [], {}, {}, songs)
    found = over_seeds({4: one})["metrics"]
    plain = intervals.interval(one.per_clip[["beat_precision_loris"]].to_numpy(), songs, bounds=(0, 1))
    assert found["beat_precision_loris"]["low"] == pytest.approx(plain.low, abs=1e-6)
    assert found["beat_precision_loris"]["high"] == pytest.approx(plain.high, abs=1e-6)
    assert found["fad"]["value"] is None
    assert found["fad"]["seed_sd"] is None


# ------------------------------------------------------------------------------------------- the tables


def test_every_table_carries_every_baseline(place: Path) -> None:
    data = read(place)
    expected = [name for name in TITLES if name not in ("ground_truth_codec", *leaderboard.LINES)]
    assert sorted(row["name"] for row in data["rows"] if row["kind"] == "baseline") == sorted(expected)
    text = (place / "site" / "leaderboard.md").read_text(encoding="utf-8")
    parts = text.split("\n## ")[1:]
    scored = [part for part in parts if "| rank | system | track |" in part]
    assert len(scored) == 1 + len(groups(data))
    for part in scored:
        lines = [line for line in part.splitlines() if line.startswith("| ")][1:]
        assert len(lines) == 1 + len(data["rows"])
        for name in expected:
            assert sum(f"| *{TITLES[name]}* | baseline | baseline |" in line for line in lines) == 1
        assert sum("| tunes 1.0 | closed | main | 3 |" in line for line in lines) == 1


def test_metrics_stand_in_the_order_of_their_definitions_and_rows_by_their_verdict(place: Path) -> None:
    data = read(place)
    assert list(data["metrics"]) == [name for name in (*METRICS, *SETS) if name in data["metrics"]]
    assert data["metrics_version"] == METRICS_VERSION
    ranked = [row for row in data["rows"] if row["verdict"]["ranks"]]
    assert data["rows"][: len(ranked)] == ranked
    # With so few songs nobody stands before anybody.
    assert all(row["verdict"]["ranks"] == [1, len(ranked)] for row in ranked)
    values = [row["metrics"]["beat_f_70ms"]["value"] for row in ranked]
    assert values == sorted(values, reverse=True)
    failed = {row["name"] for row in data["rows"][len(ranked) :]}
    assert {"silence", "noise", "motion_metronome", "motion_hits", "metronome_120"} <= failed
    assert all(row["verdict"]["failures"] for row in data["rows"][len(ranked) :])


def test_published_numbers_keep_their_source_and_their_warning(place: Path) -> None:
    data = read(place)
    text = (place / "site" / "leaderboard.md").read_text(encoding="utf-8")
    apart = text.split("## Published elsewhere: not comparable")[1]
    assert data["published"]["warning"] == WARNING == "not comparable"
    assert apart.count("not comparable") >= 3
    aist, tiktok = PUBLISHED
    assert [row.scores for row in aist.rows] == [
        (100, 100), (83.5, 82.4), (74.1, 69.4), (85.5, 83.5), (88.2, 84.7), (93.9, 90.7), (93.0, 88.4), (84.3, 80.8)
    ]  # fmt: skip
    assert [row.scores for row in tiktok.rows] == [
        (88.83, 82.66, 85.71), (92.68, 88.56, 90.56), (91.55, 91.73, 91.21)
    ]  # fmt: skip
    assert all(row.source for table in PUBLISHED for row in table.rows)
    assert "BCS" not in text
    assert "| D2M-GAN | 88.2 | 84.7 | UniMuMo's Table 2" in apart
    assert apart.count("not to be cited") == 3
    assert "D2M-GAN" not in text.split("## Published elsewhere")[0]


# ------------------------------------------------------------------------------------------- what is refused


def test_typed_in_scores_and_other_builds_are_refused_by_the_command(mine: Path) -> None:
    for name, old, told in (
        ("liar", "pretrained: []", "beat_f_70ms: 1.0\npretrained: []"),
        ("stale", "", ""),
        ("elsewhere", '\n  dataset: "demo"', '\n  dataset: "tiktok"'),
    ):
        folder = mine / "submissions" / name / "1.0"
        shutil.copytree(mine / "submissions" / "tunes" / "1.0", folder)
        edit(folder / "submission.yaml", 'system: "tunes"', f"system: {name}")
        text = (folder / "submission.yaml").read_text(encoding="utf-8")
        if name == "stale":
            before = text.split('content: "')[1].split('"')[0]
            edit(folder / "submission.yaml", before, "1:" + "0" * 64)
            first = min(TEST)
            edit(folder / "reference.csv", f"1,{first},1,", f"1,{first},9,")
        else:
            edit(folder / "submission.yaml", old, told)
    (mine / "submissions" / "empty" / "1.0").mkdir(parents=True)
    words = ["--work", str(mine / "work"), "--codec", "none", "--resamples", "100", "--workers", "1"]
    site, dataset = str(mine / "site"), str(mine / "demo_dances")
    done = CliRunner().invoke(
        app, ["leaderboard", "build", str(mine / "submissions"), "--dataset", dataset, "--out", site, *words]
    )
    assert done.exit_code == 1
    assert "liar/1.0: refused: liar/1.0/submission.yaml, line" in done.output
    assert "`beat_f_70ms` is not taken from a submission" in done.output
    assert "stale/1.0: refused: " in done.output
    assert "it was made for another build of demo (1:000000000000...; the one given is 1:" in done.output
    assert f"and the one given holds something else: the song of {min(TEST)} is another; let the system" in done.output
    assert "empty/1.0: refused: " in done.output
    assert "elsewhere" not in done.output
    assert "1 submissions (0 scored now, 1 known) and 9 baselines; 3 refused; 1 for another dataset" in done.output
    data = read(mine)
    assert [row["name"] for row in data["rows"] if row["kind"] == "submission"] == ["tunes/1.0"]
    assert sorted(data["refused"]) == ["empty/1.0", "liar/1.0", "stale/1.0"]
    assert "- liar/1.0: " in (mine / "site" / "leaderboard.md").read_text(encoding="utf-8")


def test_the_board_names_the_content_and_keeps_the_checksum_of_files_beside_it(place: Path) -> None:
    target = read(place)["benchmark"]
    opened = open_benchmark(place / "demo_dances", "clips")
    assert (target["content"], target["manifest_sha256"]) == (opened.content, opened.identity.sha256)
    row = next(row for row in read(place)["rows"] if row["kind"] == "submission")
    assert row["card"]["benchmark"]["content"] == opened.content
    assert f"Content `{opened.content}`." in (place / "site" / "leaderboard.md").read_text(encoding="utf-8")


def test_a_copy_of_the_truth_gets_no_row(mine: Path) -> None:
    truth = next((mine / "work" / "objects" / "baselines").glob("*/*/music-0/ground_truth"))
    for seed in range(3):
        shutil.rmtree(mine / "music" / str(seed))
        shutil.copytree(truth, mine / "music" / str(seed), ignore=shutil.ignore_patterns("*.json"))
    submission(mine / "submissions" / "thief" / "1.0", mine / "demo_dances", mine / "music")
    found = board(mine)
    assert len(found.refused["thief/1.0"]) == 3 * len(TEST) + 2  # each file, and two seeds that are copies
    assert [row["name"] for row in found.data["rows"] if row["kind"] == "submission"] == ["tunes/1.0"]


def test_a_folder_with_something_else_in_it_is_left_alone(mine: Path) -> None:
    (mine / "site" / "leaderboard.json").unlink()
    with pytest.raises(UserError, match="holds no leaderboard"):
        board(mine)
    with pytest.raises(UserError, match="there is no folder"):
        build(mine / "nothing", mine / "demo_dances", mine / "new", OPTIONS)


# ------------------------------------------------------------------------------------------- again


def test_what_is_unchanged_is_not_scored_again_and_comes_out_the_same(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (mine / "site" / name).read_bytes() for name in leaderboard.FILES}
    monkeypatch.setattr(leaderboard, "evaluate", no_scoring)
    monkeypatch.setattr(leaderboard, "check_sounds", no_scoring)
    found = board(mine, audio=True)
    assert (found.scored, found.kept) == ([], ["tunes/1.0"])
    assert {name: (mine / "site" / name).read_bytes() for name in leaderboard.FILES} == before
    # A card's words are shown, and change no score.
    edit(mine / "submissions" / "tunes" / "1.0" / "submission.yaml", "A. Author", "B. Author")
    found = board(mine, audio=True)
    assert found.kept == ["tunes/1.0"]
    assert b"B. Author" in (mine / "site" / "index.html").read_bytes()


def test_a_changed_file_is_scored_again(mine: Path) -> None:
    name = next(iter(TEST))
    shutil.rmtree(mine / "submissions" / "tunes")
    write_wav(mine / "music" / "1" / f"{name}.wav", tune(name, 77, TEST[name]), subtype="PCM_16")
    submission(mine / "submissions" / "tunes" / "1.0", mine / "demo_dances", mine / "music")
    before = read(mine)
    found = board(mine)
    assert found.scored == ["tunes/1.0"]
    rows = [{row["title"]: row["metrics"] for row in data["rows"]} for data in (before, found.data)]
    assert rows[0]["noise"] == rows[1]["noise"]
    assert rows[0]["tunes 1.0"] != rows[1]["tunes 1.0"]


def test_the_shipped_example_stands_on_the_board_in_grey(mine: Path) -> None:
    table = (EXAMPLE / "manifest.csv").read_text(encoding="utf-8").splitlines()[:1]
    table += [f"{name},{seed},{'0' * 64},22050,{TEST[name]}" for seed in range(3) for name in TEST]
    folder = shutil.copytree(EXAMPLE, mine / "submissions" / "metronome" / "1.0")
    (folder / "manifest.csv").write_text("\n".join(table) + "\n", encoding="utf-8")
    found = board(mine)
    row = next(row for row in found.data["rows"] if row["name"] == "metronome/1.0")
    assert row["baseline"] is True
    assert row["seeds"] == [0, 1, 2]
    assert "| *metronome 1.0* | open | main | 3 |" in (mine / "site" / "leaderboard.md").read_text(encoding="utf-8")
    assert row["metrics"]["tempo_error"]["value"] < 1.0  # it was told the tempo
    assert "made again: 0 of 15 are the manifest's" in found.notes["metronome/1.0"][1]


# ------------------------------------------------------------------------------------------- audio


MADE = ("metronome_120", "metronome_true_tempo", "noise", "silence", "motion_metronome", "motion_drums", "motion_hits")


def heard(folder: Path) -> set[str]:
    site = folder / "site"
    return {path.relative_to(site).parent.as_posix() for path in site.glob("audio/**/*.wav")}


def test_audio_is_copied_where_it_is_shipped_and_goes_when_it_is_no_more(mine: Path) -> None:
    own = {"audio/submissions/tunes/1.0"}
    made = {f"audio/baselines/{name}" for name in MADE}
    true = {f"audio/baselines/{name}" for name in ("ground_truth", "shuffled", "nearest_motion", "retrieval_aligned")}
    assert heard(mine) == own | made
    first = mine / "site" / "audio" / "submissions" / "tunes" / "1.0" / f"{next(iter(TEST))}.wav"
    assert first.read_bytes() == (mine / "music" / "0" / first.name).read_bytes()
    board(mine, audio=True, reference_audio=True)
    assert heard(mine) == own | made | true
    (mine / "site" / "audio" / "mine.txt").write_text("not ours")
    board(mine)
    assert heard(mine) == set()
    assert [path.name for path in (mine / "site" / "audio").iterdir()] == ["mine.txt"]


def test_large_files_are_not_copied(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {name: (mine / "music" / "0" / f"{name}.wav").stat().st_size for name in TEST}
    monkeypatch.setattr(leaderboard, "LARGEST_AUDIO", sorted(sizes.values())[-2])
    data = board(mine, audio=True).data
    kept = data["audio"]["audio/submissions/tunes/1.0"]
    assert set(TEST) - set(kept) == {max(sizes, key=lambda name: sizes[name])}
