"""Songs out of pairs, worked by hand: chains join, one weak pair joins no big songs, ids stay."""

from __future__ import annotations

import itertools
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiktok_dm.audio.song_index import SameSong
from tiktok_dm.curate.song_groups import ALONE, MISSING, SURE, group_songs


def same(a: str, b: str, confidence: float) -> SameSong:
    return SameSong(a, b, confidence, 1.0, 0.0, 5.0, "5.0 s of the same recording, at the same speed")


def every(keys: str, confidence: float) -> list[SameSong]:
    """All pairs of the clips named by one letter each."""
    return [same(a, b, confidence) for a, b in itertools.combinations(keys, 2)]


def parts(song_of: dict[str, int]) -> set[str]:
    """Songs as strings of their clips' letters."""
    songs = set(song_of.values())
    return {"".join(sorted(key for key in song_of if song_of[key] == song)) for song in songs}


def test_pairs_and_the_rest() -> None:
    found = group_songs("abcde", [same("a", "c", 0.9), same("b", "d", 0.4)])
    assert found.song_of == {"a": 0, "b": 1, "c": 0, "d": 2, "e": 3}
    assert found.confidence["a"] == found.confidence["c"] == pytest.approx(0.9)
    assert found.confidence["e"] == ALONE
    assert found.confidence["b"] == pytest.approx(ALONE * 0.6)
    assert found.reason["a"] == "with c: 5.0 s of the same recording, at the same speed"
    assert found.reason["e"] == "no other clip with this music was found"
    assert found.reason["b"].startswith("no sure match; d may have the same song")
    assert [pair.confidence for pair in found.pairs] == [0.9, 0.4]
    assert found.notes == []


def test_a_chain_is_one_song() -> None:
    # a and c have no stretch of music in common; both have one with b.
    found = group_songs("abc", [same("a", "b", 0.6), same("b", "c", 0.6)])
    assert parts(found.song_of) == {"abc"}
    assert found.confidence["a"] == pytest.approx(0.6)
    # Two matches speak for b: log-odds add up.
    assert found.confidence["b"] == pytest.approx(1 / (1 + exp(-2 * log(0.6 / 0.4))), abs=1e-3)
    long = [same(a, b, 0.95) for a, b in itertools.pairwise("abcdefghij")]
    assert parts(group_songs("abcdefghij", long).song_of) == {"abcdefghij"}


def test_one_weak_pair_joins_no_big_songs() -> None:
    pairs = [*every("abcdef", 0.9), *every("uvwxyz", 0.9)]
    found = group_songs("abcdefuvwxyz", [*pairs, same("c", "w", 0.75)])
    assert parts(found.song_of) == {"abcdef", "uvwxyz"}
    (note,) = found.notes
    assert note.startswith("clips c and w sound the same")
    # 35 pairs without a match weigh 0.3 * sqrt(35) = 1.77: more than log(0.75 / 0.25) = 1.10, less than two of them,
    # which count 1 + log(2) = 1.69 times as much as one.
    weak = log(0.75 / 0.25)
    assert weak < MISSING * 34**0.5 < (1 + log(2)) * weak
    together = {"abcdefuvwxyz"}
    two = [same("c", "w", 0.75), same("d", "x", 0.75)]
    assert parts(group_songs("abcdefuvwxyz", [*pairs, *two]).song_of) == together
    assert parts(group_songs("abcdefuvwxyz", [*pairs, same("c", "w", 0.95)]).song_of) == together


def test_many_doubtful_pairs_are_no_many_witnesses() -> None:
    # Two songs with the same drums: a tenth of the pairs between their 15 clips look a little alike.
    one, other = [f"a{k}" for k in range(15)], [f"b{k}" for k in range(15)]
    inside = [same(x, y, 0.95) for song in (one, other) for x, y in itertools.combinations(song, 2)]
    between = [same(one[k], other[(k * 4) % 15], 0.65) for k in range(15)]
    between += [same(one[k], other[(k * 7 + 3) % 15], 0.65) for k in range(8)]
    found = group_songs([*one, *other], [*inside, *between])
    assert {tuple(key for key in found.song_of if found.song_of[key] == song) for song in (0, 1)} == {
        tuple(one),
        tuple(other),
    }
    assert len(found.notes) == 1  # a person is asked once for two songs, not once a pair


def test_the_better_of_two_songs() -> None:
    pairs = [*every("abc", 0.95), *every("xyz", 0.95), same("a", "m", 0.9), same("x", "m", 0.6)]
    found = group_songs("abcxyzm", pairs)
    assert parts(found.song_of) == {"abcm", "xyz"}


def test_music_that_runs_on() -> None:
    found = group_songs("abc", [same("b", "c", 0.95)], runs_on=[("a", "b", 0.9)])
    assert parts(found.song_of) == {"abc"}
    assert found.reason["a"] == "the music of a runs on into b across the cut"
    # 9 to 1 by ear, and about 1 to 6 (exp -1.8) before anything is heard.
    assert found.confidence["a"] == pytest.approx(9 * np.exp(-1.8) / (1 + 9 * np.exp(-1.8)), abs=1e-4)
    # Where clips could be compared and do not match, an ear that is right nine times in ten joins no songs.
    apart = [*every("abc", 0.95), *every("xyz", 0.95)]
    assert parts(group_songs("abcxyz", apart, runs_on=[("c", "x", 0.87)]).song_of) == {"abc", "xyz"}
    assert parts(group_songs("ab", [], runs_on=[("a", "b", 0.3)]).song_of) == {"a", "b"}
    # Two doubtful signs that agree are not added up to one that is used.
    assert parts(group_songs("ab", [same("a", "b", 0.45)], runs_on=[("a", "b", 0.45)]).song_of) == {"a", "b"}


