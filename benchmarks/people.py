"""Dancers and furniture: what tells their tracks apart is fitted here, and how often dancers are missed or invented.

    python -m benchmarks.people fit --seeds 0 64 --data FOLDER
    python -m benchmarks.people report --seeds 520 560 [--json benchmarks/people.json]

Scenes are rendered by seed: a room of 960 x 540 px with one dancer of a given height somewhere in it, or with nobody.
`fit` prints the `person_weights` of BlazePose; FOLDER holds `compilations/` of real footage, whose clips are also seen
in the dark, noisy, compressed and shaken. `report` prints for each height the share of pictures that show the dancer
within 0.1 body heights, and the dancers counted (should be 1; 0 in an empty room).
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from tests.pose.people_factory import HEIGHT, WIDTH, wide_scene
from tiktok_dm.media.frames import read_frames
from tiktok_dm.pose import tracking
from tiktok_dm.pose.registry import get_estimator
from tiktok_dm.pose.tracking import Track, evidence, track_poses

HEIGHTS = (60, 85, 110, 160, None)
KNOWN = 5  # poses of a track, at least


def tracks_of(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, list[Track]]:
    """The poses (frames, dancers, 25, 3) of pictures at 30 fps, and the tracks from which they were made."""
    height, width = frames[0].shape[:2]
    with patch.object(tracking, "assemble", wraps=tracking.assemble) as assemble:
        timed = [(k / 30, frame) for k, frame in enumerate(frames)]
        poses = track_poses(timed, (0, 0, width, height), get_estimator("mediapipe"))
    return poses, [track for track in assemble.call_args.args[0] if len(track.poses) >= KNOWN]


def share_near(poses: np.ndarray, joints: np.ndarray, height: float) -> np.ndarray:
    """Whether poses (..., 25, 3) lie within 0.1 body heights of the true joints (..., 25, 2) in the mean."""
    shown = poses[..., 2] > 0
    error = np.where(shown, np.linalg.norm(poses[..., :2] - joints, axis=-1), 0).sum(axis=-1)
    return shown.any(axis=-1) & (error < 0.1 * height * np.maximum(shown.sum(axis=-1), 1))


def disturbances(rng: np.random.Generator) -> list[Callable[[np.ndarray], np.ndarray]]:
    """What bad cameras and copies do to a picture (height, width, 3) uint8."""

    def compressed(frame: np.ndarray) -> np.ndarray:
        file, (height, width) = io.BytesIO(), frame.shape[:2]
        Image.fromarray(frame).resize((width // 3, height // 3)).save(file, "JPEG", quality=12)
        return np.asarray(Image.open(file).resize((width, height)))

    return [
        lambda frame: frame,
        lambda frame: (frame * 0.25).astype(np.uint8),
        lambda frame: np.clip(frame * 0.5 + rng.normal(0, 18, frame.shape), 0, 255).astype(np.uint8),
        compressed,
        lambda frame: np.roll(frame, tuple(rng.integers(-6, 7, 2)), (0, 1)),
    ]


def labelled(seeds: range, data: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Evidence (tracks, 4) and whether each is a person (tracks,)."""
    rows, people = [], []
    for height in HEIGHTS:
        for seed in seeds if height is None else seeds[::4]:
            frames, joints = wide_scene(seed, height, 120 if seed % 4 == 0 else 24)
            for track in tracks_of(frames)[1]:
                poses = np.stack(list(track.poses.values()))
                near = share_near(poses, joints[list(track.poses)], height or 0).mean()
                if near == 0 or near > 0.5:
                    rows.append(evidence(track))
                    people.append(near > 0.5)
    for film in sorted((data / "compilations").glob("*.mp4")) if data else []:
        for clip in json.loads(film.with_suffix(".truth.json").read_text())["clips"]:
            start = clip["start_s"] + 0.2
            frames = [frame for _, frame in read_frames(film, fps=30, start_s=start, end_s=start + 0.8)]
            for disturbed in disturbances(np.random.default_rng(0)):
                _, tracks = tracks_of([disturbed(frame) for frame in frames])
                # Nobody wrote down where the dancers are: so many tracks are theirs, the surest.
                surest = sorted(tracks, key=lambda t: -float(evidence(t)[0]))[: clip["n_dancers"]]
                rows += [evidence(track) for track in surest]
                people += [True] * len(surest)
    return np.array(rows), np.array(people)


def fit(seeds: range, data: Path | None) -> None:
    """Print the weights and the error of a ten-fold cross validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    rows, people = labelled(seeds, data)
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scaled, model = (rows - mean) / spread, LogisticRegression()
    said = cross_val_predict(model, scaled, people, cv=10)
    model.fit(scaled, people)
    weights = model.coef_[0] / spread
    print("person_weights", np.round([model.intercept_[0] - weights @ mean, *weights], 3).tolist())
    print(f"furniture taken for a person: {(said & ~people).sum()} of {(~people).sum()} tracks")
    print(f"people taken for furniture: {(~said & people).sum()} of {people.sum()} tracks")


def report(seeds: range, file: Path | None) -> None:
    """Print, and write if asked, what is seen at each height."""
    table = []
    for height in HEIGHTS:
        shares, dancers = [], []
        for seed in seeds:
            frames, joints = wide_scene(seed, height, 24)
            poses, _ = tracks_of(frames)
            dancers.append(poses.shape[1])
            if height:
                shares.append(share_near(poses, joints[:, None], height).any(axis=1).mean())
        wrong = sum(count != (height is not None) for count in dancers)
        table.append(
            {"height_px": height, "seen": round(float(np.mean(shares)), 3) if shares else None, "wrong": wrong}
        )
        print(f"{height or 'empty'}: seen {table[-1]['seen']}, wrong count in {wrong} of {len(seeds)} scenes")
    if file:
        record = {"picture": [WIDTH, HEIGHT], "seeds": [seeds.start, seeds.stop], "scenes": table}
        file.write_text(json.dumps(record, indent=1) + "\n")


def main() -> None:
    """Fit or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "report"])
    parser.add_argument("--seeds", nargs=2, type=int, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    fit(range(*args.seeds), args.data) if args.what == "fit" else report(range(*args.seeds), args.json)


if __name__ == "__main__":
    main()
