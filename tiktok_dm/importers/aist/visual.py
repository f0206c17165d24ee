"""Visual features of AIST++'s segments: each dance's camera video through an extractor, once.

The windows are the published two seconds, 120 pictures of the video's 60 a second; an extractor takes 30 a second
(`tiktok_dm.visual.base`), so every second one of them, and the middle square of the whole picture: AIST's studio
has no decoration around it. A dance's windows go through the network by themselves, never mixed with another's. Not
for what an extractor is, nor for clips of compilations: that is `visual`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm import media
from tiktok_dm.pipeline.visual import SegmentReader, VisualParams, extractor_of, visual
from tiktok_dm.pose.streaming import prefetch
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.schema import POSE_FPS, SEGMENT_S
from tiktok_dm.visual.base import WINDOW_PICTURES, Extractor, VisualSource, squared

VERSION = 1  # of what this module writes
STAGE = "aist_visual"
_SLACK = 2  # pictures: a video may end a moment before its last segment does; the last picture stands


@dataclass(frozen=True)
class DanceFeatures:
    """What makes features, and where they are kept until the dataset is whole: a stopped build makes none again.

    Args:
        params: extractor, flow, size.
        source: weights and device.
        store: in the work folder.
    """

    params: VisualParams
    source: VisualSource
    store: Store

    @property
    def extractor(self) -> Extractor:
        """As asked for.

        Raises:
            UserError: no such extractor, or no weights for it.
        """
        return extractor_of(self.params, self.source)

    def published(self) -> dict[str, Any]:
        """What the features depend on, without where a machine keeps it."""
        extractor = self.extractor
        return {**asdict(self.params), "version": extractor.version, "weights": dict(extractor.weights)}

    def of(self, video: Path, sha256: str, count: int) -> NDArray[np.float32]:
        """Features of the first `count` segments of a dance, (segments, features); fewer if the video ends before.

        Args:
            sha256: of the video.

        Raises:
            MediaError: the video cannot be decoded.
            UserError: features that are not finite, from damaged weights.
            DiskFull: they could not be kept.
        """
        key = content_key(STAGE, VERSION, self.published(), {"video": sha256, "segments": count})
        record = self.store.run(STAGE, key, lambda out: self._describe(video, count, out))
        found: NDArray[np.float32] = np.load(self.store.folder(STAGE, key) / "visual.npy")
        return found[: (record["pictures"] + _SLACK) // WINDOW_PICTURES]

    def _describe(self, video: Path, count: int, out: Path) -> dict[str, Any]:
        extractor = self.extractor
        box = (0, 0, extractor.side, extractor.side)
        reader = SegmentReader(extractor, box, count * SEGMENT_S)
        pictures = 0
        # The next pictures are decoded and scaled while the network is busy; scaled, so that they may wait in memory.
        squares = _squares(video, extractor.side, reader.n_pictures)
        with contextlib.closing(prefetch(squares, 2 * WINDOW_PICTURES)) as ahead:
            for picture in ahead:
                reader.take(picture)
                pictures += 1
        record = visual(video, box, count * SEGMENT_S, self.params, self.source, out, reader)
        return {**record, "pictures": pictures}


def _squares(video: Path, side: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """The middle squares of a video's first pictures at `POSE_FPS` a second, (side, side, 3)."""
    for _, picture in islice(media.read_frames(video, fps=POSE_FPS), count):
        height, width = picture.shape[:2]
        yield squared(picture, (0, 0, width, height), side)
