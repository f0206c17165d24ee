"""How well clips with the same music are found: recall against speed, noise and excerpt length, and false matches.

Excerpts of songs are edited (played faster or slower, time-stretched, transposed), damaged (noise, a voice over them,
coding), and searched in an index of all songs at the operating point of `tiktok-dm propose`. Found means: a clip of the
right song at a confidence of at least 0.5. A false match is another song at that confidence; its rate is over all pairs
of an excerpt and another song. Songs are synthesised (`tiktok_dm.synthetic.music`, other seeds than those that the
confidence was fitted on, though settings were changed after looking at them) and, where a folder of compilations with
truth files is given, real ones, cut by the truth (these are not held out: edited copies of the two given compilations
were among what the confidence was fitted on).
Real sound is not kept: the results are numbers only.

    python benchmarks/songs.py [--data FOLDER] [--json FILE] [--songs N]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

RATE = 22_050
SEED = 2026
SPEEDS = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.06, 1.1, 1.13, 1.2, 1.25, 1.3)
EXCERPTS_S = (3, 5, 8, 12)
SONG_S = 16.0  # of each synthesised song in the index
Sound = np.ndarray


def played(sound: Sound, speed: float) -> Sound:
    """Speed and pitch together, as of a record that turns faster."""
    import soxr

    return soxr.resample(sound, RATE * speed, RATE).astype(np.float32)


def stretched(sound: Sound, speed: float) -> Sound:
    """Speed alone (a phase vocoder)."""
    import librosa

    return sound if speed == 1 else librosa.effects.time_stretch(sound, rate=speed).astype(np.float32)


def transposed(sound: Sound, pitch: float) -> Sound:
    """Pitch alone."""
    return sound if pitch == 1 else played(stretched(sound, 1 / pitch), pitch)


EDITS: dict[str, Callable[[Sound, float], Sound]] = {
    "played faster": played,
    "time-stretched": stretched,
    "transposed": transposed,
}


def noise(sound: Sound, snr_db: float, rng: np.random.Generator) -> Sound:
    """With white noise."""
    return mixed(sound, rng.standard_normal(len(sound)), snr_db)


def voice(sound: Sound, snr_db: float, rng: np.random.Generator) -> Sound:
    """With a babble of syllables: gliding harmonics under two formants."""
    t = np.arange(len(sound)) / RATE

    def wander(every_s: float, draw: Callable[[int], np.ndarray]) -> np.ndarray:
        knots = np.arange(0, t[-1] + 2 * every_s, every_s)
        return np.interp(t, knots, draw(len(knots)))

    pitch = wander(0.15, lambda n: np.exp(rng.normal(np.log(170), 0.2, n)))
    formants = wander(0.2, lambda n: rng.uniform(300, 900, n)), wander(0.2, lambda n: rng.uniform(900, 2500, n))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    babble = np.zeros(len(sound))
    for k in range(1, 25):
        low, high = (((k * pitch - one) / width) ** 2 for one, width in zip(formants, (250, 350), strict=True))
        shape = np.exp(-low) + 0.5 * np.exp(-high)
        babble += (shape + 0.05) / k * np.sin(k * phase)
    return mixed(sound, babble * wander(0.12, lambda n: rng.random(n) ** 1.5), snr_db)


def mixed(sound: Sound, other: np.ndarray, snr_db: float) -> Sound:
    gain = np.sqrt(np.mean(sound**2) / np.mean(other**2)) * 10 ** (-snr_db / 20)
    return (sound + gain * other).astype(np.float32)


def coded(sound: Sound, kilobits: int) -> Sound:
    from tiktok_dm.benchmark.codec_round_trip import AAC

    return AAC(kilobits)(np.clip(sound, -1, 1), RATE)


def equalised(sound: Sound, rng: np.random.Generator) -> Sound:
    """Through a filter of eight bands at random, -9 to 9 dB."""
    from scipy.signal import fftconvolve, firwin2

    taps = firwin2(257, np.linspace(0, 1, 8), 10 ** (rng.uniform(-9, 9, 8) / 20))
    return fftconvolve(sound, taps, "same").astype(np.float32)


def fading(sound: Sound) -> Sound:
    """From -34 dB to full."""
    return (sound * np.geomspace(0.02, 1, len(sound))).astype(np.float32)


DAMAGES: dict[str, Callable[[Sound, np.random.Generator], Sound]] = {
    "none": lambda x, _: x,
    "noise, SNR 20 dB": lambda x, rng: noise(x, 20, rng),
    "noise, SNR 10 dB": lambda x, rng: noise(x, 10, rng),
    "noise, SNR 5 dB": lambda x, rng: noise(x, 5, rng),
    "noise, SNR 0 dB": lambda x, rng: noise(x, 0, rng),
    "voice 10 dB below": lambda x, rng: voice(x, 10, rng),
    "voice 5 dB below": lambda x, rng: voice(x, 5, rng),
    "voice as loud": lambda x, rng: voice(x, 0, rng),
    "AAC at 32 kbit/s": lambda x, _: coded(x, 32),
    "equaliser, 9 dB": equalised,
    "fading in from -34 dB": lambda x, _: fading(x),
    "30 dB quieter": lambda x, _: (0.03 * x).astype(np.float32),
}


def synthesised(count: int) -> dict[str, tuple[str, Sound]]:
    """Clip -> (song, sound): `count` songs of all six styles."""
    from tiktok_dm.synthetic.music import render_song

    rng = np.random.default_rng(SEED)
    found = {}
    for number in range(count):
        whole = played(render_song(SEED, number), 44_100 / RATE)
        first = int(rng.uniform(0, len(whole) / RATE - SONG_S) * RATE)
        found[f"synthesised {number}"] = (f"synthesised {number}", whole[first : first + int(SONG_S * RATE)])
    return found


def real(folder: Path) -> dict[str, tuple[str, Sound]]:
    """Clip -> (song, sound) of the compilations in a folder."""
    from tiktok_dm.media import read_audio

    found = {}
    for truth in sorted(folder.glob("*.truth.json")):
        told = json.loads(truth.read_text(encoding="utf-8"))
        for clip in told["clips"]:
            sound = read_audio(folder / told["file"], sample_rate=RATE, start_s=clip["start_s"], end_s=clip["end_s"])
            found[f"{truth.stem} {clip['index']}"] = (f"real {clip['song']}", sound)
    return found


class Bed:
    """An index of all clips, and trials against it."""

    def __init__(self, clips: dict[str, tuple[str, Sound]]) -> None:
        from tiktok_dm.audio.song_index import SongIndex
        from tiktok_dm.audio.spectrogram_sketch import sketch

        self.clips = clips
        self.index = SongIndex()
        start = time.process_time()
        for key, (_, sound) in clips.items():
            self.index.add(key, sketch(sound, RATE))
        self.sketch_s = time.process_time() - start
        self.minutes = sum(len(sound) for _, sound in clips.values()) / RATE / 60
        self.rng = np.random.default_rng(SEED + 1)
        self.others = self.false = 0
        songs = {song for song, _ in clips.values()}
        self.counts = {kind: sum(song.startswith(kind) for song in songs) for kind in ("synthesised", "real")}

    def recall(
        self, edit: Callable[[Sound, float], Sound], change: float, excerpt_s: float, damage: str
    ) -> dict[str, float]:
        """Share of excerpts that are found, of synthesised and real songs, with how many were tried."""
        from tiktok_dm.audio.song_index import USED
        from tiktok_dm.audio.spectrogram_sketch import sketch

        hits: dict[str, list[bool]] = {"synthesised": [], "real": []}
        speed = 1.0 if edit is transposed else change
        for song, sound in self.clips.values():
            need = int(excerpt_s * speed * RATE) + 1
            if len(sound) < need:
                continue
            first = int(self.rng.integers(0, len(sound) - need + 1))
            excerpt = DAMAGES[damage](edit(sound[first : first + need], change), self.rng)
            pairs = self.index.search(sketch(excerpt, RATE))
            found = {self.clips[pair.a][0] for pair in pairs if pair.confidence >= USED}
            kind = song.split()[0]
            hits[kind].append(song in found)
            self.others += sum(self.counts.values()) - 1
            self.false += len(found - {song})
        out: dict[str, float] = {}
        for kind, one in hits.items():
            if one:
                out |= {kind: round(float(np.mean(one)), 3), f"{kind} n": len(one)}
        return out


def alike(songs: int = 16) -> dict[str, float]:
    """Different house tracks that share drum sounds, patterns and progressions: how often two are taken for one."""
    from tiktok_dm.audio.song_index import USED, SongIndex
    from tiktok_dm.audio.spectrogram_sketch import sketch
    from tiktok_dm.synthetic.music import render_song

    rng = np.random.default_rng(SEED + 2)
    index = SongIndex()
    for number in range(songs):
        whole = played(render_song(SEED + 1, 6 * number), 44_100 / RATE)
        for k in range(2):
            first = int(rng.uniform(0, len(whole) / RATE - 9) * RATE)
            index.add(f"{number} {k}", sketch(whole[first : first + 9 * RATE], RATE))
    pairs = {(p.a, p.b) for p in index.pairs() if p.confidence >= USED}
    false = {frozenset((a.split()[0], b.split()[0])) for a, b in pairs if a.split()[0] != b.split()[0]}
    clips = sum(a.split()[0] != b.split()[0] for a, b in pairs)
    count = songs * (songs - 1) // 2
    return {
        "pairs of songs": count,
        "taken for one": len(false),
        "pairs of clips": 4 * count,
        "clips taken for one song": clips,
        "rate": round(clips / (4 * count), 5),
    }


def real_pairs(folder: Path) -> dict[str, dict[str, float]]:
    """Same-song pairs of the compilations with true clip times, each alone and all together, after grouping."""
    from tiktok_dm.audio.song_index import SongIndex
    from tiktok_dm.audio.spectrogram_sketch import sketch
    from tiktok_dm.curate.song_groups import group_songs

    clips = real(folder)
    index = SongIndex()
    for key, (_, sound) in clips.items():
        index.add(key, sketch(sound, RATE))
    pairs = index.pairs()
    out = {}
    for name in [*sorted({key.rsplit(" ", 1)[0] for key in clips}), ""]:
        keys = [key for key in clips if key.startswith(name)]
        # The picture's cut inside one song, as the search for cuts reports it.
        runs = [(a, b, 0.9) for a, b in pairwise(keys) if (a, b) == ("compilation_b.truth 0", "compilation_b.truth 1")]
        song = group_songs(keys, pairs, runs_on=runs).song_of
        both = [(a, b) for i, a in enumerate(keys) for b in keys[:i]]
        right = {pair for pair in both if clips[pair[0]][0] == clips[pair[1]][0]}
        said = {pair for pair in both if song[pair[0]] == song[pair[1]]}
        out[name or "together"] = {
            "same-song pairs": len(right),
            "found": len(right & said),
            "false": len(said - right),
            "F1": round(2 * len(right & said) / (len(right) + len(said)), 4),
        }
    return out


def measure(data: Path | None, songs: int) -> dict[str, Any]:
    clips = synthesised(songs)
    if data is not None:
        clips |= real(data)
    bed = Bed(clips)
    start = time.process_time()
    pairs = bed.index.pairs()
    search_s = time.process_time() - start
    from tiktok_dm.audio.song_index import USED

    wrong = [p for p in pairs if p.confidence >= USED and clips[p.a][0] != clips[p.b][0]]
    result: dict[str, Any] = {
        "clips": len(clips),
        "minutes of sound": round(bed.minutes, 2),
        "processor seconds a minute of sound": {
            "sketches": round(bed.sketch_s / bed.minutes, 3),
            "search among them": round(search_s / bed.minutes, 3),
        },
        "speed, excerpts of 5 s": {
            name: {f"{speed:g}": bed.recall(edit, speed, 5, "none") for speed in SPEEDS} for name, edit in EDITS.items()
        },
        "damage, excerpts of 5 s": {
            f"{name} {speed:g}": {damage: bed.recall(EDITS[name], speed, 5, damage) for damage in DAMAGES}
            for name, speed in (("played faster", 1.0), ("played faster", 1.13), ("time-stretched", 1.13))
        },
        "length, noise at SNR 10 dB": {
            f"{name} {speed:g}": {
                f"{length} s": bed.recall(EDITS[name], speed, length, "noise, SNR 10 dB") for length in EXCERPTS_S
            }
            for name, speed in (("played faster", 1.0), ("played faster", 1.25), ("time-stretched", 1.13))
        },
    }
    result["false matches"] = {
        "of excerpts and other songs": bed.others,
        "false": bed.false,
        "rate": round(bed.false / bed.others, 6),
        "between the clips as they are": len(wrong),
    }
    result["house tracks that share drums"] = alike()
    if data is not None:
        result["compilations, true clip times"] = real_pairs(data)
    return result


def show(result: dict[str, Any]) -> None:
    for title, part in result.items():
        if not title.startswith(("speed,", "damage,", "length,")):
            print(f"{title}: {json.dumps(part)}")
            continue
        print(f"\n{title}: share found (n), synthesised | real")
        columns = list(part)
        print(f"{'':24}" + "".join(f"{name:>34}" for name in columns))
        for row in next(iter(part.values())):
            cells = []
            for name in columns:
                cell = part[name][row]
                cells.append(
                    " | ".join(f"{cell[k]:.2f} ({cell[k + ' n']})" for k in ("synthesised", "real") if k in cell)
                )
            print(f"{row:24}" + "".join(f"{cell:>34}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of compilations with *.truth.json beside them")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--songs", type=int, default=18, help="synthesised songs")
    arguments = parser.parse_args()
    start = time.process_time()
    result = measure(arguments.data, arguments.songs)
    result["machine"] = f"{platform.machine()}, Python {platform.python_version()}"
    result["processor seconds of all"] = round(time.process_time() - start, 1)
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
