"""The visual stage: one vector for each 2-s segment of a clip, from what is on screen during it.

What the vector is, is an extractor's matter (`tiktok_dm.visual`); here a clip's pictures become windows that lie where
its segments lie. The pictures are those of the poses' grid, so where both are to be found, one pass over the stored
clip gives both: the poses stage hands each picture on to a `SegmentReader`. A clip's windows go through the network by
themselves, never mixed with another clip's, so that its numbers do not depend on what else was built.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm import media
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.schema import POSE_FPS, whole_segments
from tiktok_dm.visual.base import SIZE, WINDOW_PICTURES, Extractor, VisualSource, Window, squared
from tiktok_dm.visual.registry import get_extractor

VERSION = 1


@dataclass(frozen=True)
class VisualParams:
    """What a build may choose.

    Args:
        extractor: `i3d`, or the hub id of a video model.
        flow: of `tiktok_dm.visual.flow.FLOWS`, for extractors that look at flow.
        size: px of the square that I3D looks at; 224 is the published one.
    """

    extractor: str = "i3d"
    flow: str = "tvl1"
    size: int = SIZE


def extractor_of(params: VisualParams, source: VisualSource) -> Extractor:
    """The extractor that a build asked for.

    Raises:
        UserError: no such extractor, or no weights for it.
    """
    return get_extractor(params.extractor, params.flow, params.size, source)


class SegmentReader:
    """Takes a clip's pictures one by one, at `POSE_FPS` a second, and makes the features of its segments.

    At most `extractor.batch` windows are held. A picture that the clip lacks at its end is the last one again.

    Args:
        content_box: x, y, width, height in px: the picture proper.
        duration_s: of the clip.
    """

    def __init__(self, extractor: Extractor, content_box: tuple[int, int, int, int], duration_s: float) -> None:
        self.extractor, self.box = extractor, content_box
        self.n_windows = whole_segments(duration_s)
        self._pictures: list[NDArray[np.uint8]] = []
        self._windows: list[Window] = []
        self._taken = 0
        self._last: NDArray[np.uint8] | None = None
        self._found: list[NDArray[np.float32]] = [np.zeros((0, extractor.features), np.float32)]

    @property
    def n_pictures(self) -> int:
        """How many pictures belong to segments."""
        return self.n_windows * WINDOW_PICTURES

    def take(self, picture: NDArray[np.uint8]) -> None:
        """The next picture (height, width, 3); those after the last segment are not looked at."""
        if self._taken < self.n_pictures:
            self._put(squared(picture, self.box, self.extractor.side))

    def finish(self) -> NDArray[np.float32]:
        """(segments, features).

        Raises:
            MediaError: not a single picture came.
        """
        while self._taken < self.n_pictures:
            if self._last is None:
                raise MediaError("the stored clip holds no picture: remove it from the work folder and build again")
            self._put(self._last)
        if self._windows:
            self._extract()
        return np.concatenate(self._found)

    def _put(self, picture: NDArray[np.uint8]) -> None:
        self._last = picture
        self._pictures.append(picture)
        self._taken += 1
        if len(self._pictures) == WINDOW_PICTURES:
            self._windows.append(np.stack(self._pictures))
            self._pictures = []
            if len(self._windows) == self.extractor.batch:
                self._extract()

    def _extract(self) -> None:
        self._found.append(self.extractor.extract(self._windows))
        self._windows = []


def visual(
    clip: Path,
    content_box: tuple[int, int, int, int],
    duration_s: float,
    params: VisualParams,
    source: VisualSource,
    out: Path,
    reader: SegmentReader | None = None,
) -> dict[str, Any]:
    """Visual features of one clip's segments.

    Args:
        clip: video of one continuous performance.
        content_box: x, y, width, height in px of `clip`: the picture proper.
        duration_s: length of the clip.
        params: what is extracted.
        source: weights and device.
        out: existing folder; receives `visual.npy`, (segments, features) float32.
        reader: has the clip's pictures already; the clip is decoded if None.

    Returns:
        The record: `n_windows`, `n_features`, `extractor`, `extractor_version`, `method`, `weights` (SHA-256 by file).

    Raises:
        MediaError: the clip can't be decoded.
        UserError: libraries, weights or device are missing.
    """
    extractor = extractor_of(params, source)
    if reader is None:
        reader = SegmentReader(extractor, content_box, duration_s)
        for _, picture in islice(media.read_frames(clip, fps=POSE_FPS), reader.n_pictures):
            reader.take(picture)
    found = reader.finish()
    if not np.isfinite(found).all():
        raise UserError(f"the visual features by {extractor.name} are not finite: its weights are damaged")
    np.save(out / "visual.npy", found)
    return {
        "n_windows": len(found),
        "n_features": extractor.features,
        "extractor": extractor.name,
        "extractor_version": extractor.version,
        "method": extractor.method,
        "weights": dict(extractor.weights),
    }
