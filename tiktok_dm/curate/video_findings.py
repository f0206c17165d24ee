"""What single videos show: their shots, and how many people dance in each; many videos at a time.

For one clip of a compilation, from the source itself: nothing is cut for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tiktok_dm.curate.cuts.scan import scan
from tiktok_dm.curate.cuts.shots import Boundary, Shot, find_shots
from tiktok_dm.errors import MediaError, is_no_room
from tiktok_dm.runtime.executor import Executor, make_executor
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.schema import MAX_DANCERS, POSE_FPS

if TYPE_CHECKING:
    from tiktok_dm.pose.base import Picture

STAGE = "dancers"
VERSION = 1

# Dancers count as together when all of them are seen in this share of the clip's pictures: a passer-by, or two tracks
# of one person that overlap for a moment, are no second dancer.
_TOGETHER = 0.15
_SAMPLED = 32  # pictures in which the content box is looked for
_MAX_HEIGHT = 720  # px; taller pictures are scaled down, as the build's are


@dataclass(frozen=True)
class DancersParams:
    """What a count depends on.

    Args:
        estimator: by name, see `tiktok_dm.pose.registry.ESTIMATORS`.
        together: share of the pictures in which all dancers must be seen at once.
    """

    estimator: str = "mediapipe"
    together: float = _TOGETHER


@dataclass(frozen=True)
class DancerCount:
    """How many people dance in a clip.

    Args:
        n: the largest number seen together, at most 5; 0 where nobody was found.
        confidence: 0..1 that `n` is right.
        reason: in words.
        coverage: share of the pictures in which anyone was seen.
    """

    n: int
    confidence: float
    reason: str
    coverage: float


def count_dancers(
    video: Path, sha256: str, start_s: float, end_s: float, work: Path, params: DancersParams | None = None
) -> DancerCount:
    """Count the dancers of one clip; a count that was made already is read from `work`.

    Args:
        video: the compilation.
        sha256: its checksum.
        start_s, end_s: of the clip, s from the source's first instant.
        work: the work folder; keeps `poses.npy`, (frames, dancers, 25, 3) in px of the upright source, 30 fps.

    Raises:
        MediaError: the clip can't be decoded.
    """
    params = params or DancersParams()
    inputs = {"source": sha256, "start_s": round(start_s, 4), "end_s": round(end_s, 4)}
    key = content_key(STAGE, VERSION, params, inputs)

    def make(folder: Path) -> dict[str, Any]:
        poses, confidence = _poses(video, start_s, end_s, params)
        np.save(folder / "poses.npy", poses.astype(np.float32))
        found = decide(poses, params.together)
        return inputs | asdict(found) | {"content_box_confidence": confidence}

    record = Store(work).run(STAGE, key, make)
    return DancerCount(record["n"], record["confidence"], record["reason"], record["coverage"])


def decide(poses: NDArray[np.float32], together: float = _TOGETHER) -> DancerCount:
    """The count that poses (frames, dancers, 25, 3) of a clip tell, with all its tracks."""
    n_frames = len(poses)
    seen = (poses[..., 2] > 0).any(axis=-1) if n_frames else np.zeros((0, 0), bool)
    at_once = seen.sum(axis=1)
    if not at_once.any():
        return DancerCount(0, 0.3, "no dancer was found in any picture", 0.0)
    shares = [float((at_once >= k).mean()) for k in range(1, MAX_DANCERS + 2)]
    n = max(1, sum(share >= together for share in shares[:MAX_DANCERS]))
    here, more = shares[n - 1], shares[n]
    coverage = shares[0]
    # Sure where n are together most of the time and never one more; half sure at either limit.
    enough = min(1.0, 0.5 + 0.5 * (here - together) / (0.6 - together)) if here >= together else 0.4
    others = 1.0 - 0.5 * min(1.0, more / together)
    confidence = round(0.98 * min(enough, others) * min(1.0, 0.5 + coverage / 1.6), 3)
    who = "one dancer is" if n == 1 else f"{n} dancers are"
    reason = f"{who} seen {'together ' if n > 1 else ''}in {here:.0%} of the pictures"
    if more > 0.02:
        reason += f", {n + 1} in {more:.0%}"
    return DancerCount(n, confidence, reason, round(coverage, 4))


def stored_poses(folder: Path, sha256: str, start_s: float, end_s: float) -> NDArray[np.float32] | None:
    """Poses (frames, dancers, 25, 3), 30 fps from `start_s`, that were kept when dancers were counted; None if none.

    A clip whose ends were moved since still gets what was seen in it; pictures that nobody looked at are all zeros.

    Args:
        folder: the work folder.
        sha256: of the compilation.
    """
    store = Store(folder)
    n = max(1, round((end_s - start_s) * POSE_FPS))
    out: NDArray[np.float32] | None = None
    for key in store.keys(STAGE):
        record = store.record(STAGE, key)
        if record is None or record["source"] != sha256 or record["end_s"] <= start_s or record["start_s"] >= end_s:
            continue
        poses = np.load(store.folder(STAGE, key) / "poses.npy", allow_pickle=False)
        shift = round((record["start_s"] - start_s) * POSE_FPS)
        first, last = max(0, shift), min(n, shift + len(poses))
        if last <= first or not poses.shape[1]:
            continue
        dancers = max(poses.shape[1], 0 if out is None else out.shape[1])
        grown = np.zeros((n, dancers, *poses.shape[2:]), np.float32)
        if out is not None:
            grown[:, : out.shape[1]] = out
        grown[first:last] = 0
        grown[first:last, : poses.shape[1]] = poses[first - shift : last - shift]
        out = grown
    return out


def _poses(video: Path, start_s: float, end_s: float, params: DancersParams) -> tuple[NDArray[np.float32], float]:
    from tiktok_dm import media
    from tiktok_dm.media.content_box import find_content_box
    from tiktok_dm.media.frames import scaled_size
    from tiktok_dm.pose.registry import get_estimator
    from tiktok_dm.pose.tracking import TrackingParams, track_poses

    probe = media.probe(video)
    size = scaled_size(probe.width, probe.height, _MAX_HEIGHT)
    # The first and the last instants may belong to a transition.
    margin = min(0.25, (end_s - start_s) / 10)
    rate = max(1.0, _SAMPLED / max(0.1, end_s - start_s))
    sample = [
        picture
        for _, picture in media.read_frames(
            video, start_s=start_s + margin, end_s=end_s - margin, fps=min(rate, POSE_FPS), max_height=360
        )
    ]
    height, width = sample[0].shape[:2]
    box = find_content_box(np.stack(sample)).scaled((width, height), size)
    estimator = get_estimator(params.estimator)
    frames: Iterator[tuple[float, Picture]] = media.read_frames(
        video, start_s=start_s, end_s=end_s, fps=POSE_FPS, size=size
    )
    found = track_poses(frames, (box.x, box.y, box.width, box.height), estimator, TrackingParams())
    found[..., 0] *= probe.width / size[0]
    found[..., 1] *= probe.height / size[1]
    return found, round(float(box.confidence), 3)


Expect = Callable[[str, int], None]  # stage, items to come
Advance = Callable[[str, str, str], None]  # stage, item, what is unusual

SURE_CLIP = 0.9  # a shot is surely a clip from this confidence on
_NOBODY = 0.1  # a stretch in which hardly anybody is ever seen is no clip, unless the pictures say so clearly


@dataclass
class VideoFindings:
    """One new video and what was found in it.

    Args:
        dancers: by place in `shots`; empty where nobody counted.
    """

    path: Path
    sha256: str
    compilation_id: int
    shots: list[Shot]
    boundaries: list[Boundary]
    dancers: dict[int, DancerCount] = field(default_factory=dict)
    has_sound: bool = True

    @property
    def clips(self) -> list[int]:
        """Places in `shots` of those that are proposed as clips."""
        return [k for k in range(len(self.shots)) if self._is_clip(k)]

    def _is_clip(self, k: int) -> bool:
        shot, count = self.shots[k], self.dancers.get(k)
        if shot.kind != "clip":
            return False
        return count is None or count.coverage > _NOBODY or shot.confidence >= SURE_CLIP

    def why_nothing(self) -> str:
        """What it shows, in words, where it holds no clip."""
        kinds = sorted({shot.kind for shot in self.shots})
        if kinds == ["black"]:
            return "its picture is black throughout"
        if kinds == ["clip"]:
            return "nobody is seen in it"
        return f"all of it is {' or '.join(kind.replace('_', ' ') for kind in kinds)}"


def find_in_videos(
    new: Mapping[Path, int],
    sums: Mapping[Path, str],
    work: Path,
    dancers: bool,
    estimator: str,
    workers: int,
    failed: dict[str, str],
    expect: Expect,
    advance: Advance,
) -> list[VideoFindings]:
    """Look at new videos, in any order.

    Args:
        new: the videos, with the ids that they get.
        sums: checksums of the videos.
        failed: gets the sentence of each video that cannot be decoded, by its name.
        work, dancers, estimator, workers, expect, advance: as for `propose`.

    Raises:
        DiskFull: the work folder has no room.
    """
    if not new:
        return []
    with make_executor(
        "local" if workers > 1 else "inline", max(1, workers), preload=["tiktok_dm.pipeline.preload"]
    ) as executor:
        found = _cuts(executor, new, sums, work, failed, expect, advance)
        if dancers:
            _count(executor, found, work, DancersParams(estimator=estimator), expect, advance)
    return found


def _cuts(
    executor: Executor,
    new: Mapping[Path, int],
    sums: Mapping[Path, str],
    work: Path,
    failed: dict[str, str],
    expect: Expect,
    advance: Advance,
) -> list[VideoFindings]:
    found: list[VideoFindings] = []
    expect("cuts", len(new))
    tasks = {executor.submit(scan_and_cut, path, sums[path], work): path for path in new}
    for task in as_completed(tasks):
        path = tasks[task]
        note = ""
        try:
            shots, boundaries, sound = task.result()
            found.append(VideoFindings(path, sums[path], new[path], shots, boundaries, has_sound=sound))
        except MediaError as error:
            failed[path.name] = note = str(error)
        advance("cuts", path.name, note)
    return found


def _count(
    executor: Executor,
    found: list[VideoFindings],
    work: Path,
    params: DancersParams,
    expect: Expect,
    advance: Advance,
) -> None:
    wanted = [(one, k) for one in found for k, shot in enumerate(one.shots) if shot.kind == "clip"]
    expect("dancers", len(wanted))
    # Long ones first: a long clip that starts last would keep one worker busy alone.
    wanted.sort(key=lambda item: item[0].shots[item[1]].start_s - item[0].shots[item[1]].end_s)
    counts = {
        executor.submit(count_dancers, one.path, one.sha256, one.shots[k].start_s, one.shots[k].end_s, work, params): (
            one,
            k,
        )
        for one, k in wanted
    }
    for task in as_completed(counts):
        one, k = counts[task]
        note = ""
        try:
            one.dancers[k] = task.result()
        except Exception as error:
            if is_no_room(error):
                raise
            note = f"its dancers could not be counted ({error})"
            one.dancers[k] = DancerCount(0, 0.0, note, 1.0)
        advance("dancers", f"{one.path.name} at {one.shots[k].start_s:.1f} s", note)


def scan_and_cut(path: Path, sha256: str, work: Path) -> tuple[list[Shot], list[Boundary], bool]:
    """Shots and boundaries of one video, and whether it has sound. Runs in a worker."""
    seen = scan(path, work, sha256=sha256)
    shots, boundaries = find_shots(seen)
    return shots, boundaries, bool(len(seen.sound))
