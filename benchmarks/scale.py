"""What bookkeeping costs as a dataset grows: processor seconds at 1k, 10k and 100k clips, and their growth.

Media are left out: clips are drawn numbers, of which a third as many songs and a clip in 22 a compilation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from tiktok_dm.annotations.splits import assign_splits
from tiktok_dm.dataset import report

SIZES = (1_000, 10_000, 100_000)


def clips_of(n: int, seed: int) -> pd.DataFrame:
    """`n` clips with drawn songs and compilations."""
    rng = np.random.default_rng([seed, n])
    drawn = {"song_id": rng.integers(0, n // 3, n), "compilation_id": rng.integers(0, n // 22, n)}
    return pd.DataFrame({"clip_id": np.arange(n), **drawn}).astype("Int64")


def tables_of(clips: pd.DataFrame) -> None:
    """The report's tables of songs and compilations."""
    items: Any = [
        SimpleNamespace(
            clip_id=int(row.clip_id),
            song_id=int(row.song_id),
            compilation_id=int(row.compilation_id),
            split="train",
            source="",
            n_segments=4,
            segment={"duration_s": 9.0},
            music={"tempo_bpm": 120.0},
        )
        for row in clips.itertuples()
    ]
    meta: Any = SimpleNamespace(sources={}, songs={}, planned=(), ledger=())
    report._songs(items, meta)
    report._compilations(items, meta)


def main() -> None:
    """Print one line a step: processor seconds at each size, and the power of the size that the last growth follows."""
    steps: dict[str, Callable[[pd.DataFrame], object]] = {
        "assign_splits": lambda clips: assign_splits(clips, 0.2, 0),
        "report's tables": tables_of,
    }
    print(f"{'processor seconds':20s}" + "".join(f"{n:>10,d}" for n in SIZES) + "   growth")
    for name, step in steps.items():
        seconds = []
        for n in SIZES:
            clips = clips_of(n, seed=1)
            start = time.process_time()
            step(clips)
            seconds.append(time.process_time() - start)
        power = np.log(seconds[-1] / seconds[-2]) / np.log(SIZES[-1] / SIZES[-2])
        print(f"{name:20s}" + "".join(f"{s:10.2f}" for s in seconds) + f"   n^{power:.2f}")


if __name__ == "__main__":
    main()
