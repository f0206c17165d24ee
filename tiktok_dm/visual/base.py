"""The contract that every extractor of visual features keeps.

An extractor turns windows of pictures into one vector a window. A window is what is on screen during one 2-s segment at
`schema.POSE_FPS` pictures a second, so that its pictures are those that the segment's poses were found in; each picture
is the middle square of the picture proper, scaled to the extractor's `side` (`squared`). Windows of several clips may
go through it together. It knows nothing of clips, files or keys: those are `tiktok_dm.pipeline.visual`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.errors import UserError
from tiktok_dm.schema import SEGMENT_POSES

Window = NDArray[np.uint8]
"""(`WINDOW_PICTURES`, side, side, 3) RGB."""

WINDOW_PICTURES = SEGMENT_POSES
SIZE = 224  # of what a network looks at, px


@runtime_checkable
class Extractor(Protocol):
    """What the visual stage needs. Making one reads no network: that happens at `check` and at the first `extract`.

    Attributes:
        name: by which it is asked for.
        version: of the code around the network that changes its output.
        weights: SHA-256 of each file of weights, by the file's name.
        features: length of a window's vector.
        side: of the pictures it takes, px.
        batch: windows that are worth handing over at once.
        method: in words, for the dataset's card.
    """

    name: str
    version: str
    weights: Mapping[str, str]
    features: int
    side: int
    batch: int
    method: str

    def check(self) -> None:
        """Raise `UserError` unless everything that `extract` needs is there: libraries, weights, device."""
        ...

    def extract(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """(windows, features), each window's by itself: batches differ in the last digits at most."""
        ...


@dataclass(frozen=True)
class VisualSource:
    """Where the weights are and where networks run: what changes no feature but in its last digits.

    Args:
        weights: a folder, or files.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, ...
    """

    weights: tuple[Path, ...] = ()
    device: str = "auto"

    def state(self) -> list[list[Any]]:
        """Path, size and time of change of each file of weights: cheap to ask, and another for other weights."""
        found = []
        for path in self.files():
            stat = path.stat()
            found.append([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
        return found

    def files(self) -> list[Path]:
        """Every file that was named, or that is in a folder that was.

        Raises:
            UserError: a path that is not there.
        """
        files: list[Path] = []
        for path in self.weights:
            if not path.exists():
                raise UserError(f"there are no weights at {path}: give --visual-weights a folder or files that exist")
            files += sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        return files


def squared(picture: NDArray[np.uint8], box: tuple[int, int, int, int], side: int) -> NDArray[np.uint8]:
    """The middle square of the picture proper, (side, side, 3): the short side is scaled to `side`, the rest cut off.

    Args:
        picture: (height, width, 3) RGB.
        box: x, y, width, height of the picture proper in it, px.
        side: px.
    """
    from PIL import Image

    x, y, width, height = box
    short = min(width, height)
    left, top = x + (width - short) // 2, y + (height - short) // 2
    # Cut out first: Pillow's `box` would let what is beside it, decoration say, into the pixels at its border.
    part = np.ascontiguousarray(picture[top : top + short, left : left + short])
    return np.asarray(Image.fromarray(part).resize((side, side), Image.Resampling.BILINEAR))


def middle(pictures: NDArray[Any], size: int) -> NDArray[Any]:
    """The middle `size` x `size` px of pictures (..., side, side, channels)."""
    first = (pictures.shape[-2] - size) // 2
    return pictures[..., first : first + size, first : first + size, :]
