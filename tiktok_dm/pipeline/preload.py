"""Imported by the process that workers are forked from: what is slow to load is loaded once, not once a worker."""

import contextlib

import av  # noqa: F401
import numpy  # noqa: F401
import PIL.Image  # noqa: F401
import soundfile  # noqa: F401

import tiktok_dm.pipeline.stages  # noqa: F401

with contextlib.suppress(Exception):  # a worker that needs it will say what is wrong
    from ai_edge_litert.interpreter import Interpreter  # noqa: F401

    from tiktok_dm.pipeline.music import warm_up

    warm_up()
