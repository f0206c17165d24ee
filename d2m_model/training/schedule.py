"""The learning rate over a training, of the model's and of the codec's. Not for optimisers."""

from __future__ import annotations

import math


def rate(step: int, steps: int, schedule: str, warmup: int) -> float:
    """Factor on the learning rates at a step (from 0): linear rise over `warmup`, then constant or half a cosine."""
    rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))) if schedule == "cosine" else 1.0
    return rise * fall
