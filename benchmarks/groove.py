"""How regularly people move, and how regularly the demo's dancers do: the same measures on both.

    python -m benchmarks.groove --data FOLDER [--seeds 700 708] [--json benchmarks/groove.json]

FOLDER holds `clips/` and `compilations/` of real footage with `*.truth.json`. Each shot is 2 s long and was not danced
to the music that it has now, so the distance from a motion beat to the *music* can be measured on the demo alone. What
can be compared is the motion: of the first 2 s of every shot and every dancer, and of 2-s pieces of the demo with an
estimator's errors,

- `fit_ms`: distance of motion beats from the best steady pulse (60 to 180 a minute, any phase), ms. A pulse always fits
  two seconds somehow, so chance is small too: `random` has as many beats at uniformly drawn moments;
- `per_s`: motion beats a second;
- `gap_s`: time from one motion beat to the next, s;
- `clarity`: highest peak of the speed's autocorrelation between 0.25 and 1 s, 0 to 1;
- `depth`: mean smoothed speed at motion beats over the mean speed: 0 is a full stop;
- `pulse_ms`, `align`: of the demo alone: distance of motion beats from its music's beats, ms, and Bailando's beat
  alignment. Published on real dances with their own music (AIST++): 0.237 (Siyao et al. 2022, arXiv 2203.13055).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from tiktok_dm.benchmark.metrics.alignment import (
    SMOOTHING_S,
    beat_align_music_bailando,
    joint_speed,
    motion_beats,
)
from tiktok_dm.files import write_atomic
from tiktok_dm.media.content_box import find_content_box
from tiktok_dm.media.frames import read_frames
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.tracking import track_poses
from tiktok_dm.schema import POSE_FPS
from tiktok_dm.synthetic import DemoParams
from tiktok_dm.synthetic.accuracy import as_estimated
from tiktok_dm.synthetic.performance import beats_of, find_clip, joints_px

START_S, SECONDS = 2.0, 2.0
TEMPI = np.arange(60, 181, 1.0)
PHASES = np.arange(40) / 40


def distances(beats_s: np.ndarray, grid_s: np.ndarray) -> np.ndarray:
    """Time from each beat to the nearest of the others, s."""
    return np.abs(beats_s[:, None] - grid_s).min(axis=1)


def fit_s(beats_s: np.ndarray) -> np.ndarray:
    """Distance of each beat from the steady pulse whose mean distance, as a part of its period, is least, s."""
    period = (60 / TEMPI)[:, None, None]
    turns = beats_s / period - PHASES[:, None]
    away = np.abs(turns - np.round(turns))
    best = np.unravel_index(int(away.mean(axis=-1).argmin()), away.shape[:2])
    return away[best] * period[best[0], 0, 0]


def measures(pose: np.ndarray) -> dict[str, list[float]]:
    """Measures of one dancer's 2 s, poses (60, 25, 3) at 30 a second; `fit_ms` of three or more motion beats."""
    beats = motion_beats(pose)
    if not len(beats):
        return {"per_s": [0.0]}
    speed = joint_speed(pose)
    speed = gaussian_filter1d(np.where(np.isnan(speed), np.nanmean(speed), speed), 1.0)
    smooth = gaussian_filter1d(speed, SMOOTHING_S * POSE_FPS)
    middle = speed - speed.mean()
    lags = np.arange(round(0.25 * POSE_FPS), round(POSE_FPS) + 1)
    own = [
        float(np.dot(middle[k:], middle[:-k]) / np.sqrt((middle[k:] ** 2).sum() * (middle[:-k] ** 2).sum()))
        for k in lags
    ]
    at = np.clip(np.round(beats * POSE_FPS - 0.5).astype(int), 0, len(smooth) - 1)
    return {
        "fit_ms": list(1000 * fit_s(beats)) if len(beats) > 2 else [],
        "per_s": [len(beats) / SECONDS],
        "gap_s": list(np.diff(beats)),
        "clarity": [max(own)],
        "depth": [float(smooth[at].mean() / smooth.mean())],
    }


