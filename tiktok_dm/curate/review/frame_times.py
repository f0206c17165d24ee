"""When the pictures of a video come: the instants on which edges of clips lie.

Not for finding these instants out (`assets.picture_times`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class FrameTimes:
    """When the pictures of a video come, to which edges are snapped.

    Args:
        times: s from the first instant, ascending, (pictures + 1,); the last is the end of the last picture.
    """

    def __init__(self, times: NDArray[np.float64]) -> None:
        if len(times) < 2:
            raise ValueError("a video has at least one picture")
        self.times = times

    def __len__(self) -> int:
        """How many instants there are: pictures, and the end."""
        return len(self.times)

    def nearest(self, t_s: float) -> int:
        """Number of the instant that is nearest to `t_s`."""
        after = int(np.searchsorted(self.times, t_s))
        near = [k for k in (after - 1, after) if 0 <= k < len(self.times)]
        return min(near, key=lambda k: abs(float(self.times[k]) - t_s))

    def on_screen(self, t_s: float) -> int:
        """Number of the picture that is shown at `t_s`; the last one past the end."""
        return min(max(int(np.searchsorted(self.times, t_s + 1e-4, side="right")) - 1, 0), len(self.times) - 2)

    def at(self, index: int) -> float:
        """The instant `index` in s, as it is written down."""
        return round(float(self.times[index]), 6)
