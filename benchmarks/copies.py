"""What the leaderboard's search for edited music finds, and how often it takes other music for a copy.

    python -m benchmarks.copies [--seed 3] [--songs 100] [--copies 8] [--json benchmarks/copies.json]

Ten seconds of each of the embedded songs of a seed are the dataset. Its copies are edited in many ways; other songs of
the same generator, and the dataset's own songs searched among the others, are no copies.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tiktok_dm.audio.landmark_fingerprint import FOUND, fingerprint, match
from tiktok_dm.audio.song_index import SongIndex
from tiktok_dm.audio.spectrogram_sketch import sketch
from tiktok_dm.benchmark.leaderboard.open_benchmark import EDITED
from tiktok_dm.schema import SAMPLE_RATE

SECONDS, START_S = 10, 8
Edit = Callable[[np.ndarray], np.ndarray]


def excerpt(seed: int, song: int) -> np.ndarray:
    """Ten seconds of a song of the embedded demo, float32 (samples,)."""
    import soxr

    from tiktok_dm.synthetic.music import render_song

    part = slice(START_S * SAMPLE_RATE, (START_S + SECONDS) * SAMPLE_RATE)
    return np.asarray(soxr.resample(render_song(seed, song), 44_100, SAMPLE_RATE)[part], np.float32)


def edits(others: list[np.ndarray], rng: np.random.Generator) -> dict[str, Edit]:
    """By name what is done to music, in the order in which it is printed."""
    import librosa
    import soxr
    from scipy.signal import butter, fftconvolve, sosfilt

    def level(x: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(x))))

    def transposed(semitones: float) -> Edit:
        return lambda x: librosa.effects.pitch_shift(x, sr=SAMPLE_RATE, n_steps=semitones)

    def faster(rate: float) -> Edit:
        return lambda x: soxr.resample(x, SAMPLE_RATE * rate, SAMPLE_RATE)

    def stretched(rate: float) -> Edit:
        return lambda x: librosa.effects.time_stretch(x, rate=rate)

    def noisy(decibels: float) -> Edit:
        return lambda x: x + level(x) * 10 ** (-decibels / 20) * rng.standard_normal(len(x))

    def filtered(low: float, high: float) -> Edit:
        return lambda x: sosfilt(butter(4, [low, high], "band", fs=SAMPLE_RATE, output="sos"), x)

    def echoing(x: np.ndarray) -> np.ndarray:
        room = rng.standard_normal(SAMPLE_RATE) * np.exp(-np.arange(SAMPLE_RATE) / (0.25 * SAMPLE_RATE))
        room[0] = 8
        return fftconvolve(x, room)[: len(x)]

    def other() -> np.ndarray:
        return others[int(rng.integers(len(others)))]

    def mixed(x: np.ndarray) -> np.ndarray:
        y = other()
        return x + level(x) / level(y) * y

    def sliced(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.array_split(x, 20)[k] for k in rng.permutation(20)])

    return {
        **{f"{step:+g} semitones": transposed(step) for step in (0.1, 0.5, -1, 2, 4, 6)},
        **{f"{rate:g} times as fast": faster(rate) for rate in (1.005, 1.03, 0.8, 1.25)},
        **{f"stretched to {rate:g} times the tempo": stretched(rate) for rate in (1.01, 1.1, 0.85)},
        "1.1 times as fast and -1 semitone": lambda x: transposed(-1)(faster(1.1)(x)),
        **{f"white noise at {snr} dB": noisy(snr) for snr in (5, 0, -5)},
        "telephone": filtered(300, 3400),
        "below 1 kHz": filtered(20, 1000),
        "above 2 kHz": filtered(2000, 8000),
        "a room": echoing,
        "clipped": lambda x: np.tanh(8 * x),
        "four bits": lambda x: np.round(x / np.abs(x).max() * 7) / 7,
        "the first half, then another song": lambda x: np.concatenate([x[: len(x) // 2], other()[len(x) // 2 :]]),
        "another song as loud over it": mixed,
        "the first two seconds, repeated": lambda x: np.resize(x[: 2 * SAMPLE_RATE], len(x)),
        "backwards": lambda x: x[::-1],
        "slices of half a second, shuffled": sliced,
    }


def main() -> None:
    """Print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--songs", type=int, default=100)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    songs = [excerpt(args.seed, k) for k in range(args.songs)]
    others = [excerpt(args.seed + 1, 1000 + k) for k in range(args.songs)]
    index = SongIndex()
    for k, song in enumerate(songs):
        index.add(str(k), sketch(song, SAMPLE_RATE))

    def confidence(sound: np.ndarray, without: str | None = None, only: str | None = None) -> float:
        found = index.search(sketch(np.asarray(sound, np.float32), SAMPLE_RATE))
        return max((one.confidence for one in found if one.a != without and only in (None, one.a)), default=0.0)

    rng = np.random.default_rng(args.seed)
    rows = []
    for name, edit in edits(others, rng).items():
        copies = [np.asarray(edit(song), np.float32) for song in songs[: args.copies]]
        # Also played backwards, as the leaderboard searches.
        by_search = [max(confidence(x, only=str(k)), confidence(x[::-1], only=str(k))) for k, x in enumerate(copies)]
        prints = [
            match(fingerprint(x, SAMPLE_RATE), fingerprint(songs[k], SAMPLE_RATE)).score for k, x in enumerate(copies)
        ]
        row = {
            "edit": name,
            "copies": len(copies),
            "found_by_search": sum(c >= EDITED for c in by_search),
            "found_by_fingerprint": sum(score >= FOUND for score in prints),
            "found": sum(c >= EDITED or score >= FOUND for c, score in zip(by_search, prints, strict=True)),
        }
        rows.append(row)
        print(*row.values(), sep=", ", flush=True)
    chance = [max(confidence(x), confidence(x[::-1])) for x in others]
    chance += [confidence(song, without=str(k)) for k, song in enumerate(songs)]
    wrong = sum(c >= EDITED for c in chance)
    print(f"other music taken for a copy: {wrong} of {len(chance)} pieces")
    if args.json:
        alarms = {"pieces": len(chance), "taken_for_a_copy": wrong}
        record = {"seed": args.seed, "songs": args.songs, "confidence": EDITED, "edits": rows, "other_music": alarms}
        args.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
