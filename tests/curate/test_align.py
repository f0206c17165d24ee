"""Clips of known order and length found in a video, against layouts worked by hand and sums over all layouts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tiktok_dm.curate.recover.alignment import align, log_evidence
from tiktok_dm.curate.recover.lattice import Lattice
from tiktok_dm.curate.recover.model import AlignmentModel, ClipFact, VideoEvidence

# Boundaries of a video of five clips without gaps: 11, 9, 7, 13 and 9 s long.
CUTS = [0.0, 11.0, 20.0, 27.0, 40.0, 49.0]
FACTS = [ClipFact(0, 5), ClipFact(0, 4), ClipFact(0, 3), ClipFact(0, 6), ClipFact(0, 4)]


def video(cuts: dict[float, float], duration: float = 49.0, **more: np.ndarray) -> VideoEvidence:
    at = sorted(cuts)
    return VideoEvidence(duration, np.array(at), np.array([cuts[t] for t in at]), **more)


def songs(stretches: list[tuple[float, float, int]]) -> dict[str, np.ndarray]:
    return {
        "stretch_s": np.array([(a, b) for a, b, _ in stretches]),
        "stretch_song": np.array([song for *_, song in stretches]),
        "stretch_song_confidence": np.full(len(stretches), 0.95),
    }


def sure(cuts: list[float]) -> dict[float, float]:
    return dict.fromkeys(cuts, 0.95)


def test_right_proposals_give_their_very_times() -> None:
    found = align(video(sure(CUTS[1:-1])), FACTS)
    assert found.start_s.tolist() == CUTS[:-1]
    assert found.end_s.tolist() == CUTS[1:]
    assert found.start_candidate.tolist() == [-2, 0, 1, 2, 3]
    assert found.end_candidate.tolist() == [0, 1, 2, 3, -2]
    assert (found.confidence > 0.95).all()
    assert (found.candidate_used > 0.95).all()
    assert found.covered[:-1].min() > 0.95


def test_a_false_cut_is_merged() -> None:
    found = align(video({**sure(CUTS[1:-1]), 33.0: 0.9}), FACTS)
    assert found.start_s.tolist() == CUTS[:-1]
    assert found.candidate_used[3] < 0.05  # 33 s is the fourth candidate


def test_a_missed_cut_is_found_among_the_weak_candidates() -> None:
    cuts = {**sure([11.0, 20.0, 40.0]), 26.97: 0.15, 23.0: 0.15, 30.0: 0.15}
    found = align(video(cuts), FACTS)
    assert found.end_s[2] == found.start_s[3] == 26.97  # only there the third clip holds 3 segments, the fourth 6
    assert found.confidence[2] > 0.5


def test_a_missed_cut_without_a_candidate_is_placed_by_the_lengths() -> None:
    found = align(video(sure([11.0, 20.0, 40.0])), FACTS)
    # 6 <= x - 20 < 8 and 12 <= 40 - x < 14 leave 26 to 28 s; the middle is within half a second with probability 1/2.
    assert found.end_s[2] == found.start_s[3] == pytest.approx(27.0, abs=0.4)
    assert found.end_candidate[2] == -1
    assert found.confidence[2] == pytest.approx(0.5, abs=0.12)
    assert found.end_confidence[2] == pytest.approx(found.confidence[2], abs=0.05)
    assert found.start_confidence[2] > 0.95
    assert found.confidence[[0, 1, 4]].min() > 0.9


def test_two_missed_cuts_in_a_row_leave_room_only_within_the_lengths() -> None:
    found = align(video(sure([11.0, 40.0])), FACTS)
    assert found.start_s[1] == 11.0
    assert found.end_s[3] == 40.0
    assert 8 <= found.end_s[1] - 11.0 <= 10
    assert found.confidence[2] < 0.5 < found.confidence[0]


def test_a_clip_that_is_not_in_the_video_is_left_out() -> None:
    facts = [*FACTS[:2], ClipFact(0, 14), *FACTS[2:]]
    found = align(video(sure(CUTS[1:-1])), facts)
    assert np.isnan(found.start_s[2])
    assert np.isnan(found.end_s[2])
    assert found.present[2] < 0.05
    assert found.confidence[2] == 0
    assert np.delete(found.start_s, 2).tolist() == CUTS[:-1]


def test_a_clip_that_the_list_leaves_out_is_a_gap() -> None:
    found = align(video(sure(CUTS[1:-1])), [FACTS[0], FACTS[1], FACTS[3], FACTS[4]])
    assert found.start_s.tolist() == [0.0, 11.0, 27.0, 40.0]
    at = (found.grid_s > 20.2) & (found.grid_s < 26.8)
    assert found.covered[at].max() < 0.05


def test_a_card_is_a_gap_and_a_wrongly_rejected_clip_is_not() -> None:
    shifted = {t + 3.0: c for t, c in sure(CUTS[:-1]).items()}
    cards = {"rejected_s": np.array([[0.0, 3.0], [14.0, 23.0]]), "rejected_confidence": np.array([0.9, 0.8])}
    found = align(video(shifted, 52.0, **cards), FACTS)
    assert found.start_s.tolist() == [3.0, 14.0, 23.0, 30.0, 43.0]


@pytest.mark.parametrize("extra", ["before", "after"])
def test_songs_tell_layouts_apart_that_lengths_cannot(extra: str) -> None:
    # Five stretches of 11 s, of which the list has four, with songs A B A B; the other stands first or last.
    heard = [9, 0, 1, 0, 1] if extra == "before" else [0, 1, 0, 1, 9]
    seen = video(
        sure([11.0, 22.0, 33.0, 44.0]), 55.0, **songs([(11.0 * i, 11.0 * i + 11, s) for i, s in enumerate(heard)])
    )
    facts = [ClipFact(s, 5) for s in (40, 41, 40, 41)]
    first = 11.0 if extra == "before" else 0.0
    with_songs = align(seen, facts)
    assert with_songs.start_s.tolist() == [first + 11 * i for i in range(4)]
    assert with_songs.song_map == {40: (0, 1.0), 41: (1, 1.0)} or min(m[1] for m in with_songs.song_map.values()) > 0.8
    without = align(seen, facts, AlignmentModel(songs=False))
    assert without.confidence.max() < 0.6
    assert with_songs.confidence.min() > 1.4 * without.confidence.max()


def test_dancers_tell_layouts_apart_where_they_are_known() -> None:
    stretches = songs([(11.0 * i, 11.0 * i + 11, 0) for i in range(3)])
    counted = video(sure([11.0, 22.0]), 33.0, **stretches, stretch_dancers=np.array([1, 3, 1]))
    facts = [ClipFact(0, 5, n_dancers=3), ClipFact(0, 5, n_dancers=1)]
    assert align(counted, facts).start_s.tolist() == [11.0, 22.0]
    assert align(counted, facts[::-1]).start_s.tolist() == [0.0, 11.0]


def test_given_times_are_kept_and_hold_their_neighbours() -> None:
    facts = [*FACTS[:2], replace(FACTS[2], start_s=20.31, end_s=26.4), *FACTS[3:]]
    found = align(video(sure([11.0, 40.0])), facts)
    assert (found.start_s[2], found.end_s[2]) == (20.31, 26.4)
    assert found.start_candidate[2] == found.end_candidate[2] == -3
    assert found.confidence[2] == pytest.approx(1.0, abs=1e-12)  # a sum over the lattice, in float64
    assert found.end_s[1] == pytest.approx(20.31)
    assert found.start_s[3] == pytest.approx(26.4)
    assert found.confidence[[1, 3]].min() > 0.8


@pytest.mark.parametrize(("start", "end"), [(20.0, None), (None, 27.0), (None, 20.5)])
def test_one_given_end_is_kept(start: float | None, end: float | None) -> None:
    facts = [*FACTS[:2], replace(FACTS[2], start_s=start, end_s=end), *FACTS[3:]]
    found = align(video(sure([11.0, 20.0, 27.0, 40.0])), facts)
    assert found.start_s[2] == start or found.end_s[2] == end
    assert np.isfinite(found.log_evidence)


def test_times_against_the_order_are_refused() -> None:
    facts = [replace(FACTS[0], start_s=20.0, end_s=31.0), replace(FACTS[1], start_s=3.0, end_s=12.0)]
    with pytest.raises(ValueError, match="clip 1 in order has a time of 3 s, after one at 31 s"):
        align(video(sure(CUTS[1:-1])), facts)


def test_the_right_list_of_clips_has_the_most_evidence() -> None:
    seen = video(sure(CUTS[1:-1]))
    right = log_evidence(seen, FACTS)
    for other in (FACTS[::-1], FACTS[1:], [*FACTS, ClipFact(0, 4)], [ClipFact(0, 4)] * 5):
        assert log_evidence(seen, other) < right - 1


@pytest.mark.parametrize(
    ("seen", "facts"),
    [
        (video({}, 10.0), []),
        (video({}, 10.0), FACTS),  # four of five clips are longer than what is left
        (video({}, 0.0), FACTS[:1]),
        (video({}, 49.0), FACTS),
        (video(sure([11.0]), 30.0), [ClipFact(0), ClipFact(1)]),  # nothing is known of the lengths
        (video(dict.fromkeys(np.round(np.arange(0.1, 48, 0.04), 3).tolist(), 0.5)), FACTS),
    ],
)
def test_poor_evidence_gives_low_confidence_and_ordered_times(seen: VideoEvidence, facts: list[ClipFact]) -> None:
    found = align(seen, facts)
    assert np.isfinite(found.log_evidence)
    for values in (found.confidence, found.start_confidence, found.end_confidence, found.present):
        assert ((values >= 0) & (values <= 1)).all()
    times = np.stack([found.start_s, found.end_s], axis=1)
    times = times[~np.isnan(times[:, 0])].ravel()
    assert (np.diff(times) >= 0).all()
    assert len(facts) == 2 or not len(facts) or found.confidence.mean() < 0.6


def test_the_recursion_sums_over_all_layouts() -> None:
    model = AlignmentModel(grid_s=1.5, songs=False, calibrate=False, rounds=1, off_length=0.2)
    seen = VideoEvidence(
        9.0,
        np.array([2.3, 4.4, 6.9]),
        np.array([0.7, 0.2, 0.9]),
        rejected_s=np.array([[0.0, 2.3]]),
        rejected_confidence=np.array([0.8]),
    )
    facts = [ClipFact(0, 1), ClipFact(0, 1), ClipFact(0, 0)]
    lattice = Lattice(seen, facts, model)
    t, n = lattice.t, len(lattice.t)
    arrive, passed = lattice.weights((0.0, 1.0), model.missed)
    density = [{(a, b): d for a, b, d in zip(p.start, p.end, p.log_density, strict=True)} for p in lattice.pairs]

    def gap(a: int, b: int) -> float:
        length = t[b] - t[a]
        claimed = (min(t[b], 2.3) - min(t[a], 2.3)) / 2.3 * np.log(0.8 / 0.2)
        return -length / model.gap_mean_s - np.log(model.gap_mean_s) + passed[a + 1 : b].sum() + claimed

    def chances(a: int) -> tuple[float, float]:
        p = model.edge_gap if a == 0 else model.gap
        return np.log(p), np.log1p(-p)

    # Every layout: which clips are there, and where they start and end.
    total, mass = [], {}
    for there in itertools.product([True, False], repeat=3):
        present = [i for i in range(3) if there[i]]
        for spans in itertools.product(*(density[i] for i in present)):
            if any(later[0] < sooner[1] for sooner, later in itertools.pairwise(spans)):
                continue
            weight = sum(np.log1p(-model.skipped) if x else np.log(model.skipped) for x in there)
            at = 0
            for i, (a, b) in zip(present, spans, strict=True):
                with_gap, without = chances(at)
                weight += without if a == at else with_gap + gap(at, a) + arrive[a]
                weight += density[i][(a, b)] + arrive[b]
                at = b
            # What follows the last clip: nothing, or a gap up to the last instant.
            weight += np.log1p(-model.edge_gap) if at == n - 1 else np.log(model.edge_gap) + gap(at, n - 1)
            total.append(weight)
            for i, span in zip(present, spans, strict=True):
                mass[i, span] = mass.get((i, span), 0.0) + np.exp(weight)
    evidence = np.logaddexp.reduce(total)
    posterior = lattice.solve([None] * 3, (0.0, 1.0), model.missed)
    assert posterior.log_evidence == pytest.approx(evidence, abs=1e-9)
    for i, pairs in enumerate(posterior.pairs):
        wanted = [mass.get((i, (a, b)), 0.0) / np.exp(evidence) for a, b in zip(pairs.start, pairs.end, strict=True)]
        assert posterior.mass[i] == pytest.approx(wanted, abs=1e-9)
        assert 0 < sum(wanted) < 1
