"""Transactions: leases, answers that count once, what is refused, SQLite and PostgreSQL alike."""

from __future__ import annotations

import stat
import threading
from collections import Counter
from pathlib import Path

import pytest
from listening_factory import SECONDS, Clock, cell_of, hear, new_rater, open_store, spread, study_of, to_rating

from tiktok_dm.errors import UserError
from tiktok_dm.listening import study as studies
from tiktok_dm.listening.store import Refused


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_answer_counts_once_and_the_first_one_stays(tmp_path: Path, clock: Clock, url: str | None) -> None:
    study_of(tmp_path / "s")
    store = open_store(tmp_path / "s", clock, url)
    rater = new_rater(store)
    trial = to_rating(store, rater, clock)
    hear(store, rater, trial, clock)
    assert store.answer(rater, trial.trial, 4, 2, 0) is True
    assert store.answer(rater, trial.trial, 4, 2, 0) is False
    with pytest.raises(Refused, match="first rating stays") as refused:
        store.answer(rater, trial.trial, 5, 2, 0)
    assert refused.value.status == 409
    assert sum(map(sum, store.votes())) == 1
    _, trials = store.everything()
    (row,) = [row for row in trials if row["kind"] == "rating" and row["answered_at"]]
    assert (row["answer"], row["plays"], row["answered_at"] - row["handed_at"]) == (4, 2, 5.0)
    store.close()


@pytest.mark.parametrize(("answer", "plays", "status"), [(0, 1, 422), (6, 1, 422), (-1, 1, 422), (3, 0, 425)], ids=str)
def test_out_of_range_answers_and_unheard_clips_are_refused(
    tmp_path: Path, clock: Clock, answer: int, plays: int, status: int
) -> None:
    study_of(tmp_path / "s")
    store = open_store(tmp_path / "s", clock)
    rater = new_rater(store)
    trial = to_rating(store, rater, clock)
    hear(store, rater, trial, clock)
    with pytest.raises(Refused) as refused:
        store.answer(rater, trial.trial, answer, plays, 0)
    assert refused.value.status == status
    assert sum(map(sum, store.votes())) == 0
    assert store.answer(rater, trial.trial, 3, 1, 0)  # and the trial is still there
    store.close()


