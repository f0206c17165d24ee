"""What the leaderboard makes of systems that should not win: refused, not ranked, or which rank they get.

    python -m benchmarks.cheats DATASET --work FOLDER [--json benchmarks/cheats.json]

Each cheat is written as a submission, checked and scored as a stranger's would be. DATASET is a built dataset.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import soundfile

from tiktok_dm.benchmark.baselines import pink_noise
from tiktok_dm.benchmark.leaderboard.board import BoardOptions, build
from tiktok_dm.benchmark.leaderboard.new import new, seed_folders
from tiktok_dm.benchmark.leaderboard.open_benchmark import OpenBenchmark, open_benchmark
from tiktok_dm.benchmark.leaderboard.submission import BLANK, CARD
from tiktok_dm.benchmark.metrics.alignment import motion_beats
from tiktok_dm.benchmark.motion_pulse import DancePulse, clicks_at, dance_pulse, drum_beat
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.schema import SAMPLE_RATE

FIELDS = {
    f"paper: {BLANK}": "paper: https://example.org/paper",
    f"url: {BLANK}": "url: https://example.org/code",
    f"commit: {BLANK}": "commit: 0123abc",
    f"code: {BLANK}": "code: MIT",
    f"predictions: {BLANK}": "predictions: CC-BY-4.0",
    f"track: {BLANK}": "track: closed",
    f"overlap: {BLANK}": "overlap: none",
    f"overlap_note: {BLANK}": "overlap_note: all songs compared by fingerprint",
    f"parameters: {BLANK}": "parameters: 1",
    f"hardware: {BLANK}": "hardware: one processor core",
    f"real_time_factor: {BLANK}": "real_time_factor: 0.1",
    f"- {BLANK}": "- A. Author",
}
Cheat = Callable[[Item, np.random.Generator], np.ndarray]


def cheats(opened: OpenBenchmark) -> Mapping[str, Cheat]:
    """By name: the music of a test item."""
    import librosa
    import soxr

    items, training = list(opened.reference.items.values()), opened.training

    def level(x: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(x)))) or 1.0

    def fit(x: np.ndarray, item: Item) -> np.ndarray:
        return np.resize(x, len(item.sound()))

    def own(edit: Callable[[np.ndarray], np.ndarray]) -> Cheat:
        return lambda item, rng: fit(edit(item.sound()), item)

    def other(item: Item, rng: np.random.Generator) -> np.ndarray:
        return training[int(rng.integers(len(training)))].sound()

    def pulse(item: Item) -> DancePulse:
        found = dance_pulse(item.poses[:, 0]) if item.poses is not None else None
        return found or DancePulse(120.0, 0.0)

    def clicks(item: Item) -> np.ndarray:
        return clicks_at(pulse(item).beats_s(len(item.sound()) / SAMPLE_RATE), len(item.sound()))

    def over_other(gain: float) -> Cheat:
        def make(item: Item, rng: np.random.Generator) -> np.ndarray:
            music, beat = fit(other(item, rng), item), clicks(item)
            return music + gain * level(music) / level(beat) * beat

        return make

    def noisy(decibels: float) -> Cheat:
        return lambda item, rng: (
            item.sound() + level(item.sound()) * 10 ** (-decibels / 20) * rng.standard_normal(len(item.sound()))
        )

    def sliced(item: Item, rng: np.random.Generator) -> np.ndarray:
        parts = np.array_split(item.sound(), 20)
        return np.concatenate([parts[k] for k in rng.permutation(20)])

    return {
        "the truth": own(lambda x: x),
        "the truth, softer": own(lambda x: 0.5 * x),
        "the truth half a semitone up": own(lambda x: librosa.effects.pitch_shift(x, sr=SAMPLE_RATE, n_steps=0.5)),
        "the truth two semitones up": own(lambda x: librosa.effects.pitch_shift(x, sr=SAMPLE_RATE, n_steps=2)),
        "the truth 0.5 % faster": own(lambda x: soxr.resample(x, SAMPLE_RATE * 1.005, SAMPLE_RATE)),
        "the truth stretched by 1 %": own(lambda x: librosa.effects.time_stretch(x, rate=1.01)),
        "the truth in noise at 5 dB": noisy(5),
        "the truth in noise at 0 dB": noisy(0),
        "the truth backwards": own(lambda x: x[::-1]),
        "the truth in shuffled slices": sliced,
        "the truth, low-passed by eight samples": own(lambda x: np.convolve(x, np.ones(8) / 8, "same")),
        "the truth of another clip": lambda item, rng: fit(items[(items.index(item) + 1) % len(items)].sound(), item),
        "training music": lambda item, rng: fit(other(item, rng), item),
        "one training clip for all": lambda item, rng: fit(training[0].sound(), item),
        "training music a third up": lambda item, rng: fit(
            librosa.effects.pitch_shift(other(item, rng), sr=SAMPLE_RATE, n_steps=4), item
        ),
        "clicks on the dance's pulse": lambda item, rng: clicks(item),
        "kick and hat on the dance's pulse": lambda item, rng: drum_beat(pulse(item), len(item.sound())),
        "clicks at motion beats": lambda item, rng: clicks_at(
            motion_beats(item.poses[:, 0]) if item.poses is not None else np.zeros(0), len(item.sound())
        ),
        "clicks over training music": over_other(1),
        "loud clicks over training music": over_other(10),
        "clicks in noise": lambda item, rng: clicks(item) + 0.05 * rng.standard_normal(len(item.sound())),
        "clicks eight times a second": lambda item, rng: clicks_at(
            np.arange(0, len(item.sound()) / SAMPLE_RATE, 0.125), len(item.sound())
        ),
        "a sine": lambda item, rng: 0.3 * np.sin(2 * np.pi * 440 * np.arange(len(item.sound())) / SAMPLE_RATE),
        "noise": lambda item, rng: pink_noise(item.sound(), rng),
        "silence": lambda item, rng: np.zeros(len(item.sound())),
    }


def main() -> None:
    """Print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    opened = open_benchmark(args.dataset, "clips")
    names = {}
    for number, (name, cheat) in enumerate(cheats(opened).items()):
        system = f"cheat-{number:02d}"
        names[f"{system}/1.0"] = name
        for seed in range(3):
            folder = args.work / "music" / system / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            for item in opened.reference.items.values():
                rng = np.random.default_rng([seed, number, int(item.id[-6:])])
                sound = np.asarray(cheat(item, rng), np.float64)
                # What draws nothing is a little softer with each seed, as a cheat would make it.
                sound *= (1 - 0.02 * seed) * min(1.0, 0.99 / max(1e-9, float(np.abs(sound).max())))
                soundfile.write(folder / f"{item.id}.wav", sound, SAMPLE_RATE, subtype="PCM_16")
        place = args.work / "submissions" / system / "1.0"
        new(place, args.dataset, seed_folders(args.work / "music" / system))
        card = (place / CARD).read_text(encoding="utf-8")
        for blank, filled in FIELDS.items():
            card = card.replace(blank, filled)
        (place / CARD).write_text(card, encoding="utf-8")
    board = build(args.work / "submissions", args.dataset, args.work / "site", BoardOptions(), work=args.work / "kept")
    rows = {row["name"]: row for row in board.data["rows"]}
    told = []
    for key, name in names.items():
        row = rows.get(key)
        verdict = row["verdict"] if row else None
        what = (
            "refused"
            if row is None
            else "not ranked"
            if verdict["failures"]
            else "rank {}-{}".format(*verdict["ranks"])
        )
        why = str(board.refused[key][0]) if row is None else " ".join(verdict["failures"])
        score = row["metrics"]["beat_f_70ms"]["value"] if row else None
        told.append(
            {
                "cheat": name,
                "verdict": what,
                "beat_f_70ms": score,
                "why": why.partition(": ")[2] if row is None else why,
            }
        )
        print(f"{name}: {what}{'' if score is None else f', beat F {score:.2f}'}", flush=True)
    if args.json:
        songs = board.data["benchmark"]["songs"]
        args.json.write_text(json.dumps({"songs": songs, "cheats": told}, indent=1) + "\n")


if __name__ == "__main__":
    main()
