"""Speed of `tiktok-dm evaluate`, as ratios within one run.

Scores 312 two-second segments of the embedded demo's dances (the published test split has 307) against the music of
other segments, with every metric but the large embeddings and the training set:

- wall and processor time of the command with two workers, and with one;
- the same of a plain loop in one process, which for each metric reads both files and finds what it needs in them, as
  the published scripts do one by one; intervals and shuffled pairs are the same code. Its scores must be equal.

    python benchmarks/evaluate.py [--json FILE] [--repeat N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SONGS, CLIPS, CLIP_S = 13, 52, 12.0  # 6 segments a clip


def make_inputs(root: Path) -> tuple[Path, Path]:
    """A dataset of segments, and a folder with another segment's music for each of them."""
    import soundfile

    from tiktok_dm.benchmark.pairs import read_reference
    from tiktok_dm.importers.demo_segments import SegmentSetParams, write_demo_segments
    from tiktok_dm.schema import SAMPLE_RATE

    params = SegmentSetParams(songs=SONGS, clips=CLIPS, shortest_s=CLIP_S, longest_s=CLIP_S)
    write_demo_segments(root / "dataset", params, workers=os.cpu_count() or 1)
    items = list(read_reference(root / "dataset", split="all", config="segments").items.values())
    (root / "system").mkdir()
    for k, item in enumerate(items):
        other = items[(k + 31) % len(items)].sound()
        soundfile.write(root / "system" / f"{item.id}.wav", other, SAMPLE_RATE, subtype="PCM_16")
    return root / "dataset", root / "system"


def timed(command: list[str]) -> dict[str, float]:
    """Wall seconds of a command from start to end of its process, and processor seconds of it and all below it.

    Workers are nobody's children to wait for, so every process is looked at twenty times a second.
    """
    import psutil

    spent: dict[int, float] = {}
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for one in [root, *root.children(recursive=True)]:
                    times = one.cpu_times()
                    spent[one.pid] = times.user + times.system
            time.sleep(0.05)
        wall = time.perf_counter() - started
        if process.returncode != 0:
            told.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{told.read()}")
    return {"wall_s": wall, "cpu_s": sum(spent.values())}


def plain_loop(dataset: Path, system: Path, out: Path) -> None:
    """One process; one pass over all pairs a metric, each pass reading and analysing both files."""
    from tiktok_dm.benchmark.clip_features import ClipFeatures, FeatureCache, checksum
    from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
    from tiktok_dm.benchmark.pairs import read_reference, sound_files

    reference = read_reference(dataset, split="all", config="segments")
    files, _ = sound_files(system)
    pairs = [(item.audio, files[name]) for name, item in reference.items.items()]
    found = [[sound, {}] for pair in pairs for sound in pair]
    for part in PASSES:
        for entry in found:
            entry[1] |= PASSES[part](entry[0])
    options = EvaluateOptions(split="all", config="segments")
    from tiktok_dm.benchmark.embedders.registry import get_embedder

    made = get_embedder("log-mel")
    cache = FeatureCache()
    for sound, features in found:
        onsets = {name: features.pop(f"onsets_{name}") for name in ("d2m", "loris")}
        cache.put(checksum(sound), f"{made.name} {made.version}", ClipFeatures(onsets_s=onsets, **features))
    result = evaluate(reference, dict(files), options, cache=cache)
    out.write_text(json.dumps({name: score.value for name, score in result.metrics.items()}), encoding="utf-8")


def _onsets(sound: Any, name: str, **given: int) -> dict[str, Any]:
    import librosa

    from tiktok_dm.benchmark.clip_features import read_sound

    samples = read_sound(sound)
    times = librosa.onset.onset_detect(y=samples, sr=22_050, wait=1, delta=0.2, units="time", **given)
    return {f"onsets_{name}": times, "samples": len(samples)}


def _whole(sound: Any) -> dict[str, Any]:
    from tiktok_dm.benchmark.clip_features import onset_envelopes, read_sound, track

    samples = read_sound(sound)
    return {"whole": track(*onset_envelopes(samples), len(samples) / 22_050)}


def _windows(sound: Any) -> dict[str, Any]:
    return {"windows": (_whole(sound)["whole"],)}


def _rows(sound: Any) -> dict[str, Any]:
    from tiktok_dm.benchmark.clip_features import read_sound
    from tiktok_dm.benchmark.embedders.registry import get_embedder

    return {"rows": get_embedder("log-mel").embed(read_sound(sound), 22_050)}


def _peak(sound: Any) -> dict[str, Any]:
    import numpy as np

    from tiktok_dm.benchmark.clip_features import read_sound

    samples = read_sound(sound)
    assert np.isfinite(samples).all()
    return {"peak_dbfs": 20 * float(np.log10(np.abs(samples).max()))}


PASSES = {
    "problems": _peak,
    "coverage and hit": lambda sound: _onsets(sound, "d2m", pre_avg=1, post_avg=1, post_max=1),
    "precision and recall": lambda sound: _onsets(sound, "loris", pre_avg=3, post_avg=3, pre_max=3, post_max=3),
    "tracked beats": _whole,
    "tracked beats of two seconds": _windows,
    "beat alignment": _whole,
    "distributions": _rows,
}


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--repeat", type=int, default=2, help="the least of so many runs counts")
    parser.add_argument("--plain", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        plain_loop(*options.plain)
        return
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        root = Path(folder)
        dataset, system = make_inputs(root)
        count = len(list(system.iterdir()))
        command = [
            sys.executable,
            "-m",
            "tiktok_dm",
            "evaluate",
            "--reference",
            str(dataset),
            "--generated",
            str(system),
        ]
        command += ["--split", "all", "--config", "segments", "--json", str(root / "scores.json")]
        loop = [sys.executable, __file__, "--plain", str(dataset), str(system), str(root / "plain.json")]
        times: dict[str, list[dict[str, float]]] = {"2 workers": [], "1 worker": [], "plain loop": []}
        for _ in range(options.repeat):  # in turn, so that other load on the machine falls on all
            times["2 workers"].append(timed([*command, "--workers", "2"]))
            times["1 worker"].append(timed([*command, "--workers", "1"]))
            times["plain loop"].append(timed(loop))
        scores = json.loads((root / "scores.json").read_text(encoding="utf-8"))["metrics"]
        plain = json.loads((root / "plain.json").read_text(encoding="utf-8"))
        for name, value in plain.items():
            if value is not None and abs(scores[name]["value"] - value) > 1e-6:
                raise SystemExit(f"the plain loop's {name} is {value}, the command's {scores[name]['value']}")
        least = {
            kind: {name: min(run[kind] for run in runs) for name, runs in times.items()} for kind in ("wall_s", "cpu_s")
        }
        wall, cpu = least["wall_s"], least["cpu_s"]
        figures: dict[str, Any] = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "segments": count,
            "metrics": len(scores),
            **least,
            "wall of 2 workers / plain loop": wall["2 workers"] / wall["plain loop"],
            "wall of 1 worker / plain loop": wall["1 worker"] / wall["plain loop"],
            "cpu of 2 workers / plain loop": cpu["2 workers"] / cpu["plain loop"],
        }
    text = json.dumps(figures, indent=1, default=lambda x: round(float(x), 4))
    text = json.dumps(json.loads(text, parse_float=lambda x: round(float(x), 3)), indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
