"""Statistics worked by hand, simulated raters with known means, exclusions, tables, the plot."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from listening_factory import study_of, table, trial_row
from PIL import Image

from tiktok_dm.errors import UserError
from tiktok_dm.listening.report import COLUMNS, analyse, in_words, long_table, plot
from tiktok_dm.listening.statistics import cluster_bootstrap, holm, interval, signed_rank
from tiktok_dm.listening.study import Exclusion

OURS, THEIRS, REFERENCE, ANCHOR = range(4)


def drawn(ratings: list[tuple[int, int, float]], draws: int = 20_000) -> np.ndarray:
    """Bootstrap means of one condition, of (rater, item, rating)."""
    rater, item, value = (np.array(column) for column in zip(*ratings, strict=True))
    return cluster_bootstrap(value, rater, item, np.zeros(len(value), int), draws=draws, seed=1)[:, 0]


def test_the_interval_by_hand() -> None:
    # Rater 0 says 2, rater 1 says 4, of both items. Two draws out of the two raters: both 0 (1/4), one each (1/2), both
    # 1 (1/4); items make no difference. So the mean is 2, 3 or 4 with these chances, and the 95 % interval is 2 to 4.
    means = drawn([(0, 0, 2), (0, 1, 2), (1, 0, 4), (1, 1, 4)])
    values, counts = np.unique(means, return_counts=True)
    assert values.tolist() == [2, 3, 4]
    np.testing.assert_allclose(counts / len(means), [0.25, 0.5, 0.25], atol=0.015)
    assert interval(means) == (2, 4)


def test_without_any_difference_the_interval_is_a_point() -> None:
    assert interval(drawn([(r, i, 3) for r in range(4) for i in range(3)], 500)) == (3, 3)
    assert all(math.isnan(end) for end in interval(np.array([math.nan])))


def test_clustering_widens_the_interval() -> None:
    # 6 raters whose opinions differ, each with 10 ratings: 60 ratings, but hardly more than 6 independent ones.
    rng = np.random.default_rng(3)
    bias = rng.normal(0, 1, 6)
    ratings = [(r, i, 3 + bias[r] + rng.normal(0, 0.2)) for r in range(6) for i in range(10)]
    low, high = interval(drawn(ratings, 4000))
    # As if every rating came from a rater and an item of its own:
    values = np.array([value for *_, value in ratings])
    plain = np.percentile([rng.choice(values, 60).mean() for _ in range(4000)], [2.5, 97.5])
    assert high - low > 1.8 * (plain[1] - plain[0])
    # The same spread between items instead of raters does it too.
    swapped = [(i, r, value) for r, i, value in ratings]
    low, high = interval(drawn(swapped, 4000))
    assert high - low > 1.8 * (plain[1] - plain[0])


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    ratings = [(r, i, float(r + i)) for r in range(4) for i in range(3)]
    np.testing.assert_array_equal(drawn(ratings, 700), drawn(ratings, 700))


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .04: times 4, 3, 2, 1 = .04, .06, .06, .04, then made to rise: .04, .06, .06, .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([]) == []


def test_signed_rank_by_hand() -> None:
    # Six differences of one sign and different sizes: both tails of 2^6 sign patterns, p = 2 / 64.
    assert signed_rank(np.array([2, 3, 4, 5, 6, 7.0]), np.array([1, 1, 1, 1, 1, 1.0])) == pytest.approx(2 / 64)
    # Ranks 1, 2, 3 with the smallest against: W = 1; patterns with W <= 1: {}, {1}: 2 of 8 per tail, p = 1/2.
    assert signed_rank(np.array([0, 2, 3.0]), np.array([1, 0, 0.0])) == pytest.approx(0.5)
    assert signed_rank(np.array([1 / 3, 2.0]), np.array([0.1 + 0.7 / 3, 2.0])) == 1.0


def simulated(study, means: list[float], *, raters: int = 24, seed: int = 0) -> list[tuple[int, int, int, int]]:
    """(rater, item, condition, rating): a Latin square of conditions over items and raters, biased noisy raters."""
    rng = np.random.default_rng(seed)
    bias, ease = rng.normal(0, 0.3, raters), rng.normal(0, 0.2, study.n_items)
    rows = []
    for rater in range(raters):
        for item in range(study.n_items):
            condition = (rater + item) % study.n_conditions
            heard = means[condition] + bias[rater] + ease[item] + rng.normal(0, 0.5)
            rows.append((rater + 1, item, condition, int(np.clip(round(heard), 1, 5))))
    return rows


def test_known_means_are_recovered_and_differences_found(tmp_path: Path) -> None:
    study, key = study_of(tmp_path / "s", items=16)
    truth = [3.4, 2.6, 4.4, 1.7]
    results = analyse(study, key, *table(key, simulated(study, truth)), draws=1000)
    assert results.raters_kept == 24
    assert results.votes == 24 * 16
    assert (results.fewest_votes, results.most_votes) == (6, 6)
    for score in results.scores:
        expected = truth[[c.name for c in key.conditions].index(score.name)]
        assert abs(score.mean - expected) < 0.25
        assert score.low <= score.mean <= score.high
        assert score.low - 0.1 < expected < score.high + 0.1
        assert 0.1 < score.high - score.low < 1.2
    assert [score.name for score in results.scores] == ["reference", "alpha-net", "beta-net", "anchor"]
    assert {(pair.first, pair.second) for pair in results.pairs} == {
        ("alpha-net", "beta-net"),
        ("alpha-net", "reference"),
        ("beta-net", "reference"),
    }
    for pair in results.pairs:
        assert pair.p_holm < 0.01
        assert pair.items == 16
        assert pair.low < pair.difference < pair.high
        assert not pair.low <= 0 <= pair.high


def test_equal_systems_are_not_told_apart(tmp_path: Path) -> None:
    study, key = study_of(tmp_path / "s", items=16)
    found = 0
    for seed in range(6):
        results = analyse(study, key, *table(key, simulated(study, [3, 3, 4.6, 1.5], seed=seed)), draws=200)
        (pair,) = [pair for pair in results.pairs if {pair.first, pair.second} == {"alpha-net", "beta-net"}]
        found += pair.p_holm < 0.05
    assert found <= 1


def test_mean_opinion_scores_by_hand(tmp_path: Path) -> None:
    study, key = study_of(tmp_path / "s", items=2)
    ratings = [
        (1, 0, OURS, 4),
        (1, 1, REFERENCE, 5),
        (2, 0, THEIRS, 1),
        (2, 1, OURS, 3),
        (3, 0, OURS, 2),
        (3, 1, THEIRS, 2),
    ]
    results = analyse(study, key, *table(key, ratings), draws=200)
    means = {score.name: (score.votes, score.mean) for score in results.scores}
    assert means["alpha-net"] == (3, 3.0)
    assert means["beta-net"] == (2, 1.5)
    assert means["reference"] == (1, 5.0)
    assert means["anchor"][0] == 0
    assert math.isnan(means["anchor"][1])
    (pair,) = [pair for pair in results.pairs if pair.second == "beta-net"]
    # Means of the items: ours 3 and 3, theirs 1 and 2; two differences of one sign, p = 2 / 4.
    assert (pair.difference, pair.items, pair.p) == (1.5, 2, 0.5)
    told = json.loads(json.dumps(results.as_dict()))
    assert [s["mean"] for s in told["scores"] if s["name"] == "anchor"] == [None]


def test_every_rule_of_exclusion_names_its_reason(tmp_path: Path) -> None:
    study, key = study_of(tmp_path / "s", items=12, checks=2)
    good = [(1, k, k % 4, (4, 2, 5, 1)[k % 4]) for k in range(12)]

    def reason(ratings, *extra, drop: str = "", cut_short: bool = False, rules: Exclusion | None = None) -> str:
        of = study if rules is None else study.model_copy(update={"exclusion": rules})
        raters, trials = table(key, ratings)
        raters[0]["cut_short"] = cut_short
        trials = [t for t in trials if t["kind"] != drop] + list(extra)
        return "; ".join(analyse(of, key, raters, trials, draws=100).excluded.get("r001", []))

    right, wrong = trial_row(1, "check", answer=2, expected=2), trial_row(1, "check", answer=5, expected=2)
    assert reason(good, right) == ""
    assert reason(good, right, wrong) == "failed 1 of 2 attention checks"
    assert reason(good[:5]) == "answered 5 of 12 clips"
    assert reason(good[:5], cut_short=True) == ""
    assert reason([(1, k, k % 4, 3) for k in range(12)]) == "gave the same rating 12 times"
    low = [(r, i, c, 2 if c == REFERENCE else v) for r, i, c, v in good]
    assert reason(low) == "rated the hidden reference 2.00 on average"
    assert reason(good, drop="volume") == "never passed the volume check"
    deaf = [trial_row(1, "headphones", answer=1, expected=2)] * 2 + [
        trial_row(1, "headphones", answer=2, expected=2)
    ] * 4
    assert reason(good, *deaf) == ""
    assert reason(good, *deaf, rules=Exclusion(headphones="exclude")) == "4 of 6 right in the headphone check"
    passed = [*deaf[:1], *[deaf[-1]] * 5]
    assert reason(good, *passed, rules=Exclusion(headphones="exclude")) == ""

    raters, trials = table(key, good, seconds=2.3)  # clips last 2 s
    assert analyse(study, key, raters, trials, draws=100).excluded == {"r001": ["answered 12 of 12 clips too fast"]}


def test_excluded_raters_stay_in_the_table_and_leave_the_scores(tmp_path: Path) -> None:
    study, key = study_of(tmp_path / "s", items=4)
    ratings = [(r, k, (k + r) % 4, 2 + (k + r) % 3) for r in (1, 2, 3) for k in range(4)]
    raters, trials = table(key, ratings)
    trials.append(trial_row(2, "check", answer=5, expected=1))
    results = analyse(study, key, raters, trials, draws=100, design_changed=True)
    assert results.raters_kept == 2
    assert sum(score.votes for score in results.scores) == 8
    rows = list(csv.DictReader(io.StringIO(long_table(results))))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 12
    assert {row["rater"] for row in rows if row["excluded"] == "1"} == {"r002"}
    assert {row["reasons"] for row in rows if row["rater"] == "r002"} == {"failed 1 of 1 attention checks"}
    first = rows[0]
    assert (first["rater"], first["item"], first["system"], first["position"]) == ("r001", "clip0", "beta-net", "1")
    assert (first["rating"], first["seconds"], first["plays"], first["checks"]) == ("3", "10.0", "1", "0/0")
    assert rows[4]["checks"] == "0/1"
    assert "changed after the first rater" in results.notes[0]
    text = in_words(results)
    assert "r002: failed 1 of 1 attention checks" in text
    assert "two-way cluster (pigeonhole) bootstrap" in text


def test_the_plot_is_drawn_and_odd_names_are_one_sentence(tmp_path: Path) -> None:
    study, key = study_of(tmp_path / "s", items=8)
    results = analyse(study, key, *table(key, simulated(study, [3.4, 2.6, 4.4, 1.7])), draws=200)
    plot(results, study, tmp_path / "plot.png")
    picture = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    assert picture.shape[1] == 1200
    assert (np.abs(picture.astype(int) - (13, 110, 110)).max(axis=2) < 8).sum() > 500  # the systems' colour
    with pytest.raises(UserError, match=r"name a \.png"):
        plot(results, study, tmp_path / "plot.xyz")
    nobody = analyse(study, key, [], [], draws=100)
    assert all(score.votes == 0 for score in nobody.scores)
    assert "nobody" in in_words(nobody)
    with pytest.raises(UserError, match="nothing to plot"):
        plot(nobody, study, tmp_path / "none.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plot.png", "s"]
