"""Speed and memory of `tiktok-dm build`, as ratios within one run.

Prints, for a set of compilations (the embedded demo unless annotations and media are given):

- processor time of a build over the sum of its unavoidable parts, measured in the same run: decode each source once,
  encode each clip once, estimate poses on each clip's frames;
- wall time with one worker over wall time with two;
- the second run of a finished build over the first;
- peak memory of a worker, for short clips and for one twelve times as long.

    python benchmarks/build.py [--annotations DIR --media DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

CLIPS, SONGS = 12, 6


def processor_s() -> float:
    """Processor seconds of this process and of the children it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def run_build(arguments: list[str], out: Path, workers: int) -> dict[str, float]:
    """One build as a whole: wall and processor seconds, peak resident memory of its largest process in MB.

    Workers are nobody's children to wait for, so every process is looked at twenty times a second; what one spends
    after the last look is lost, a few hundredths of a second each.
    """
    peak = 0.0
    spent: dict[int, float] = {}
    started = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "tiktok_dm",
        "build",
        *arguments,
        "--out",
        str(out),
        "--workers",
        str(workers),
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = threading.Event()

    def watch() -> None:
        import psutil

        nonlocal peak
        root = psutil.Process(process.pid)
        while not done.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for one in [root, *root.children(recursive=True)]:
                    times = one.cpu_times()
                    spent[one.pid] = times.user + times.system
                    peak = max(peak, one.memory_info().rss / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    done.set()
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"the build failed:\n{errors}")
    return {"wall_s": time.perf_counter() - started, "cpu_s": sum(spent.values()), "peak_mb": peak}


def unavoidable(annotations: Path, media: Path, work: Path) -> dict[str, float]:
    """Processor seconds of decoding each source once, encoding each clip once, and estimating poses on its frames.

    In a process of its own, so that imports and model loading are counted as they would be in any program.
    """
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import build; build.measure_parts(*sys.argv[1:])"
    environment = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(annotations), str(media), str(work)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure_parts(annotations: str, media: str, work: str) -> None:
    """Body of `unavoidable`; prints JSON."""
    import av

    from tiktok_dm import media as videos
    from tiktok_dm.media.content_box import find_content_box
    from tiktok_dm.pipeline.segment import SegmentParams
    from tiktok_dm.pose.registry import get_estimator
    from tiktok_dm.pose.tracking import estimate_poses
    from tiktok_dm.schema import POSE_FPS

    files = {int(r["compilation_id"]): Path(media) / r["file"] for r in _table(Path(annotations) / "compilations.csv")}
    params, estimator = SegmentParams(), get_estimator("mediapipe")
    parts = {"decode": 0.0, "encode": 0.0, "poses": 0.0}
    for file in files.values():
        begun = processor_s()
        with av.open(str(file)) as container:
            container.streams.video[0].thread_count = 1
            for _ in container.decode(video=0):
                pass
        parts["decode"] += processor_s() - begun
    for row in _table(Path(annotations) / "clips.csv"):
        source, start_s, end_s = files[int(row["compilation_id"])], float(row["start_s"]), float(row["end_s"])
        probe = videos.probe(source)
        frames = [rgb for _, rgb in videos.read_frames(source, start_s=start_s, end_s=end_s)]
        sound = videos.read_audio(source, sample_rate=probe.audio.sample_rate, mono=False, start_s=start_s, end_s=end_s)
        begun = processor_s()
        videos.write_video(
            Path(work) / "clip.mp4",
            iter(frames),
            probe.fps_rational,
            audio=sound,
            sample_rate=probe.audio.sample_rate,
            crf=params.crf,
            preset=params.preset,
        )
        parts["encode"] += processor_s() - begun
        box = find_content_box(np.stack(frames[:: max(1, len(frames) // 32)]))
        grid = list(videos.read_frames(source, start_s=start_s, end_s=end_s, fps=POSE_FPS))
        begun = processor_s()
        estimate_poses(grid, (box.x, box.y, box.width, box.height), estimator)
        parts["poses"] += processor_s() - begun
    print(json.dumps(parts))


def _table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def long_and_short(root: Path) -> dict[str, float]:
    """Peak memory of a worker for clips of 10 s and for one of 120 s, of the same material."""
    from tiktok_dm import media as videos

    source = next((root / "demo" / "media").glob("*.mp4"))
    frames = [rgb for _, rgb in videos.read_frames(source, start_s=0, end_s=6)]
    sound = videos.read_audio(source, sample_rate=44_100, mono=False, start_s=0, end_s=6)
    peaks = {}
    for name, repeats in (("short", 2), ("long", 20)):
        folder = root / name
        (folder / "annotations").mkdir(parents=True)
        (folder / "media").mkdir()
        length = repeats * len(frames) / 30
        # Forward and backward, so that the picture has no cut.
        loop = (frame for i in range(repeats) for frame in (frames if i % 2 == 0 else frames[::-1]))
        sounds = np.concatenate([sound] * repeats)[: round(length * 44_100)]
        videos.write_video(folder / "media" / "0.mp4", loop, 30, audio=sounds, sample_rate=44_100)
        for file, text in (
            ("compilations.csv", "compilation_id,title,url,file,license,sha256\n0,,,0.mp4,,\n"),
            ("songs.csv", "song_id,title,artist\n0,,\n1,,\n"),
            (
                "clips.csv",
                "clip_id,compilation_id,song_id,start_s,end_s,n_dancers\n"
                f"0,0,0,0,{length - 3:.3f},\n1,0,1,{length - 2.5:.3f},{length:.3f},\n",
            ),
        ):
            (folder / "annotations" / file).write_text(text, encoding="utf-8")
        arguments = [str(folder / "annotations"), "--media", str(folder / "media")]
        peaks[f"{name}_clip_s"] = length - 3
        peaks[f"{name}_peak_mb"] = run_build(arguments, folder / "out", 1)["peak_mb"]
    return peaks


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--annotations", type=Path)
    parser.add_argument("--media", type=Path)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--skip-memory", action="store_true", help="leave the long clip out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        root = Path(folder)
        from tiktok_dm.synthetic import DemoParams, make_demo

        make_demo(root / "demo", DemoParams(clips=CLIPS, songs=SONGS))
        annotations = options.annotations or root / "demo" / "annotations"
        media = options.media or root / "demo" / "media"
        arguments = [str(annotations), "--media", str(media)]
        run_build(arguments, root / "warm", 2)  # compiled code and file caches
        one = run_build(arguments, root / "one", 1)
        parts = unavoidable(annotations, media, root)
        two = run_build(arguments, root / "two", 2)
        again = run_build(arguments, root / "two", 2)
        total = sum(parts.values())
        figures: dict[str, Any] = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "cpu_s": {"build, 1 worker": one["cpu_s"], "build, 2 workers": two["cpu_s"], **parts},
            "cpu of build / unavoidable parts": one["cpu_s"] / total,
            "cpu of build with 2 workers / unavoidable parts": two["cpu_s"] / total,
            "wall of 1 worker / 2 workers": one["wall_s"] / two["wall_s"],
            "wall of second run / first": again["wall_s"] / two["wall_s"],
            "cpu of second run / first": again["cpu_s"] / two["cpu_s"],
            "peak_mb of largest process": max(one["peak_mb"], two["peak_mb"]),
        }
        if not options.skip_memory:
            figures["memory"] = long_and_short(root)
    text = json.dumps(figures, indent=1, default=lambda x: round(float(x), 4))
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