def test_no_answer_before_the_clips_can_have_been_heard(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s", protocol="coherence")
    store = open_store(tmp_path / "s", clock)
    rater = new_rater(store)
    trial = to_rating(store, rater, clock)
    clock.now += 60
    with pytest.raises(Refused, match="hear the whole"):
        store.answer(rater, trial.trial, 3, 1, 1)  # never fetched
    store.fetched(rater, trial.trial, "clip")
    clock.now += 60
    with pytest.raises(Refused, match="hear the whole"):
        store.answer(rater, trial.trial, 3, 1, 1)  # the original not
    fresh = new_rater(store)
    trial = to_rating(store, fresh, clock)
    store.fetched(fresh, trial.trial, "clip")
    store.fetched(fresh, trial.trial, "original")
    clock.now += 2 * SECONDS * 0.95 - 0.5 - 0.01  # both clips, less the allowance
    with pytest.raises(Refused):
        store.answer(fresh, trial.trial, 3, 1, 1)
    clock.now += 0.02
    with pytest.raises(Refused):
        store.answer(fresh, trial.trial, 3, 1, 0)
    assert store.answer(fresh, trial.trial, 3, 1, 1)
    store.close()


def test_trials_of_others_are_as_good_as_none(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s")
    store = open_store(tmp_path / "s", clock)
    one, other = new_rater(store), new_rater(store)
    trial = to_rating(store, one, clock)
    hear(store, one, trial, clock)
    for act in (
        lambda: store.answer(other, trial.trial, 3, 1, 0),
        lambda: store.fetched(other, trial.trial, "clip"),
        lambda: store.alive(other, trial.trial),
        lambda: store.leave(other, trial.trial),
        lambda: store.answer(one, "no-such-trial", 3, 1, 0),
        lambda: store.fetched(one, trial.trial, "key.json"),
    ):
        with pytest.raises(Refused) as refused:
            act()
        assert refused.value.status == 404
    assert sum(map(sum, store.votes())) == 0
    store.close()


def test_a_clip_comes_back_when_its_rater_is_gone_and_is_never_shared(
    tmp_path: Path, clock: Clock, url: str | None
) -> None:
    study_of(tmp_path / "s", items=1, systems=("only",), items_a_rater=1, checks=0)
    store = open_store(tmp_path / "s", clock, url)
    held = {}
    for _ in range(3):  # three cells: system, reference, anchor
        rater = new_rater(store)
        held[rater] = to_rating(store, rater, clock)
    assert len({cell_of(store, trial) for trial in held.values()}) == 3
    late = new_rater(store)
    while store.position(late).stage == "trial":
        trial = store.position(late).trial
        assert trial is not None
        assert trial.kind != "rating"
        hear(store, late, trial, clock)
        store.answer(late, trial.trial, trial.expected or 1, 1, 0)
    assert store.position(late).stage == "wait"

    gone, *others = held
    for _ in range(4):  # the others' pages are open, the first one's is not
        clock.now += 20
        for rater in others:
            store.alive(rater, held[rater].trial)
    position = store.position(late)
    assert position.trial is not None
    assert cell_of(store, position.trial) == cell_of(store, held[gone])

    hear(store, gone, held[gone], clock)
    with pytest.raises(Refused, match="went to someone else") as refused:
        store.answer(gone, held[gone].trial, 5, 1, 0)
    assert refused.value.status == 410
    assert sum(map(sum, store.votes())) == 0
    assert store.position(gone).stage == "done"  # the only item was met
    assert store.position(gone).cut_short
    hear(store, late, position.trial, clock)
    assert store.answer(late, position.trial.trial, 2, 1, 0)
    assert spread(store) == 1
    store.close()


def test_leaving_gives_the_clip_back_at_once_and_coming_back_takes_it_again(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s")
    store = open_store(tmp_path / "s", clock)
    rater = new_rater(store)
    trial = to_rating(store, rater, clock)
    hear(store, rater, trial, clock)
    store.leave(rater, trial.trial)
    again = store.position(rater).trial
    assert again is not None
    assert again.trial == trial.trial
    store.leave(rater, trial.trial)
    assert store.answer(rater, trial.trial, 3, 1, 0)  # the word that the page was closed came before the answer
    assert sum(map(sum, store.votes())) == 1
    store.close()


def test_a_page_left_open_cannot_keep_a_clip_for_ever(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s", items=1, systems=("only",), items_a_rater=1, checks=0, headphone_trials=0, longest_s=100.0)
    store = open_store(tmp_path / "s", clock)
    raters = [new_rater(store) for _ in range(4)]
    held = [to_rating(store, rater, clock) for rater in raters[:3]]
    for _ in range(8):
        clock.now += 15
        for rater, trial in zip(raters, held, strict=False):
            store.alive(rater, trial.trial)
    assert to_rating(store, raters[3], clock).kind == "rating"
    store.close()


def test_who_finds_no_free_clip_waits_and_then_ends_with_a_code(tmp_path: Path, clock: Clock) -> None:
    study_of(
        tmp_path / "s",
        items=2,
        systems=("only",),
        checks=0,
        headphone_trials=0,
        practice=False,
        patience_s=30.0,
        lease_s=600.0,
        longest_s=600.0,
    )
    store = open_store(tmp_path / "s", clock)
    raters = [new_rater(store) for _ in range(7)]
    for rater in raters[:6]:
        to_rating(store, rater, clock)
    waiting = raters[6]
    volume = store.position(waiting).trial
    assert volume is not None
    hear(store, waiting, volume, clock)
    store.answer(waiting, volume.trial, 3, 1, 0)
    assert store.position(waiting).stage == "wait"
    clock.now += 29
    assert store.position(waiting).stage == "wait"
    clock.now += 2
    done = store.position(waiting)
    assert (done.stage, done.cut_short, done.answered) == ("done", True, 0)
    assert len(done.code) == 8
    assert store.position(waiting).code == done.code
    store.close()


def test_a_wrong_volume_answer_is_asked_again_and_recorded(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s", headphone_trials=0, practice=False)
    store = open_store(tmp_path / "s", clock)
    rater = new_rater(store)
    for answer in (1, 2):
        trial = store.position(rater).trial
        assert trial is not None
        assert trial.kind == "volume"
        hear(store, rater, trial, clock)
        store.answer(rater, trial.trial, answer, 1, 0)
    trial = store.position(rater).trial
    assert trial is not None
    assert trial.kind == "volume"
    hear(store, rater, trial, clock)
    store.answer(rater, trial.trial, 5, 1, 0)
    trial = store.position(rater).trial
    assert trial is not None
    assert trial.kind == "rating"  # three tries, then on
    store.close()


def test_many_threads_never_share_a_slot(tmp_path: Path, url: str | None) -> None:
    study_of(
        tmp_path / "s",
        items=8,
        raters=50,
        checks=0,
        headphone_trials=0,
        practice=False,
        lease_s=900.0,
        longest_s=900.0,
    )
    clock = Clock()
    store = open_store(tmp_path / "s", clock, url)
    handed: list[int] = []
    failures: list[BaseException] = []
    together = threading.Barrier(8)

    def rate() -> None:
        try:
            rater = new_rater(store)
            together.wait(timeout=20)
            for _ in range(2):
                trial = to_rating(store, rater, clock)
                handed.append(cell_of(store, trial))
                store.fetched(rater, trial.trial, "clip")
                clock.now += 5
                for _ in range(2):  # a double click
                    store.answer(rater, trial.trial, 3, 1, 0)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=rate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # 8 raters x 2 clips of 32 cells: none was handed out twice.
    assert len(handed) == 16
    assert set(Counter(handed).values()) == {1}
    assert sum(map(sum, store.votes())) == 16
    assert spread(store) == 1
    store.close()


def test_a_database_belongs_to_one_study(tmp_path: Path, clock: Clock, url: str | None) -> None:
    study_of(tmp_path / "a")
    study_of(tmp_path / "b")
    where = url or f"sqlite:///{tmp_path / 'both.sqlite'}"
    open_store(tmp_path / "a", clock, where).close()
    with pytest.raises(UserError, match="another study"):
        open_store(tmp_path / "b", clock, where)
    open_store(tmp_path / "a", clock, where).close()


def test_a_design_that_was_changed_afterwards_is_noticed(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "s"
    study, key = study_of(folder)
    store = open_store(folder, clock)
    assert not store.design_changed
    store.close()
    lax = study.model_copy(update={"exclusion": studies.Exclusion(failed_checks=2)})
    studies.write(folder, lax, key)
    store = open_store(folder, clock)
    assert store.design_changed
    store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://somewhere/x", "SQLite or PostgreSQL"),
        ("not a url", "cannot be read"),
        ("postgresql://nobody:secret@127.0.0.1:1/none", "cannot be used"),
    ],
)
def test_databases_that_will_not_do_are_one_sentence(tmp_path: Path, clock: Clock, url: str, says: str) -> None:
    study_of(tmp_path / "s")
    with pytest.raises(UserError, match=says) as caught:
        open_store(tmp_path / "s", clock, url)
    assert "secret" not in str(caught.value)


def test_key_and_answers_are_for_the_owner_alone_and_tokens_are_not_stored(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "s"
    study_of(folder)
    store = open_store(folder, clock)
    token = store.begin()
    assert token is not None
    for name in (studies.KEY, studies.VOTES):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    raters, _ = store.everything()
    assert "token" not in raters[0]
    assert "code" not in raters[0]
    store.close()
    assert all(token.encode() not in path.read_bytes() for path in folder.glob("votes*"))
