"""Imported by the process that the benchmark's workers are forked from: what is slow to load is loaded once."""

import contextlib

import numpy as np
import soundfile  # noqa: F401
import soxr  # noqa: F401
import threadpoolctl  # noqa: F401

from tiktok_dm.benchmark import clip_features

with contextlib.suppress(Exception):  # a worker that needs it will say what is wrong
    from tiktok_dm.pipeline.music import warm_up

    warm_up()
    # librosa loads its parts when they are first used.
    clip_features.measure(np.sin(np.arange(44_100, dtype=np.float32) ** 1.2))
