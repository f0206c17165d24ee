"""Beat alignment of dance and music, worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmark_sets import beat_times, dance
from hypothesis import given
from hypothesis import strategies as st

from tiktok_dm.benchmark.metrics import alignment
from tiktok_dm.synthetic import DemoParams, clip_truth


def at(distance_s: float) -> float:
    return math.exp(-(distance_s**2) / (2 * 0.05**2))


def test_both_scores_by_hand() -> None:
    motion = np.array([1.0, 2.0, 3.0])
    music = np.array([1.05, 2.9])
    # Motion beats: 0.05, 0.9 and 0.1 s off; music beats: 0.05 and 0.1 s off.
    assert alignment.beat_align_motion_aistpp(motion, music) == pytest.approx((at(0.05) + at(0.9) + at(0.1)) / 3)
    assert alignment.beat_align_music_bailando(motion, music) == pytest.approx((at(0.05) + at(0.1)) / 2)
    assert at(0.05) == pytest.approx(math.exp(-0.5))  # sigma is three frames at sixty a second


def test_what_is_not_defined() -> None:
    some, none = np.array([1.0, 2.0]), np.zeros(0)
    assert math.isnan(alignment.beat_align_motion_aistpp(none, some))
    assert math.isnan(alignment.beat_align_music_bailando(none, some))
    assert alignment.beat_align_motion_aistpp(some, none) == 0.0
    assert alignment.beat_align_music_bailando(some, none) == 0.0
    with pytest.raises(ValueError, match="ascending"):
        alignment.beat_align_motion_aistpp(some[::-1], some)


def test_each_score_rewards_the_other_kind_of_music() -> None:
    motion = np.arange(0.5, 8, 1.0)
    many, few = np.arange(0.0, 8, 0.25), np.array([2.5])
    assert alignment.beat_align_motion_aistpp(motion, many) == pytest.approx(1.0)
    assert alignment.beat_align_music_bailando(motion, many) < 0.3
    assert alignment.beat_align_music_bailando(motion, few) == pytest.approx(1.0)
    assert alignment.beat_align_motion_aistpp(motion, few) < 0.2


# ------------------------------------------------------------------------------------------- motion beats


def test_speed_is_the_mean_over_joints_seen_in_both_frames() -> None:
    pose = np.zeros((3, 10, 3))
    pose[..., 2] = 1
    pose[1, :, 0] = 3
    pose[1, :, 1] = 4  # all joints move by 5 px, then half of them by 0 and half back by 5
    pose[2, :5] = pose[1, :5]
    assert alignment.joint_speed(pose, fps=30) == pytest.approx([150, 75])
    pose[2, 5:, 2] = 0  # the ones that moved are not seen any more
    pose[2, 5:, :2] = 0
    assert alignment.joint_speed(pose, fps=30) == pytest.approx([150, 0])
    pose[2, 4, 2] = 0
    assert np.isnan(alignment.joint_speed(pose, fps=30)[1])


@pytest.mark.parametrize(("bpm", "offset"), [(100.0, 0.3), (127.0, 0.11), (80.0, 0.0)])
def test_motion_beats_lie_where_the_dancer_stands_still(bpm: float, offset: float) -> None:
    found = alignment.motion_beats(dance(bpm, offset, 8, 1)[:, 0])
    truth = beat_times(bpm, offset, 8)
    inner = truth[(truth > 0.4) & (truth < 7.6)]
    nearest = np.abs(found[:, None] - inner[None]).min(axis=0)
    assert nearest.max() < 0.02  # half a frame at 30 a second, and a little
    assert abs(len(found) - len(truth)) <= 1


def test_nobody_moving_or_there_has_no_motion_beat() -> None:
    still = dance(100, 0, 4, 1)[:, 0]
    still[:] = still[0]
    assert len(alignment.motion_beats(still)) == 0
    assert len(alignment.motion_beats(np.zeros((120, 25, 3)))) == 0
    assert len(alignment.motion_beats(np.zeros((1, 25, 3)))) == 0


def moving(speeds: list[float]) -> np.ndarray:
    """A body whose joints all move by so many px from frame to frame."""
    pose = np.ones((len(speeds) + 1, 25, 3))
    pose[:, :, 0] = np.concatenate([[0], np.cumsum(speeds)])[:, None]
    return pose


def test_aistpps_motion_beats_are_the_least_speeds_within_a_sixth_of_a_second() -> None:
    """At 60 a second within ten frames: 12 is the least about it, 15 is not (12 is lower and near), 30 is."""
    speeds = [5.0] * 45
    speeds[12], speeds[15], speeds[30] = 1.0, 2.0, 3.0
    found = alignment.motion_beats_aistpp(moving(speeds), 60)
    assert found.tolist() == [13 / 60, 31 / 60]  # speed k is that of frame k + 1
    # At 30 a second within five frames.
    assert alignment.motion_beats_aistpp(moving(speeds), 30).tolist() == [13 / 30, 31 / 30]
    # The first frame has speed 0: none within a sixth of a second of it.
    speeds[4] = 0.5
    assert alignment.motion_beats_aistpp(moving(speeds), 60).tolist() == [31 / 60]
    assert len(alignment.motion_beats_aistpp(np.zeros((1, 25, 3)))) == 0
    assert len(alignment.motion_beats_aistpp(np.ones((60, 25, 3)))) == 0
    unseen = moving(speeds)
    unseen[28:34, :, 2] = 0
    assert alignment.motion_beats_aistpp(unseen, 30).tolist() == [13 / 30]


def test_a_gap_makes_no_motion_beat() -> None:
    pose = dance(100, 0.3, 8, 1)[:, 0]
    whole = alignment.motion_beats(pose)
    pose[100:140] = 0
    found = alignment.motion_beats(pose)
    assert not ((found > 99 / 30) & (found < 140 / 30)).any()
    far = (whole < 3) | (whole > 5)
    assert set(np.round(whole[far], 6)) <= set(np.round(found, 6))


# ------------------------------------------------------------------------------------------- all pairs


def test_the_matrix_holds_every_pair_over_the_common_time() -> None:
    rng = np.random.default_rng(5)
    seconds = [4.0, 6.0, 5.0, 3.0]
    motions = [np.sort(rng.uniform(0, length, 6)) for length in seconds]
    musics = [np.sort(rng.uniform(0, length, 7)) for length in seconds]
    motions[3], musics[2] = np.zeros(0), np.zeros(0)
    over_motion = alignment.score_matrix(motions, musics, seconds, over="motion")
    over_music = alignment.score_matrix(motions, musics, seconds, over="music")
    for i, motion in enumerate(motions):
        for j, music in enumerate(musics):
            common = motion[motion < seconds[j]]
            expected = alignment.beat_align_motion_aistpp(common, music)
            assert over_motion[i, j] == pytest.approx(expected, nan_ok=True)
            heard = music[music < seconds[i]]
            expected = np.mean(alignment.closeness(heard, motion)) if len(heard) else 0.0
            assert over_music[i, j] == pytest.approx(expected if len(motion) else math.nan, nan_ok=True)
    with pytest.raises(ValueError, match="motion or music"):
        alignment.score_matrix(motions, musics, seconds, over="both")


def test_shuffled_is_the_mean_with_other_songs_music() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.7, 0.9, 0.3], [0.2, 0.4, 0.6]])
    assert alignment.shuffled_level(scores, ["a", "a", "b"]) == pytest.approx([0.1, 0.3, 0.3])
    assert np.isnan(alignment.shuffled_level(scores, ["a", "a", "a"])).all()
    scores[0, 2] = math.nan
    assert alignment.shuffled_level(scores, ["a", "a", "b"]) == pytest.approx([math.nan, 0.3, 0.3], nan_ok=True)


def test_p_value_sees_the_pairing() -> None:
    tempi = [84, 90, 97, 103, 110, 118, 126, 133, 141, 150]
    beats = [beat_times(bpm, 0.1 + 0.02 * k, 10) for k, bpm in enumerate(tempi)]
    songs = list(range(len(beats)))
    paired = alignment.score_matrix(beats, beats, [10.0] * 10, over="motion")
    assert alignment.p_value(paired, songs, seed=1) == pytest.approx(1 / 1000)
    wrong = alignment.score_matrix(beats, [*beats[1:], beats[0]], [10.0] * 10, over="motion")
    assert alignment.p_value(wrong, songs, seed=1) > 0.05
    assert math.isnan(alignment.p_value(paired, ["one"] * 10))


def test_one_music_for_every_dance_never_looks_paired() -> None:
    beats = [beat_times(bpm, 0.1, 10) for bpm in (90, 104, 118, 132)]
    metronome = [beat_times(120, 0.0, 10)] * 4
    scores = alignment.score_matrix(beats, metronome, [10.0] * 4, over="motion")
    assert alignment.p_value(scores, [0, 1, 2, 3]) == 1.0
    assert np.diagonal(scores) == pytest.approx(alignment.shuffled_level(scores, [0, 1, 2, 3]))


def test_the_demos_dances_are_aligned_with_their_own_songs() -> None:
    params = DemoParams(clips=6, songs=6, compilations=1, seed=2, shortest_s=10, longest_s=12, groove="exact")
    clips = [clip_truth(params, k) for k in range(6)]
    motions = [alignment.motion_beats(joints[:, 0]) for joints, *_ in clips]
    musics = [beats for _, _, beats, _ in clips]
    seconds = [len(audio) / 22_050 for _, audio, _, _ in clips]
    songs = [song for *_, song in clips]
    for over in ("motion", "music"):
        scores = alignment.score_matrix(motions, musics, seconds, over=over)
        true = np.diagonal(scores).mean()
        assert true > 1.3 * np.mean(alignment.shuffled_level(scores, songs)), over
        assert alignment.p_value(scores, songs) < 0.05


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=12).map(lambda x: np.array(sorted(x))),
    st.lists(st.floats(0, 10), min_size=1, max_size=12).map(lambda x: np.array(sorted(x))),
)
def test_scores_are_shares_and_one_for_the_same_beats(motion: np.ndarray, music: np.ndarray) -> None:
    assert alignment.beat_align_motion_aistpp(motion, motion) == 1.0
    value = alignment.beat_align_motion_aistpp(motion, music)
    assert 0 <= value <= 1
    # By the definition, without any search.
    distance = np.abs(motion[:, None] - music[None]).min(axis=1)
    assert value == pytest.approx(np.exp(-(distance**2) / 0.005).mean())
    assert alignment.beat_align_music_bailando(motion, music) == pytest.approx(
        alignment.beat_align_motion_aistpp(music, motion)
    )
