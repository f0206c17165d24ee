"""The embedded demo: rendered dancers and synthesised songs whose joints, beats, cuts and song ids are known.

For the demo build, for tests' truth, and (`clip_truth`, no pictures) for training sets of any size. Not for real
footage.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiktok_dm.synthetic.accuracy import pose_accuracy
    from tiktok_dm.synthetic.demo import make_demo, write_demo_annotations
    from tiktok_dm.synthetic.performance import clip_truth
    from tiktok_dm.synthetic.plan import DemoParams

__all__ = ["DemoParams", "clip_truth", "make_demo", "pose_accuracy", "write_demo_annotations"]

# Loaded when asked for: a command that only wants to know what a demo is should not load a renderer.
_HOME = {
    "DemoParams": "plan",
    "clip_truth": "performance",
    "make_demo": "demo",
    "pose_accuracy": "accuracy",
    "write_demo_annotations": "demo",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
