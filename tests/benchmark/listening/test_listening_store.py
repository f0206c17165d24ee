"""Transactions: leases, answers that count once, what is refused, SQLite and PostgreSQL alike."""

from __future__ import annotations

import random
import sqlite3
import stat
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from listening_factory import SECONDS, Clock, cell_of, hear, new_rater, open_store, spread, study_of, to_rating
from typer.testing import CliRunner

from tiktok_dm.cli.listen import app
from tiktok_dm.errors import UserError
from tiktok_dm.listening import study as studies
from tiktok_dm.listening.store import Refused, Store


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


def rate(store: Store, rater: int, clock: Clock, ratings: int) -> None:
    for _ in range(ratings):
        trial = to_rating(store, rater, clock)
        hear(store, rater, trial, clock)
        assert store.answer(rater, trial.trial, 3, 1, 0)


def test_sessions_that_rate_nothing_take_no_place(tmp_path: Path, clock: Clock, url: str | None) -> None:
    study_of(tmp_path / "s", raters=2, items=4, systems=("only",))
    store = open_store(tmp_path / "s", clock, url)
    for _ in range(100):
        assert store.begin() is not None
    assert store.has_room()
    assert not any(place.counts for place in store.places())
    for rater in (7, 8):
        rate(store, rater, clock, 1)
    assert [place.rater for place in store.places() if place.counts] == [7, 8]
    assert store.begin() is None
    store.close()


def test_places_of_who_left_or_was_freed_come_back(tmp_path: Path, clock: Clock, url: str | None) -> None:
    study_of(tmp_path / "s", raters=3, items=4, systems=("only",))
    store = open_store(tmp_path / "s", clock, url)
    gone, freed, done = (new_rater(store) for _ in range(3))
    rate(store, gone, clock, 1)
    rate(store, done, clock, 4)
    while store.position(done).stage != "done":
        trial = store.position(done).trial
        assert trial is not None
        hear(store, done, trial, clock)
        store.answer(done, trial.trial, trial.expected or 1, 1, 0)
    rate(store, freed, clock, 1)
    held = to_rating(store, freed, clock)
    assert store.begin() is None
    store.free(freed)
    assert [(p.rater, p.state, p.answered, p.counts) for p in store.places()] == [
        (gone, "here", 1, True),
        (freed, "freed", 1, False),
        (done, "finished", 4, True),
    ]
    assert store.position(freed).stage == "done"
    with pytest.raises(Refused, match="no longer open"):
        store.answer(freed, held.trial, 3, 1, 0)
    assert store.has_room()
    clock.now += 3600
    assert [(p.state, p.counts) for p in store.places()] == [("away", False), ("freed", False), ("finished", True)]
    with pytest.raises(UserError, match="no session 99"):
        store.free(99)
    assert spread(store) <= 1
    store.close()


def test_each_invitation_has_one_session(tmp_path: Path, clock: Clock, url: str | None) -> None:
    folder = tmp_path / "s"
    study_of(folder, access="invited", raters=2)
    one, other = studies.invite(folder, 2)
    assert stat.S_IMODE((folder / studies.INVITATIONS).stat().st_mode) == 0o600
    store = open_store(folder, clock, url)
    for wrong in ("", "forged", one[:-1], f"{one} {other}"):
        with pytest.raises(Refused, match="by invitation") as refused:
            store.begin(wrong)
        assert refused.value.status == 403
    assert store.rater(one) is None
    assert store.begin(one) == one
    assert store.begin(one) == one
    assert store.unused_invitations() == [other]
    (late,) = studies.invite(folder, 1)  # while the server runs
    assert studies.invitations(folder) == [one, other, late]
    assert store.begin(late) == late
    assert (store.rater(one), store.rater(late), len(store.places())) == (1, 2, 2)
    store.close()


@pytest.mark.parametrize("seed", range(5))
def test_a_clock_that_is_set_back_refuses_no_answer(tmp_path: Path, clock: Clock, seed: int) -> None:
    rng = random.Random(seed)
    study_of(tmp_path / "s", items=4, systems=("only",), checks=0, headphone_trials=0)
    store = open_store(tmp_path / "s", clock)
    rater = new_rater(store)
    answered_at = []
    for _ in range(4):
        trial = to_rating(store, rater, clock)
        clock.now -= rng.uniform(0, 86400)
        store.fetched(rater, trial.trial, "clip")
        clock.now -= rng.uniform(0, 86400)
        if rng.random() < 0.5:  # the server was started anew
            store.close()
            store = open_store(tmp_path / "s", clock)
        store.alive(rater, trial.trial)
        clock.now += SECONDS
        assert store.answer(rater, trial.trial, 3, 1, 0)
        (row,) = [row for row in store.everything()[1] if row["trial"] == trial.trial]
        answered_at.append(row["answered_at"])
    assert answered_at == sorted(answered_at)
    assert store.position(rater).stage == "done"
    store.close()


def test_threads_come_to_the_database_in_the_order_in_which_they_asked(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s")
    store = open_store(tmp_path / "s", clock)
    came: list[int] = []

    def ask(number: int) -> None:
        with store.database.alone():
            came.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
    with store.database.alone():
        for number, thread in enumerate(threads):
            thread.start()
            while len(store.database._queue._waiting) <= number:
                pass
    for thread in threads:
        thread.join()
    assert came == list(range(30))
    store.close()


def test_answers_of_a_study_that_began_before_places_could_be_freed_are_read(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s")
    store = open_store(tmp_path / "s", clock)
    rate(store, new_rater(store), clock, 1)
    store.close()
    with sqlite3.connect(tmp_path / "s" / studies.VOTES) as db:
        db.execute("ALTER TABLE listen_raters DROP COLUMN freed")
    db.close()
    store = open_store(tmp_path / "s", clock)
    assert [(p.rater, p.answered, p.counts) for p in store.places()] == [(1, 1, True)]
    store.close()


def test_the_verb_shows_and_frees_places_and_prints_links(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    study_of(folder, access="invited", raters=2, items=4, systems=("only",))
    one, other = studies.invite(folder, 2)
    clock = Clock()
    clock.now = time.time()
    store = open_store(folder, clock)
    store.begin(one)
    rate(store, 1, clock, 1)
    store.close()

    def places(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, ["places", str(folder), *arguments])
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    shown = places()
    assert shown[0].startswith("session 1: here, 1 of 4 clips")
    assert shown[0].endswith("takes a place")
    assert shown[1:] == ["1 of 2 places are taken", "1 invitations are unused (--links prints them)"]
    assert places("--links", "--public-url", "https://listen.example.org/") == [
        f"https://listen.example.org/go-on/{other}"
    ]
    shown = places("--free", "1", "--invite", "3")
    assert shown[0].startswith("session 1: freed, 1 of 4 clips")
    assert shown[1:] == ["0 of 2 places are taken", "4 invitations are unused (--links prints them)"]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, clock: Clock) -> None:
    study_of(tmp_path / "s", access="invited")
    for name in (studies.VOTES, studies.INVITATIONS):
        (tmp_path / "s" / name).mkdir()  # what refuses root too
    with pytest.raises(UserError, match=r"^The answers cannot be written .*\.$"):
        open_store(tmp_path / "s", clock)
    with pytest.raises(UserError, match=r"^Invitations cannot be written .*\.$"):
        studies.invite(tmp_path / "s", 1)
