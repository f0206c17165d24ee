"""Bodies and dances: bone lengths, mirrors, poses on the beat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.groove import demo_measures
from tiktok_dm.synthetic import choreography as body
from tiktok_dm.synthetic.choreography import ARMS, STANCES, Dancer, Groove, arrivals, dance, mirror
from tiktok_dm.synthetic.music import make_song
from tiktok_dm.synthetic.styles import STYLES

LEAD = Dancer(mirrored=False, delay_s=0.0, size=1.0, facing=0.0, seed=(1, 2))


def test_two_bones_reach_a_target_within_reach_and_keep_their_lengths():
    root, target = np.zeros((1, 3)), np.array([[0.2, 0.1, 0.0]])
    middle, end = body.two_bones(root, target, 0.165, 0.145, np.array([[0.0, -1.0, 0.0]]))
    np.testing.assert_allclose(end, target, atol=1e-9)
    assert np.linalg.norm(middle - root) == pytest.approx(0.165)
    assert np.linalg.norm(end - middle) == pytest.approx(0.145)
    assert middle[0, 1] < 0.05  # bent towards the pole, below the straight line


def test_two_bones_stretch_towards_a_target_out_of_reach():
    middle, end = body.two_bones(np.zeros((1, 3)), np.array([[3.0, 4.0, 0.0]]), 0.2, 0.2, np.array([[0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(end, [[0.6 * 0.3992, 0.8 * 0.3992, 0.0]], atol=1e-9)
    assert np.linalg.norm(end - middle) == pytest.approx(0.2)


def test_rotation_by_a_quarter_turn_about_the_vertical_brings_forward_to_the_right_of_the_picture():
    turn = body.rotation(np.array([np.pi / 2]), np.zeros(1), np.zeros(1))[0]
    np.testing.assert_allclose(turn @ [0, 0, 1], [1, 0, 0], atol=1e-12)


def test_bones_keep_their_lengths_and_feet_stay_on_or_above_the_floor():
    for song_id in range(6):
        joints = dance(make_song(0, song_id), 0, LEAD, np.arange(0, 12, 1 / 30)).joints

        def length(a: int, b: int, joints: np.ndarray = joints) -> np.ndarray:
            return np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)

        bones = (
            (2, 3, body.UPPER_ARM), (3, 4, body.FOREARM), (5, 6, body.UPPER_ARM), (6, 7, body.FOREARM),
            (9, 10, body.THIGH), (10, 11, body.SHIN), (12, 13, body.THIGH), (13, 14, body.SHIN),
            (1, 8, body.SPINE), (2, 5, 2 * body.SHOULDER), (9, 12, 2 * body.HIP),
        )  # fmt: skip
        for a, b, expected in bones:
            np.testing.assert_allclose(length(a, b), expected, rtol=1e-6)
        assert joints[:, [11, 14], 1].min() > body.ANKLE - 0.01
        assert joints[..., 1].max() < 1.25


def test_a_dancer_who_faces_the_camera_has_the_right_hand_on_the_left_of_the_picture():
    joints = dance(make_song(0, 0), 0, LEAD, np.array([0.0])).joints[0]
    assert joints[2, 0] < joints[5, 0]
    assert joints[9, 0] < joints[12, 0]
    assert joints[0, 2] > joints[17, 2]  # nose before ears
    assert joints[22, 0] < joints[19, 0]


def test_a_mirrored_pose_swaps_sides():
    skeleton = dance(make_song(0, 1), 0, LEAD, np.array([1.0, 2.0]))
    mirrored = mirror(skeleton)
    np.testing.assert_allclose(mirrored.joints[:, 4], skeleton.joints[:, 7] * [-1, 1, 1])
    np.testing.assert_allclose(mirrored.joints[:, 0], skeleton.joints[:, 0] * [-1, 1, 1])
    np.testing.assert_allclose(mirror(mirrored).joints, skeleton.joints)
    np.testing.assert_allclose(np.linalg.det(mirrored.head_axes), 1)


def test_vocabularies_name_known_arms_and_stances_and_differ_between_styles():
    for style in STYLES:
        assert {name for pair in style.arms for name in pair} <= set(ARMS)
        assert set(style.stances) <= set(STANCES)
    assert len({style.arms for style in STYLES}) == len(STYLES)
    assert len(ARMS) >= 8
    assert len(STANCES) >= 8


@pytest.mark.parametrize("song_id", range(6))
def test_the_body_comes_to_rest_on_the_beat_and_moves_between(song_id):
    song = make_song(0, song_id)
    step_s = song.style.step_beats * 60 / song.tempo_bpm
    fps = 120
    joints = dance(song, 0, LEAD, np.arange(0, 40 * step_s, 1 / fps)).joints
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(-1) * fps
    phase = ((np.arange(len(speed)) + 0.5) / fps / step_s) % 1
    on_beat = speed[(phase < 0.04) | (phase > 0.96)].mean()
    between = speed[(phase > 0.45) & (phase < 0.75)].mean()
    assert on_beat < 0.25 * between
    # Profile over the step: its lowest point is within 40 ms of the beat.
    profile = [speed[(phase * 50).astype(int) == k].mean() for k in range(50)]
    lowest = (int(np.argmin(profile)) + 0.5) / 50
    assert min(lowest, 1 - lowest) * step_s < 0.04


def test_louder_sections_are_danced_bigger_and_delays_shift_in_time():
    song = make_song(0, 0)
    quiet, loud = int(np.argmin(song.energy)), int(np.argmax(song.energy))
    second = 16 * 60 / song.tempo_bpm

    def span(section: int) -> float:
        joints = dance(song, 0, LEAD, np.arange(section * second + 0.5, (section + 1) * second - 0.5, 1 / 30)).joints
        return float(np.linalg.norm(np.diff(joints[:, [4, 7]], axis=0), axis=-1).mean())

    assert span(loud) > 1.1 * span(quiet)
    late = Dancer(mirrored=False, delay_s=0.1, size=1.0, facing=0.0, seed=(1, 2))
    np.testing.assert_allclose(
        dance(song, 0, late, np.array([3.1, 5.1])).joints, dance(song, 0, LEAD, np.array([3.0, 5.0])).joints
    )


def test_a_groove_without_deviations_is_the_exact_dance():
    none = Groove(jitter_s=0, double=0, half=0, free=0, syncopated=0, held=0, size=0, still=0)
    times = np.arange(0, 20, 1 / 30)
    for song_id in range(6):
        song = make_song(0, song_id)
        exact, same = (dance(song, 3, LEAD, times, groove).joints for groove in (None, none))
        np.testing.assert_allclose(same, exact, atol=1e-4)  # moments are kept apart by a microsecond a step


def test_each_deviation_does_what_it_says():
    none = Groove(jitter_s=0, double=0, half=0, free=0, syncopated=0, held=0, size=0, still=0)
    song = make_song(0, 0)
    assert song.style.step_beats == 1
    np.testing.assert_array_equal(arrivals(song, 0, none)[:9], np.arange(9))
    np.testing.assert_array_equal(arrivals(song, 0, replace(none, double=1))[:9], np.arange(9) / 2)
    np.testing.assert_array_equal(arrivals(song, 0, replace(none, half=1))[:9], 2 * np.arange(9))
    held = np.concatenate([np.diff(arrivals(song, clip, replace(none, held=0.25))) for clip in range(20)])
    # A pose follows after k beats with probability 0.75 * 0.25^(k - 1): 4 / 3 beats in the mean.
    assert held.mean() == pytest.approx(4 / 3, abs=0.05)
    assert set(held) <= set(range(1, 12))
    aside = np.concatenate([arrivals(song, clip, replace(none, syncopated=0.2))[1:] % 1 for clip in range(20)])
    assert set(aside) == {0.0, 0.5}
    free = np.concatenate([arrivals(song, clip, replace(none, free=1))[1:] % 1 for clip in range(20)])
    np.testing.assert_allclose(np.histogram(free, 4, (0, 1))[0] / len(free), 0.25, atol=0.04)
    late = body._lateness(np.random.default_rng(0), 20_000, 0.035)
    assert late.std() == pytest.approx(0.035, rel=0.05)
    # Half of the variance is a drift that remembers 0.8 of itself.
    assert np.corrcoef(late[1:], late[:-1])[0, 1] == pytest.approx(0.4, abs=0.03)


def test_the_dances_move_as_regularly_as_real_dancers_do():
    """Medians lie between the quartiles of real dancers, `real` of benchmarks/groove.json; exact ones do not."""
    real = json.loads((Path(__file__).parents[2] / "benchmarks" / "groove.json").read_text())["real"]
    human, exact = (demo_measures(range(800, 804), groove) for groove in ("human", "exact"))
    for name in ("fit_ms", "per_s", "gap_s", "clarity", "depth"):
        low, _, high, _ = real[name]
        assert low <= np.median(human[name]) <= high, name
    assert np.median(exact["clarity"]) > real["clarity"][2]
    assert np.median(exact["depth"]) < real["depth"][0]
    assert np.median(human["pulse_ms"]) > 2 * np.median(exact["pulse_ms"])
