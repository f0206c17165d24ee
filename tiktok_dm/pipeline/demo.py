"""The embedded demo as input of a build: rendered into the store, read as annotations, held against its truth.

What the demo shows is `tiktok_dm.synthetic`'s matter.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm import __version__
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.schema import POSE_FPS
from tiktok_dm.synthetic import DemoParams, make_demo, pose_accuracy, write_demo_annotations

if TYPE_CHECKING:
    from tiktok_dm.annotations.tables import Annotations
    from tiktok_dm.dataset.rows import ClipItem
    from tiktok_dm.runtime.progress import BuildProgress


def render_demo(params: DemoParams, store: Store, workers: int, progress: BuildProgress) -> Path:
    """Folder with `media/`, `annotations/` and `truth/` of the demo; rendered unless the store has it."""
    inputs = {
        "package": __version__,
        "numpy": importlib.metadata.version("numpy"),
        "av": importlib.metadata.version("av"),
    }
    key = content_key("demo", 1, params, inputs)

    def make(folder: Path) -> dict[str, Any]:
        told = 0

        def tell(done: int, total: int, what: str) -> None:
            nonlocal told
            progress.expect("demo", total)
            for _ in range(done - told):
                progress.advance("demo", what)
            told = done

        make_demo(folder, params, workers=workers, progress=tell)
        return {"clips": params.clips}

    store.run("demo", key, make)
    return store.folder("demo", key)


def demo_annotations(params: DemoParams) -> Annotations:
    """The demo's annotations without rendering anything: its videos have no checksum yet."""
    from tiktok_dm.annotations.tables import read_annotations

    with tempfile.TemporaryDirectory() as folder:
        write_demo_annotations(Path(folder), params)
        return read_annotations(Path(folder))


def demo_accuracy(truth: Path, items: Sequence[ClipItem]) -> dict[str, float]:
    """Estimated poses against the joints that were drawn, over all clips; see `pose_accuracy` for the figures.

    Those that have no value, such as the error of nobody, are left out.
    """
    import numpy as np

    estimated, true = [], []
    for item in items:
        film = truth / f"compilation_{item.compilation_id}"
        fps = json.loads(film.with_suffix(".json").read_text(encoding="utf-8"))["fps"]
        joints = np.load(film.with_suffix(".npz"))["joints"]
        poses = np.load(item.pose)
        # The picture on screen at each time of the pose grid; half a frame guards against rounding.
        times = item.segment["start_s"] + np.arange(len(poses)) / POSE_FPS
        shown = np.clip(np.floor(times * fps + 1e-3).astype(int), 0, len(joints) - 1)
        estimated.append(_widened(poses, 0.0))
        true.append(_widened(joints[shown], np.nan))
    accuracy = pose_accuracy(np.concatenate(estimated), np.concatenate(true))
    return {name: round(value, 4) for name, value in accuracy.items() if math.isfinite(value)}


def _widened(poses: Any, missing: float, dancers: int = 5) -> Any:
    """`poses` with as many dancers as every clip's array, the absent ones `missing`."""
    import numpy as np

    wide = np.full((len(poses), max(dancers, poses.shape[1]), *poses.shape[2:]), missing, dtype=np.float32)
    wide[:, : poses.shape[1]] = poses
    return wide
