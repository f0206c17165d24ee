"""How good and how fast `tiktok-dm propose` is, on compilations whose truth is known.

    python benchmarks/propose.py FOLDER [--json benchmarks/propose.json]

FOLDER holds `<name>.mp4` beside `<name>.truth.json` (clips with start_s, end_s, song, n_dancers; transitions with
at_s; non_clips). Prints, for each compilation and for all together: cuts within two frames (precision, recall),
same-song pairs (precision, recall, F1), clips with the right number of dancers, cards that became clips; and how many
times faster than real time cuts and songs were made, as processor time and with one decode of each source.
PySceneDetect's default detectors are run on the same videos where `scenedetect` is installed, for comparison.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.agreement import (
    KnownClip,
    agree_in_time,
    dancers_right,
    match_clips,
    pair_agreement,
    proposed_clips,
    score,
    true_clips,
)
from tiktok_dm.curate.proposals import read_proposals
from tiktok_dm.curate.propose import propose


def scenedetect_cuts(video: Path, truth: dict[str, Any]) -> dict[str, Any]:
    """The same figure for PySceneDetect's detectors with their defaults; empty where it is not installed."""
    try:
        from scenedetect import AdaptiveDetector, ContentDetector, detect
    except ImportError:
        return {}
    tolerance = 2.5 / truth["fps"]
    out = {}
    for detector in (ContentDetector, AdaptiveDetector):
        scenes = detect(str(video), detector())
        cuts = agree_in_time(
            [s[0].get_seconds() for s in scenes[1:]], [t["at_s"] for t in truth["transitions"]], tolerance
        )
        out[detector.__name__] = {"precision": cuts.precision, "recall": cuts.recall}
    return out


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--dancers", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    truths = {path: json.loads(path.read_text()) for path in sorted(arguments.folder.glob("*.truth.json"))}
    videos = [path.with_name(truth["file"]) for path, truth in truths.items()]
    seconds = sum(truth["duration_s"] for truth in truths.values())
    result: dict[str, Any] = {"machine": f"{platform.machine()}, 1 process", "video_s": seconds}

    with tempfile.TemporaryDirectory() as folder:
        # Once to have everything loaded and compiled, so that what is measured is the work.
        propose(videos[:1], Path(folder) / "warm", dancers=False)
        start, clock = time.process_time(), time.perf_counter()
        propose(videos, Path(folder) / "cuts", dancers=False)
        processor, wall = time.process_time() - start, time.perf_counter() - clock
        result["cuts_and_songs_times_real_time"] = {"processor": seconds / processor, "wall": seconds / wall}
        out = Path(folder) / "cuts"
        if arguments.dancers:
            out = Path(folder) / "all"
            propose(videos, out)
        proposals = read_proposals(out)
    by_name = dict(
        zip(proposals.annotations.compilations.file, proposals.annotations.compilations.compilation_id, strict=True)
    )
    result["compilations"] = {}
    all_found: list[KnownClip] = []
    all_true: list[KnownClip] = []
    for number, (path, truth) in enumerate(truths.items()):
        found = proposed_clips(proposals, by_name[truth["file"]])
        line = score(found, truth)
        line["pyscenedetect"] = scenedetect_cuts(path.with_name(truth["file"]), truth)
        result["compilations"][truth["file"]] = line
        # One time axis for all, so that songs are compared across compilations too.
        for clips, there in ((found, all_found), (true_clips(truth), all_true)):
            there += [KnownClip(c.start_s + 1e5 * number, c.end_s + 1e5 * number, c.song, c.n_dancers) for c in clips]
    pairs = match_clips(all_found, all_true)
    songs = pair_agreement(all_found, all_true, pairs)
    right, known = dancers_right(all_found, all_true, pairs)
    result["together"] = {
        "same_song_pairs": songs._asdict() | {"precision": songs.precision, "recall": songs.recall, "f1": songs.f1},
        "dancers_right": right,
        "dancers_known": known,
    }
    for name, line in result["compilations"].items():
        cuts, same = line["cuts"], line["same_song_pairs"]
        print(
            f"{name}: cuts precision {cuts['precision']:.3f}, recall {cuts['recall']:.3f}; same-song pairs F1 "
            f"{same['f1']:.3f} (precision {same['precision']:.3f}, recall {same['recall']:.3f}); dancers right "
            f"{line['dancers_right']}/{line['dancers_known']}; cards taken for clips {line['cards_taken_for_clips']} "
            f"of {line['cards']}"
        )
        for detector, figures in line["pyscenedetect"].items():
            print(f"  {detector}: cuts precision {figures['precision']:.3f}, recall {figures['recall']:.3f}")
    speed = result["cuts_and_songs_times_real_time"]
    print(
        f"all together: same-song pairs F1 {songs.f1:.3f}, dancers right {right}/{known}; cuts and songs at "
        f"{speed['processor']:.1f} times real time of one processor, {speed['wall']:.1f} times by the clock"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
