"""Many clips through one estimator: the same poses as one by one, whatever ends, fails or is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from people_factory import Invented, numbered, person

from tiktok_dm.pose.tracking import track_poses
from tiktok_dm.pose.video import Clip, estimate_clips, prefetch

BOX = (0, 0, 640, 240)


def walking(index: int) -> list[tuple[np.ndarray, float, float]]:
    return [(person(100 + 2 * index, 120), 0.9, 1.0), (person(400 - index, 130, 80), 0.8, 0.9)]


def clips(lengths: list[int]) -> list[Clip[int]]:
    return [Clip(n, lambda length=length: iter(numbered(length)), BOX) for n, length in enumerate(lengths)]


@pytest.mark.parametrize("batch", [1, 4, 7, 64])
@pytest.mark.parametrize("open_clips", [1, 3])
def test_each_clip_gets_the_poses_it_gets_alone(batch: int, open_clips: int) -> None:
    lengths = [12, 5, 30, 9, 17]
    found = dict(estimate_clips(clips(lengths), Invented(walking, batch=batch), open_clips=open_clips))
    assert sorted(found) == [0, 1, 2, 3, 4]
    for n, length in enumerate(lengths):
        alone = track_poses(numbered(length), BOX, Invented(walking, batch=max(2, batch)))
        assert alone.shape == (length, 2, 25, 3)
        if batch > 1:
            np.testing.assert_array_equal(found[n], alone)
        else:
            assert found[n].shape == alone.shape


def test_batches_are_filled_from_several_clips() -> None:
    estimator = Invented(walking, batch=8)
    dict(estimate_clips(clips([6] * 8), estimator, open_clips=4))
    # 48 pictures of clips that are shorter than a batch: six full batches.
    assert estimator.sizes == [8] * 6


def test_the_content_box_is_where_the_picture_is() -> None:
    box = (30, 0, 500, 240)

    def shifted() -> Iterator[tuple[float, np.ndarray]]:
        for t, picture in numbered(6):
            yield t, np.roll(picture, 30, axis=1)

    [(_, poses)] = estimate_clips([Clip("a", shifted, box)], Invented(walking, batch=4))
    np.testing.assert_array_equal(poses[0, 0, 8, :2], [130, 120])


def test_a_clip_that_fails_does_not_take_others_with_it() -> None:
    def broken() -> Iterator[tuple[float, np.ndarray]]:
        yield from numbered(3)
        raise OSError("the file ends here")

    some = [*clips([10]), Clip(1, broken, BOX), Clip(2, lambda: iter(numbered(8)), BOX)]
    for batch in (1, 4):
        found = dict(estimate_clips(some, Invented(walking, batch=batch)))
        assert isinstance(found[1], OSError)
        assert str(found[1]) == "the file ends here"
        assert found[0].shape == (10, 2, 25, 3)
        assert found[2].shape == (8, 2, 25, 3)


def test_nothing_in_nothing_out() -> None:
    assert list(estimate_clips([], Invented(walking, batch=4))) == []
    [(key, poses)] = estimate_clips([Clip("empty", lambda: iter([]), BOX)], Invented(walking, batch=4))
    assert key == "empty"
    assert poses.shape == (0, 0, 25, 3)


def test_giving_up_stops_the_threads() -> None:
    before = threading.active_count()
    running = estimate_clips(clips([5, 400, 400]), Invented(walking, batch=4))
    next(running)
    running.close()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.02)
    assert threading.active_count() <= before


def test_an_estimator_that_fails_is_heard() -> None:
    class Broken(Invented):
        def detect(self, frames: object) -> list:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(estimate_clips(clips([5]), Broken(walking, batch=4)))


def test_prefetching_keeps_order_and_never_runs_further_ahead_than_told() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for k in range(20):
            made.append(k)
            yield k

    ahead = prefetch(count(), 3)
    assert next(ahead) == 0
    time.sleep(0.2)
    # One was taken, three lie ready, one waits at the door.
    assert len(made) <= 5
    assert [0, *ahead] == list(range(20))