def real_poses(data: Path) -> Iterator[np.ndarray]:
    """The first 2 s of every dancer of every shot, (60, 25, 3)."""
    estimator = get_estimator("mediapipe")
    shots: dict[str, tuple[Path, float]] = {}
    for clip in json.loads((data / "clips" / "clips.json").read_text())["clips"]:
        shots[clip["source"].rpartition("/")[2].split()[0]] = (data / "clips" / clip["file"], 0.0)
    for path in sorted((data / "compilations").glob("*.truth.json")):
        for clip in json.loads(path.read_text())["clips"]:
            if "+" not in clip["source"]:
                shots.setdefault(
                    clip["source"], (path.with_name(path.name[: -len(".truth.json")] + ".mp4"), clip["start_s"])
                )
    for path, start_s in shots.values():
        frames = list(read_frames(path, start_s=start_s, end_s=start_s + SECONDS, fps=POSE_FPS))
        found = find_content_box([rgb for _, rgb in frames[::2]])
        box = (found.x, found.y, found.width, found.height)
        poses = track_poses(frames, box, estimator)
        yield from np.moveaxis(poses, 1, 0)


def demo_poses(seeds: range, groove: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The lead dancer's 2 s from the third second of each clip, and the music's beats in them, s."""
    for seed in seeds:
        params = DemoParams(clips=12, songs=12, seed=seed, groove=groove)
        for number in range(params.clips):
            clip = find_clip(params, number)
            joints = joints_px(params, clip, START_S + np.arange(round(SECONDS * POSE_FPS)) / POSE_FPS)[:, :1]
            sure = np.concatenate([joints, np.ones_like(joints[..., :1])], -1)
            yield as_estimated(sure, np.random.default_rng([seed, number]))[:, 0], beats_of(params, clip) - START_S


def gathered(rows: Iterator[dict[str, list[float]]]) -> dict[str, list[float]]:
    """All values by measure."""
    together: dict[str, list[float]] = {}
    for row in rows:
        for name, values in row.items():
            together.setdefault(name, []).extend(values)
    return together


def demo_measures(seeds: range, groove: str) -> dict[str, list[float]]:
    """`measures` of the demo's dances, and their distance from the music."""

    def rows() -> Iterator[dict[str, list[float]]]:
        for pose, music in demo_poses(seeds, groove):
            row, beats = measures(pose), motion_beats(pose)
            within = music[(music >= 0) & (music < SECONDS)]
            if len(beats):
                yield row | {
                    "pulse_ms": list(1000 * distances(beats, music)),
                    "align": [beat_align_music_bailando(beats, within)],
                }

    return gathered(rows())


def random_measures(counts: list[int]) -> dict[str, list[float]]:
    """Beats at uniformly drawn moments."""
    rng = np.random.default_rng(0)
    drawn = [np.sort(rng.uniform(0.1, SECONDS - 0.1, count)) for count in counts for _ in range(20)]
    return gathered({"fit_ms": list(1000 * fit_s(beats)), "gap_s": list(np.diff(beats))} for beats in drawn)


def quartiles(values: dict[str, list[float]]) -> dict[str, Any]:
    """Quartiles by measure, and how many values there are."""
    return {
        name: [*(round(float(q), 3) for q in np.quantile(v, (0.25, 0.5, 0.75))), len(v)] for name, v in values.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", type=int, nargs=2, default=(700, 708))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seeds = range(*options.seeds)
    result = {name: quartiles(demo_measures(seeds, name)) for name in ("human", "exact")}
    if options.data:
        real = list(real_poses(options.data))
        result["real"] = quartiles(gathered(map(measures, real)))
        result["random"] = quartiles(
            random_measures([len(motion_beats(pose)) for pose in real if len(motion_beats(pose)) > 2])
        )
    for name, row in result.items():
        print(name)
        for measure, (low, middle, high, count) in row.items():
            print(f"  {measure:9} {low:8.3f} {middle:8.3f} {high:8.3f}   of {count}")
    if options.json:
        write_atomic(options.json, json.dumps({"seeds": list(options.seeds), **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