def test_what_runs_on_carries_over_to_nobody() -> None:
    """Two songs of several clips each are not made one by a single cut, however sure the ear is of it."""
    apart = [*every("abc", 0.95), *every("xyz", 0.95)]
    assert parts(group_songs("abcxyz", apart, runs_on=[("c", "x", 0.99)]).song_of) == {"abc", "xyz"}
    # A clip without a song of its own joins the neighbour of which that is surer, and not both.
    found = group_songs("abcmxyz", apart, runs_on=[("c", "m", 0.9), ("m", "x", 0.95)])
    assert parts(found.song_of) == {"abc", "mxyz"}


def test_known_songs_stay() -> None:
    found = group_songs("abcd", [same("a", "c", 0.9), same("c", "b", 0.8)], known={"a": 7, "b": 3})
    assert found.song_of == {"a": 7, "b": 3, "c": 7, "d": 8}
    assert found.notes == ["songs 3 and 7 now sound the same through clip c: merge them in the review"]
    assert found.confidence["a"] == 1
    assert "set before" in found.reason["a"]
    # Clips that are known to have one song are not taken apart for lack of evidence.
    assert group_songs("ab", [], known={"a": 4, "b": 4}).song_of == {"a": 4, "b": 4}


def test_two_known_songs_that_match() -> None:
    found = group_songs("ab", [same("a", "b", 0.9)], known={"a": 1, "b": 2})
    assert found.notes == ["songs 1 and 2 now sound the same in clips a and b: merge them in the review"]


def test_more_videos_renumber_nothing() -> None:
    first = group_songs("abc", [same("a", "c", 0.9)])
    assert first.song_of == {"a": 0, "b": 1, "c": 0}
    later = group_songs("xabcy", [same("a", "c", 0.9), same("x", "b", 0.9), same("y", "c", 0.6)], known=first.song_of)
    assert later.song_of == {"x": 1, "a": 0, "b": 1, "c": 0, "y": 0}
    assert group_songs("xy", [], known={"gone": 9}).song_of == {"x": 10, "y": 11}
    assert group_songs("xy", [], next_id=85).song_of == {"x": 85, "y": 86}


def test_a_persons_answers() -> None:
    pairs = [same("a", "b", 0.99), same("c", "d", 0.2)]
    found = group_songs("abcd", pairs, answers={("b", "a"): "different", ("c", "d"): "same"})
    assert parts(found.song_of) == {"a", "b", "cd"}
    assert found.confidence["c"] == found.confidence["d"] == 1
    assert found.reason["c"] == "somebody said that it has the song of d"
    assert found.notes == []
    # Two that are different stay so through a third: it goes with the better match.
    found = group_songs("abc", [same("a", "b", 0.9), same("b", "c", 0.8)], answers={("a", "c"): "different"})
    assert parts(found.song_of) == {"ab", "c"}
    assert group_songs("ab", [], answers={("a", "gone"): "same"}).song_of == {"a": 0, "b": 1}
    with pytest.raises(ValueError, match="not 'same' or 'different'"):
        group_songs("ab", [], answers={("a", "b"): "perhaps"})


def test_an_answer_against_known_songs() -> None:
    found = group_songs("ab", [], known={"a": 1, "b": 2}, answers={("a", "b"): "same"})
    assert found.song_of == {"a": 1, "b": 2}
    assert "said to have the same song" in found.notes[0]
    found = group_songs("ab", [], known={"a": 1, "b": 1}, answers={("a", "b"): "different"})
    assert found.song_of == {"a": 1, "b": 1}
    assert "said to have different songs" in found.notes[0]


def test_silent_clips() -> None:
    found = group_songs("abc", [same("a", "b", 0.9)], silent={"b", "c"}, runs_on=[("a", "c", 0.9)])
    assert found.song_of == {"a": 0, "b": 1, "c": 2}
    assert found.confidence["b"] == found.confidence["c"] == 0
    assert "no music" in found.reason["b"]
    # A person may know better.
    assert parts(group_songs("ab", [], silent={"b"}, answers={("a", "b"): "same"}).song_of) == {"ab"}


def test_nothing() -> None:
    found = group_songs([], [same("a", "b", 0.9)])
    assert (found.song_of, found.pairs, found.notes) == ({}, [], [])


KEYS = [f"k{n}" for n in range(9)]
PAIRS = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS), st.floats(0.1, 1.0)).filter(lambda p: p[0] != p[1]),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(PAIRS, st.dictionaries(st.sampled_from(KEYS), st.integers(0, 3)))
def test_rules_that_always_hold(pairs: list[tuple[str, str, float]], known: dict[str, int]) -> None:
    evidence = [same(*pair) for pair in pairs]
    found = group_songs(KEYS, evidence, known=known)
    assert list(found.song_of) == list(found.confidence) == list(found.reason) == KEYS
    assert {key: found.song_of[key] for key in known} == known
    assert all(0 <= value <= 1 for value in found.confidence.values())
    assert group_songs(KEYS, reversed(evidence), known=known).song_of == found.song_of
    # What came out, taken for known, comes out again.
    assert group_songs(KEYS, evidence, known=found.song_of).song_of == found.song_of
    new = [song for key, song in found.song_of.items() if key not in known and song not in known.values()]
    assert list(dict.fromkeys(new)) == sorted(set(new))  # numbered in the order of the clips
    # Without any pair above a half, nothing joins.
    doubtful = [same(a, b, min(p, 0.49)) for a, b, p in pairs]
    assert len(set(group_songs(KEYS, doubtful).song_of.values())) == len(KEYS)


def test_a_confidence_is_held_below_certainty() -> None:
    found = group_songs("ab", [same("a", "b", 1.0)])
    assert found.confidence["a"] == pytest.approx(SURE)
