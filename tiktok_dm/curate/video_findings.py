"""What is found in new videos: their shots, and how many people dance in each; many videos and clips at a time.

For `propose`. Not for deciding anything about a cut (`shots`) or a dancer (`dancers`), and not for songs, which are
compared over all videos (`clip_songs`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tiktok_dm.curate.cuts.scan import scan
from tiktok_dm.curate.cuts.shots import Boundary, Shot, find_shots
from tiktok_dm.curate.dancers import DancerCount, DancersParams, count_dancers
from tiktok_dm.errors import MediaError, is_no_room
from tiktok_dm.runtime.executor import Executor, make_executor

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
