"""Whole evaluations: identity, chance, determinism, breakdowns, comparison, the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmark_sets import CLIPS, clip_sounds, write_dataset, write_wav
from typer.testing import CliRunner

from tiktok_dm.benchmark import clip_features, evaluation, metronome, training_music
from tiktok_dm.benchmark.clip_features import FeatureCache, measure_all
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.evaluation import compare
from tiktok_dm.benchmark.metrics.definitions import METRICS
from tiktok_dm.benchmark.metrics.genre import Prediction
from tiktok_dm.benchmark.pairs import read_reference
from tiktok_dm.benchmark.training_music import read_genres
from tiktok_dm.cli import main as cli
from tiktok_dm.errors import ProblemsError, UserError

TEST = [clip for clip, values in CLIPS.items() if values[2] == "test"]
OPTIONS = EvaluateOptions(resamples=300)
# What needs no training set:
SHOWN = {name for name, metric in METRICS.items() if metric.group not in ("genre", "memorisation")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("evaluate") / "dances")


@pytest.fixture(scope="module")
def sounds() -> dict[str, np.ndarray]:
    return {f"clip_{clip:06d}": sound for clip, sound in clip_sounds().items() if clip in TEST}


@pytest.fixture(scope="module")
def wrong(sounds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Each clip with the music of another song."""
    names = list(sounds)
    return {name: sounds[names[(k + 2) % len(names)]] for k, name in enumerate(names)}


@pytest.fixture(scope="module")
def cache() -> FeatureCache:
    return FeatureCache()


