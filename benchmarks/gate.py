"""How often the leaderboard's gate errs: systems that make music, and systems that do not, drawn by seed.

    python -m benchmarks.gate [--seeds 1 4] [--songs 16] [--json benchmarks/gate.json]

The test music is ten seconds of each of the embedded songs of a seed; a system's music is made of other songs of that
seed, or of clicks and noise. Whether each passes is printed beside whether it should. The shares in
`leaderboard.verdict` were chosen on seed 0.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from tiktok_dm.benchmark.baselines import pink_noise
from tiktok_dm.benchmark.embedders.registry import get_embedder
from tiktok_dm.benchmark.leaderboard.verdict import Levels, failures, halves
from tiktok_dm.benchmark.metrics.distribution import distribution_metrics
from tiktok_dm.benchmark.motion_pulse import DancePulse, clicks_at, drum_beat
from tiktok_dm.schema import SAMPLE_RATE

SECONDS, START_S = 10, 8
Sounds = list[np.ndarray]


def excerpts(seed: int, first: int, count: int) -> Sounds:
    """Ten seconds of songs of the embedded demo, float32 (samples,)."""
    import soxr

    from tiktok_dm.synthetic.music import render_song

    samples = slice(START_S * SAMPLE_RATE, (START_S + SECONDS) * SAMPLE_RATE)
    return [
        soxr.resample(render_song(seed, first + k), 44_100, SAMPLE_RATE)[samples].astype(np.float32)
        for k in range(count)
    ]


def low_pass(sound: np.ndarray, hertz: float) -> np.ndarray:
    """A Butterworth filter of sixth order."""
    from scipy.signal import butter, sosfilt

    return np.asarray(sosfilt(butter(6, hertz, fs=SAMPLE_RATE, output="sos"), sound))


def systems(train: Sounds, rng: np.random.Generator) -> dict[str, tuple[bool, Sounds]]:
    """By name: whether it should pass, and its music."""
    import librosa

    samples = SECONDS * SAMPLE_RATE
    pulses = [DancePulse(float(rng.uniform(80, 160)), float(rng.uniform(0, 0.3))) for _ in train]
    clicks = [clicks_at(pulse.beats_s(SECONDS), samples) for pulse in pulses]
    drums = [drum_beat(pulse, samples) for pulse in pulses]

    def level(sound: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(sound))))

    def over(others: Sounds, gain: float) -> Sounds:
        return [a + gain * level(a) / level(b) * b for a, b in zip(train, others, strict=True)]

    def noisy(decibels: float) -> Sounds:
        return [x + level(x) * 10 ** (-decibels / 20) * rng.standard_normal(len(x)) for x in train]

    def sliced(sound: np.ndarray) -> np.ndarray:
        return np.concatenate([np.array_split(sound, 20)[k] for k in rng.permutation(20)])

    return {
        "other songs": (True, train),
        "other songs reversed": (True, [x[::-1] for x in train]),
        "other songs 1.2 times as fast": (True, [librosa.effects.time_stretch(x, rate=1.2) for x in train]),
        "other songs 0.8 times as fast": (True, [librosa.effects.time_stretch(x, rate=0.8) for x in train]),
        "other songs up a third": (True, [librosa.effects.pitch_shift(x, sr=SAMPLE_RATE, n_steps=4) for x in train]),
        "other songs below 4 kHz": (True, [low_pass(x, 4000) for x in train]),
        "other songs in slices": (True, [sliced(x) for x in train]),
        "loops of half a second": (True, [np.resize(x[: SAMPLE_RATE // 2], samples) for x in train]),
        "other songs with quiet drums": (True, over(drums, 0.3)),
        "other songs with noise at 20 dB": (True, noisy(20)),
        "silence": (False, [np.zeros(samples)] * len(train)),
        "pink noise": (False, [pink_noise(x, rng) for x in train]),
        "white noise": (False, [0.1 * rng.standard_normal(samples) for _ in train]),
        "clicks": (False, clicks),
        "kick and hat": (False, drums),
        "a sine": (False, [0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / SAMPLE_RATE)] * len(train)),
        "clicks in noise": (False, [a + 0.05 * rng.standard_normal(samples) for a in clicks]),
        "other songs below 1 kHz": (False, [low_pass(x, 1000) for x in train]),
        "other songs with noise at 5 dB": (False, noisy(5)),
        "other songs with clicks at ten times": (False, over(clicks, 10)),
    }


def main() -> None:
    """Print, and write if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs=2, type=int, default=(1, 4))
    parser.add_argument("--songs", type=int, default=16)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    made = get_embedder("log-mel", None)

    def embedded(sounds: Sounds) -> Sounds:
        return [made.embed(np.asarray(sound, np.float32), SAMPLE_RATE) for sound in sounds]

    rows = []
    for seed in range(*args.seeds):
        test = embedded(excerpts(seed, 0, args.songs))
        drawn = systems(excerpts(seed, 1000, args.songs), np.random.default_rng(seed))

        def scores(sounds: Sounds, test: Sounds = test) -> dict[str, float]:
            return distribution_metrics(np.concatenate(test), np.concatenate(embedded(sounds)))

        middle = halves(test, range(len(test)))
        levels = Levels(middle["kad"], middle["coverage"], scores(drawn["pink noise"][1])["kad"])
        for name, (should, sounds) in drawn.items():
            found = scores(sounds)
            passed = not failures(found["kad"], found["coverage"], levels)
            rows.append(
                {
                    "seed": seed,
                    "system": name,
                    "kad": round(found["kad"], 2),
                    "coverage": round(found["coverage"], 3),
                    "kad_limit": round(levels.kad_limit, 2),
                    "passed": passed,
                    "should": should,
                }
            )
            print(
                f"{seed} {name}: KAD {found['kad']:.1f} of {levels.kad_limit:.1f}, coverage {found['coverage']:.3f}",
                end="",
            )
            print(f", {'passed' if passed else 'failed'}{'' if passed == should else ', which is wrong'}", flush=True)
    wrong = {
        side: sum(row["passed"] != row["should"] for row in rows if row["should"] == side) for side in (True, False)
    }
    print(f"music that failed: {wrong[True]}, other sound that passed: {wrong[False]}, of {len(rows)} systems")
    if args.json:
        args.json.write_text(json.dumps({"songs": args.songs, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
