"""Sessions and the choice of cells: order, balance, nobody meets an item twice."""

from __future__ import annotations

import itertools
from pathlib import Path

from listening_factory import Clock, cell_of, hear, new_rater, open_store, spread, study_of, to_rating

from tiktok_dm.listening.assignment import Cell, choose, draw, steps


def test_a_session_opens_with_checks_and_practice_and_hides_attention_checks_inside(tmp_path: Path) -> None:
    study, _ = study_of(tmp_path / "s", items=15, checks=2, headphone_trials=6)
    for rater in range(1, 30):
        plan = steps(study, rater)
        assert plan[:8] == ["volume", *["headphones"] * 6, "practice"]
        assert plan.count("rating") == 15
        assert plan.count("check") == 2
        assert plan[8] == plan[-1] == "rating"
        assert ("check", "check") not in set(itertools.pairwise(plan))
    assert steps(study, 1) == steps(study, 1)
    assert len({tuple(steps(study, rater)) for rater in range(1, 30)}) > 20


def test_draws_depend_on_the_seed_and_the_purpose_alone() -> None:
    assert draw(1, "a", 2).random() == draw(1, "a", 2).random()
    assert len({draw(1, "a").random(), draw(2, "a").random(), draw(1, "b").random()}) == 3


def cells(votes: list[list[int]], held: set[int] = frozenset()) -> list[Cell]:  # type: ignore[assignment]
    n = len(votes[0])
    return [Cell(i * n + c, i, c, v, i * n + c not in held) for i, row in enumerate(votes) for c, v in enumerate(row)]


def test_a_cell_is_handed_out_only_while_it_has_the_fewest_votes(tmp_path: Path) -> None:
    study, _ = study_of(tmp_path / "s", items=2, systems=("one",))
    votes = [[1, 1, 1], [1, 0, 1]]
    chosen = choose(cells(votes), set(), [0, 0, 0], study, 1)
    assert chosen is not None
    assert chosen.index == 4
    assert choose(cells(votes), {1}, [0, 0, 0], study, 1) is None  # the item was met
    assert choose(cells(votes, {4}), set(), [0, 0, 0], study, 1) is None  # somebody else holds it


def test_a_rater_meets_conditions_evenly_and_needy_items_first(tmp_path: Path) -> None:
    study, _ = study_of(tmp_path / "s", items=2, systems=("one",))
    chosen = choose(cells([[0, 0, 0], [0, 0, 0]]), set(), [1, 0, 1], study, 1)
    assert chosen is not None
    assert chosen.condition == 1
    chosen = choose(cells([[1, 1, 0], [0, 0, 0]]), set(), [0, 0, 0], study, 1)
    assert chosen is not None
    assert chosen.item == 1


def test_one_rater_after_another_all_complete_and_votes_stay_within_one(tmp_path: Path) -> None:
    study_of(tmp_path / "s", items=4, raters=6, checks=0, headphone_trials=0)
    clock = Clock()
    store = open_store(tmp_path / "s", clock)
    for _ in range(6):
        rater, items = new_rater(store), set()
        for _ in range(4):
            trial = to_rating(store, rater, clock)
            items.add(cell_of(store, trial) // 4)
            hear(store, rater, trial, clock)
            assert store.answer(rater, trial.trial, 3, 1, 0)
            assert spread(store) <= 1
        assert len(items) == 4
        assert store.position(rater).stage == "done"
    assert [sorted(row) for row in store.votes()] == [[1, 1, 2, 2]] * 4
    assert store.begin() is None
    store.close()


def test_with_raters_at_once_and_drop_outs_votes_stay_within_one_at_any_time(tmp_path: Path) -> None:
    study_of(tmp_path / "s", items=6, raters=10, checks=0, headphone_trials=0, patience_s=120.0)
    clock = Clock()
    store = open_store(tmp_path / "s", clock)
    rng = draw(0, "raters")
    active: list[int] = []
    met: dict[int, list[int]] = {}
    finished = dropped = 0
    for _ in range(3000):
        clock.now += 3
        if len(active) < 5 and (token := store.begin()) is not None:
            rater = store.rater(token)
            assert rater is not None
            active.append(rater)
            met[rater] = []
        if not active:
            break
        rater = rng.choice(active)
        position = store.position(rater)
        if position.stage == "done":
            active.remove(rater)
            finished += 1
        elif position.stage == "trial" and position.trial is not None:
            trial = position.trial
            if rng.random() < 0.03:
                active.remove(rater)  # leaves for good, with the clip in hand and no word
                dropped += 1
                continue
            hear(store, rater, trial, clock)
            if trial.kind == "rating":
                met[rater].append(cell_of(store, trial) // 4)
            store.answer(rater, trial.trial, trial.expected or 4, 1, 0)
            assert spread(store) <= 1
    assert dropped > 0
    assert finished >= 6
    assert sum(map(sum, store.votes())) >= 6 * 6
    assert all(len(set(items)) == len(items) for items in met.values())
    store.close()