def write(folder: Path, sounds: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, sound in sounds.items():
        write_wav(folder / f"{name}.wav", sound)
    return folder


def test_the_music_itself_is_perfect(dataset: Path, sounds: dict[str, np.ndarray], cache: FeatureCache) -> None:
    result = evaluate(dataset, sounds, OPTIONS, cache=cache)
    value = {name: score.value for name, score in result.metrics.items()}
    for name in ("beat_coverage_d2m", "beat_hit_d2m", "beat_precision_loris", "beat_recall_loris", "f1_loris"):
        assert value[name] == 1.0
    assert value["csd"] == value["hsd"] == 0.0
    assert value["tempo_error_2s"] == pytest.approx(0, abs=0.01)  # the dataset's sound is FLAC of 16 bits
    for name in ("beat_f_70ms_2s", "beat_cmlt_2s", "beat_amlt_2s"):
        assert value[name] == 1.0
    assert value["beat_f_70ms"] > 0.97  # the dataset's beats are the truth, and the tracker all but perfect
    assert value["tempo_error"] < 0.5
    # AIST++'s unsmoothed motion beats lie a little beside the music's.
    for name, least in (("beat_align_motion_smoothed", 0.9), ("beat_align_motion_aistpp", 0.8)):
        for whole in (name, name + "_all"):
            assert value[whole] == pytest.approx(result.beside[whole + "_reference"].value, abs=1e-4)
            assert value[whole] > least
            assert result.beside[whole + "_shuffled"].value < 0.6
    assert value["fad"] == pytest.approx(0, abs=1e-3)  # FLAC's 16 bits
    assert value["coverage"] == 1.0
    assert result.counts == {"references": 5, "clips": 5, "songs": 4}
    assert result.parameters["resampled"] == "songs"
    assert result.parameters["embedding"]["embedder"] == "log-mel"
    assert result.problems == []
    assert result.metrics.keys() == SHOWN | {"fad", "kad", "density", "coverage"}


def test_wrong_music_scores_less_where_pairing_is_looked_at(
    dataset: Path, sounds: dict[str, np.ndarray], wrong: dict[str, np.ndarray], cache: FeatureCache
) -> None:
    right = evaluate(dataset, sounds, OPTIONS, cache=cache)
    result = evaluate(dataset, wrong, OPTIONS, cache=cache)
    for name in ("beat_f_70ms", "beat_cmlt", "beat_f_70ms_2s", "beat_cmlt_2s", "beat_align_motion_aistpp"):
        assert result.metrics[name].value < 0.7 * right.metrics[name].value, name
        assert (result.metrics[name].low, result.metrics[name].high) == (None, None)  # of so few songs
    assert result.metrics["tempo_error"].value > 10
    assert result.p_values["beat_align_motion_aistpp"] > 0.1
    # And the published scores hardly see it.
    assert result.metrics["beat_recall_loris"].value > 0.9
    assert result.beside["beat_hit_d2m_shuffled"].value > 0.9
    assert right.beside["beat_f_70ms_shuffled"].value < 0.5

    found = compare(right, result, resamples=300)
    assert found["beat_f_70ms"].value == pytest.approx(
        right.metrics["beat_f_70ms"].value - result.metrics["beat_f_70ms"].value
    )
    assert found["beat_f_70ms"].low is None
    assert found["tempo_error"].value < 0
    assert found.keys() == SHOWN


def test_per_clip_scores_are_what_the_means_are_of(
    dataset: Path, wrong: dict[str, np.ndarray], cache: FeatureCache
) -> None:
    result = evaluate(dataset, wrong, OPTIONS, cache=cache)
    table = result.per_clip
    assert table["id"].tolist() == [f"clip_{k:06d}" for k in TEST]
    assert table["song_id"].tolist() == [1, 1, 2, 3, 4]
    assert table["n_dancers"].tolist() == [1, 2, 1, 3, 1]
    for name in SHOWN:
        if METRICS[name].columns == (name,):
            assert result.metrics[name].value == pytest.approx(table[name].mean()), name
    assert result.metrics["csd"].value == pytest.approx(table["beat_precision_loris"].std(ddof=1))
    # A clip with one dancer scores the same for the lead and for all.
    alone = table["n_dancers"] == 1
    lead, everyone = table["beat_align_motion_aistpp"], table["beat_align_motion_aistpp_all"]
    assert lead[alone].tolist() == everyone[alone].tolist()


def test_breakdowns_are_the_same_statistics_of_the_parts(
    dataset: Path, wrong: dict[str, np.ndarray], cache: FeatureCache
) -> None:
    result = evaluate(dataset, wrong, OPTIONS, cache=cache)
    parts = {kind: list(groups) for kind, groups in result.breakdowns.items()}
    assert parts["dancers"] == ["1 dancer", "2 dancers", "3 or more dancers"]
    assert parts["compilation"] == ["also gives train clips", "gives no train clip"]
    assert parts["clip length"] == ["under 10 s", "10 to 15 s"]
    assert len(parts["pose confidence"]) == 3
    table = result.per_clip
    one = result.breakdowns["dancers"]["1 dancer"]["beat_f_70ms"]
    assert one.value == pytest.approx(table[table["n_dancers"] == 1]["beat_f_70ms"].mean())
    assert (one.n, one.songs) == (3, 3)
    for groups in result.breakdowns.values():
        assert sum(scores["beat_f_70ms"].n for scores in groups.values()) == 5


def test_groups_of_clips() -> None:
    table = pd.DataFrame(
        {
            "n_dancers": [1, 2, 5, None],
            "pose_confidence": [0.1, 0.2, 0.3, None],
            "seen_compilation": [True, True, True, None],
            "clip_seconds": [9.9, 10.0, 15.0, 14.9],
        }
    )
    found = evaluation.breakdown_groups(table)
    assert {label: rows.tolist() for label, rows in found["dancers"].items()} == {
        "1 dancer": [True, False, False, False],
        "2 dancers": [False, True, False, False],
        "3 or more dancers": [False, False, True, False],
    }
    assert [rows.tolist() for rows in found["pose confidence"].values()] == [
        [True, False, False, False],
        [False, True, False, False],
        [False, False, True, False],
    ]
    assert "compilation" not in found  # all the same
    assert [rows.tolist() for rows in found["clip length"].values()] == [
        [True, False, False, False],
        [False, True, False, True],
        [False, False, True, False],
    ]


def test_segments_bring_the_clips_beats_and_dancers(dataset: Path) -> None:
    sounds = clip_sounds()
    generated = {
        f"{CLIPS[c][0]:06d}_{CLIPS[c][1]}_{c}_seg{k + 1}": sounds[c][k * 44_100 : (k + 1) * 44_100]
        for c in TEST
        for k in range(len(sounds[c]) // 44_100)
    }
    result = evaluate(dataset, generated, EvaluateOptions(resamples=100, embedder=None))
    assert result.counts == {"references": 17, "clips": 17, "songs": 4}
    value = {name: score.value for name, score in result.metrics.items()}
    assert value["beat_f_70ms_2s"] == 1.0
    assert value["beat_f_70ms"] > 0.85  # two seconds tracked alone against the whole dance's beats
    assert value["beat_align_motion_aistpp"] > 0.8
    assert "clip length" in result.breakdowns


def test_silence_earns_nothing_and_is_named(dataset: Path, sounds: dict[str, np.ndarray], cache: FeatureCache) -> None:
    silence = {name: np.zeros_like(sound) for name, sound in sounds.items()}
    result = evaluate(dataset, silence, OPTIONS, cache=cache)
    assert [p.kind for p in result.problems] == ["silent"] * 5
    for name, score in result.metrics.items():
        if name.startswith("tempo_error"):
            assert score.value == 100.0
        elif name.startswith("beat_"):
            assert score.value == 0.0, name
    assert result.metrics["f1_loris"].value == 0.0


def test_results_depend_on_the_seed_only(tmp_path: Path, dataset: Path, wrong: dict[str, np.ndarray]) -> None:
    folder = write(tmp_path / "system", wrong)
    one = evaluate(dataset, folder, OPTIONS).as_dict()
    again = evaluate(dataset, folder, EvaluateOptions(resamples=300, workers=2)).as_dict()
    assert json.dumps(one) == json.dumps(again)
    other = evaluate(dataset, folder, EvaluateOptions(resamples=300, seed=1)).as_dict()
    assert other["p_values"] != one["p_values"]
    assert other["metrics"]["beat_f_70ms"]["value"] == one["metrics"]["beat_f_70ms"]["value"]


def test_each_file_is_measured_once(monkeypatch: pytest.MonkeyPatch, sounds: dict[str, np.ndarray]) -> None:
    seen: list[int] = []
    measure = clip_features.measure
    monkeypatch.setattr(clip_features, "measure", lambda audio, *made: seen.append(1) or measure(audio, *made))
    cache = FeatureCache()
    given = list(sounds.values())[:2]
    first = measure_all([*given, given[0]], cache=cache)
    assert len(seen) == 2
    assert first[0] is first[2]
    measure_all(given, cache=cache)
    assert len(seen) == 2


def test_systems_on_other_references_are_not_compared(dataset: Path, sounds: dict[str, np.ndarray]) -> None:
    options = EvaluateOptions(resamples=100, embedder=None, partial=True)
    one = evaluate(dataset, {name: sounds[name] for name in list(sounds)[:1]}, options)
    two = evaluate(dataset, {name: sounds[name] for name in list(sounds)[1:2]}, options)
    with pytest.raises(UserError, match="one reference only"):
        compare(one, two)
    assert one.metrics["beat_f_70ms"].low is None  # one song: no interval
    assert any("no intervals: 1 song says too little" in note for note in one.notes)


# ------------------------------------------------------------------------------------------- the training set


def test_training_music_is_listened_to_once_for_all_evaluations(
    dataset: Path, sounds: dict[str, np.ndarray], cache: FeatureCache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_music.platformdirs, "user_cache_path", lambda name: tmp_path)
    monkeypatch.setattr(training_music, "_LAST", {})
    heard: list[int] = []
    plain = training_music.listen
    monkeypatch.setattr(training_music, "listen", lambda *given: heard.append(1) or plain(*given))
    dataset = Path(shutil.copytree(dataset, tmp_path / "dances"))
    (dataset / "manifest.json").write_text('{"files": "by checksum"}')
    options = EvaluateOptions(training=dataset, embedder=None)
    found = [evaluate(dataset, sounds, options, cache=cache).as_dict() for _ in range(20)]
    assert len(heard) == 1
    training_music._LAST.clear()  # as in another process
    assert evaluate(dataset, sounds, options, cache=cache).as_dict() == found[0] == found[19]
    assert len(heard) == 1
    (kept,) = (tmp_path / "training").iterdir()
    kept.write_bytes(kept.read_bytes()[:300])  # as a crash of the machine may leave it
    training_music._LAST.clear()
    assert evaluate(dataset, sounds, options, cache=cache).as_dict() == found[0]
    assert len(heard) == 2
    (dataset / "manifest.json").write_text('{"files": "by other checksums"}')
    evaluate(dataset, sounds, options, cache=cache)
    assert len(heard) == 3  # another build may hold other music


def test_training_music_is_recognised(dataset: Path, sounds: dict[str, np.ndarray], cache: FeatureCache) -> None:
    """One clip is the training clip itself; the others are their own references."""
    given = {**sounds, "clip_000001": np.tile(clip_sounds()[0], 2)[: len(sounds["clip_000001"])]}
    options = EvaluateOptions(resamples=100, training=dataset)
    result = evaluate(dataset, given, options, cache=cache)
    row = result.per_clip.set_index("id").loc["clip_000001"]
    assert row["training_nearest"] == "clip_000000"
    others = result.per_clip[result.per_clip["id"] != "clip_000001"]
    assert row["training_distance"] < others["training_distance"].min()
    assert row["training_fingerprint"] > others["training_fingerprint"].max()
    assert result.metrics["training_distance"].value == pytest.approx(result.per_clip["training_distance"].mean())
    assert result.beside["training_distance_reference"].n == 5
    assert "split train" in result.parameters["training"]["training_set"]


def test_genres_of_a_given_classifier(dataset: Path, wrong: dict[str, np.ndarray], cache: FeatureCache) -> None:
    class ByLength:
        """Even and odd sample counts."""

        name, version, labels = "by-length", "1", ("even", "odd")

        def predict(self, audio: np.ndarray, sample_rate: int) -> Prediction:
            label = "long" if len(audio) > 10 * sample_rate else "short"
            return Prediction(label, {label: 1.0})

    result = evaluate(dataset, wrong, EvaluateOptions(resamples=100, classifier=ByLength()), cache=cache)
    # The music of clip 4, eleven seconds, went to clip 2; so both of these disagree, and three clips agree.
    assert result.metrics["genre_agreement"].value == pytest.approx(3 / 5)
    assert result.beside["genre_agreement_shuffled"].value == pytest.approx((4 * 4 + 1 * 1) / 25)
    assert result.parameters["genre"]["kappa"] == pytest.approx((0.6 - 0.68) / 0.32)


def test_genres_from_a_table(tmp_path: Path) -> None:
    table = tmp_path / "genres.csv"
    table.write_text("song_id,genre\n0,house\n1,\n2, salsa \n")
    assert read_genres(table) == {0: "house", 2: "salsa"}
    table.write_text("song,genre\n0,house\n")
    with pytest.raises(UserError, match="song_id and genre"):
        read_genres(table)


# ------------------------------------------------------------------------------------------- a metronome


def test_a_metronome_wins_the_published_scores_and_no_other() -> None:
    found = metronome.metronome_check(6)
    itself, other, clicks = (
        {name: score.value for name, score in found[row].metrics.items()} for row in metronome.ROWS
    )
    for name in ("beat_hit_d2m", "beat_precision_loris", "beat_recall_loris", "f1_loris"):
        assert clicks[name] == 1.0
    assert other["f1_loris"] == 1.0  # nor do they see the pairing
    for name in ("beat_f_70ms", "beat_cmlt", "beat_amlt", "beat_f_70ms_2s", "beat_cmlt_2s"):
        assert itself[name] > 0.97, name
        assert clicks[name] < 0.5, name
        assert other[name] < 0.5, name
    assert itself["tempo_error"] < 0.5
    assert clicks["tempo_error"] > 8


def test_the_click_track_clicks() -> None:
    sound = metronome.click_track(3.0, 2.0, first_s=0.25)
    assert len(sound) == 66_150
    peaks = [k for k in range(6) if np.abs(sound[round((0.25 + 0.5 * k) * 22_050) :][:50]).max() > 0.5]
    assert peaks == list(range(6))
    assert np.abs(sound[: round(0.25 * 22_050)]).max() == 0
    with pytest.raises(ValueError, match="above 0"):
        metronome.click_track(1.0, 0.0)


# ------------------------------------------------------------------------------------------- the command


def test_the_command_on_plain_wavs(tmp_path: Path, sounds: dict[str, np.ndarray], wrong: dict[str, np.ndarray]) -> None:
    reference, generated = write(tmp_path / "reference", sounds), write(tmp_path / "system", wrong)
    arguments = ["evaluate", "--reference", str(reference), "--generated", str(generated), "--workers", "1"]
    arguments += ["--resamples", "200"]
    shown = CliRunner().invoke(cli.app, arguments)
    assert shown.exit_code == 0, shown.output
    for words in ("system on 5 sound files in reference: 5 of 5 scored", "beat_hit_d2m", "songs unknown", "note: "):
        assert words in shown.output
    assert "beat_align" not in shown.output.replace("(no beat alignment)", "")

    file, table = tmp_path / "out.json", tmp_path / "clips.csv"
    written = CliRunner().invoke(cli.app, [*arguments, "--json", str(file), "--per-clip", str(table)])
    assert written.exit_code == 0, written.output
    printed = CliRunner().invoke(cli.app, [*arguments, "--json"])
    assert json.loads(printed.stdout) == json.loads(file.read_text())
    found = json.loads(file.read_text())
    assert found["metrics_version"]
    assert found["metrics"]["f1_loris"]["meaning"].startswith("2 P R")
    rows = pd.read_csv(table)
    assert rows["beat_f_70ms"].mean() == pytest.approx(found["metrics"]["beat_f_70ms"]["value"], abs=1e-6)

    both = CliRunner().invoke(cli.app, [*arguments, "--against", str(reference), "--json"])
    differences = json.loads(both.stdout)["against"]["differences"]
    assert differences["beat_f_70ms"]["value"] < -0.3


def test_the_command_names_problems(tmp_path: Path, sounds: dict[str, np.ndarray]) -> None:
    reference = write(tmp_path / "reference", sounds)
    some = write(tmp_path / "system", dict(list(sounds.items())[1:]))
    arguments = ["evaluate", "--reference", str(reference), "--generated", str(some), "--embedder", "none"]
    failed = CliRunner().invoke(cli.app, [*arguments, "--workers", "1"])
    assert isinstance(failed.exception, ProblemsError)
    assert "clip_000001: missing" in str(failed.exception)
    passed = CliRunner().invoke(cli.app, [*arguments, "--workers", "1", "--partial"])
    assert passed.exit_code == 0
    assert "4 of 5 scored" in passed.output
    nowhere = CliRunner().invoke(cli.app, [*arguments, "--json", str(tmp_path / "no" / "x.json")])
    assert "no folder" in str(nowhere.exception)


def test_the_metronome_command() -> None:
    shown = CliRunner().invoke(cli.app, ["metronome-check", "--songs", "2", "--workers", "1"])
    assert shown.exit_code == 0, shown.output
    line = next(line for line in shown.output.splitlines() if line.startswith("beat_hit_d2m"))
    assert line.split()[-1] == "1.000"


@pytest.mark.parametrize("name", ["dance_segments_v2", "12 segments of the split test", "clips", "d"])
def test_a_folders_name_says_nothing_of_its_configuration(
    dataset: Path, sounds: dict[str, np.ndarray], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).symlink_to(dataset, target_is_directory=True)
    read: list[str] = []

    def spy(path: Path, config: str, *rest: object) -> None:
        read.append(config)
        raise UserError("enough")

    monkeypatch.setattr(training_music, "read_training", spy)
    for config in ("clips", None):
        reference = read_reference(tmp_path / name, split="test", config=config)
        assert reference.config == "clips"
    with pytest.raises(UserError, match="enough"):
        evaluate(tmp_path / name, sounds, EvaluateOptions(training=tmp_path / name))
    assert read == ["clips"]
