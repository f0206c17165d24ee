"""Does the music that the demo model made follow the dances? Its tempo and beats against true and shuffled pairs.

    python tools/score_demo_model.py GENERATED DATASET [--split test] [--json FILE]

GENERATED holds `clip_000012.wav` for clip 12, as `d2m sample` writes them for a dataset; DATASET is a built dataset.
Every wav is measured by the dataset's own music stage (`tiktok_dm.pipeline.music`) and held against its own clip's
dance (true pair) and against every dance to another song (shuffled pairs). Music that does not follow the dance scores
the same on both; the p-value says how often a random pairing of wavs and dances does as well as the true one.

| number | what it is |
|---|---|
| tempo error | distance of the wav's tempo from the clip's, at the nearest octave (half and double count as right) |
| motion error | the same against the tempo of the dancer's speed alone, where no music is looked at |
| F beats, F onsets | F-measure of the wav's beats (onsets) against the beats that are danced to, within 70 ms |

Rows: the generated music; the clips' own music, the upper bound (its beats are the ones that the dataset holds, so its
F of beats is 1 by construction); a click track at 120 beats a minute, the same for all; and, with no learning at all, a
metronome and a kick with hat on the dance's own pulse, and a click at each of its motion beats. This is the demo's own
check on synthetic dances and no benchmark.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.benchmark.metrics.alignment import motion_beats
from tiktok_dm.benchmark.motion_pulse import DancePulse, clicks_at, dance_pulse, drum_beat
from tiktok_dm.errors import Filtered, UserError
from tiktok_dm.pipeline.music import MusicParams, music, tempo, warm_up

WINDOW_S = 0.07  # of beats that meet, as in MIREX and mir_eval
CLICKS_BPM = 120.0
POSE_FPS = 30.0
ALL = "all"  # in place of a split: for a model that was trained on another dataset, every clip is unseen
_EXACT = 5_040  # permutations that are still all tried: those of 7 pairs
_DRAWN = 10_000
_MIN_SURE = 0.3  # confidence of a joint that counts for the dancer's speed


@dataclass(frozen=True)
class Heard:
    """What is measured of one piece of music.

    Args:
        seconds: its length.
        bpm: tempo, None where there is no pulse.
        beats_s, onsets_s: tracked beats and detected onsets, s, ascending.
    """

    seconds: float
    bpm: float | None
    beats_s: np.ndarray
    onsets_s: np.ndarray


@dataclass(frozen=True)
class Danced:
    """What a dance asks of its music.

    Args:
        seconds: the clip's length.
        bpm: tempo of the clip's music.
        beats_s: its beats, s.
        motion_bpm: tempo of the lead dancer's speed; None where nobody moves.
    """

    clip_id: int
    song_id: int
    seconds: float
    bpm: float | None
    beats_s: np.ndarray
    motion_bpm: float | None


# ------------------------------------------------------------------------------------------------ numbers of a pair


def octaves_off(bpm: float | None, wanted: float | None) -> float:
    """|log2(bpm / wanted)| at the nearest octave, 0 to 0.5; 0.5, the worst there is, where either has no tempo."""
    if not bpm or not wanted:
        return 0.5
    octaves = math.log2(bpm / wanted)
    return abs(octaves - round(octaves))


def percent(octaves: float) -> float:
    """A distance in octaves as per cent of the lower tempo."""
    return 100 * (2**octaves - 1)


def f_measure(found_s: np.ndarray, wanted_s: np.ndarray, window_s: float = WINDOW_S) -> float:
    """F-measure 2 m / (found + wanted), m the largest number of one-to-one pairs within the window; 0 if one is empty.

    Both are ascending. Since all windows are equally wide, pairing the earliest that meet never costs a pair, so one
    walk along both finds the largest matching (Davies et al. 2009 has the measure).
    """
    if not len(found_s) or not len(wanted_s):
        return 0.0
    i = j = pairs = 0
    while i < len(found_s) and j < len(wanted_s):
        apart = found_s[i] - wanted_s[j]
        if abs(apart) <= window_s + 1e-9:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif apart < 0:
            i += 1
        else:
            j += 1
    return 2 * pairs / (len(found_s) + len(wanted_s))


def pair_f(events_s: np.ndarray, heard: Heard, dance: Danced) -> float:
    """F-measure of a piece's events against a dance's beats, within the length that both have."""
    end = min(heard.seconds, dance.seconds)
    return f_measure(events_s[events_s < end], dance.beats_s[dance.beats_s < end])


def permutation_p(table: np.ndarray, *, seed: int = 0) -> float:
    """Share of pairings of wavs (rows) with dances (columns) whose mean error is no larger than the true one's.

    The true pairing is the diagonal and counts as one of them. Up to 7 pairs all pairings are tried, beyond that
    10,000 random ones.

    Args:
        table: (n, n) errors; lower is better.
    """
    n = len(table)
    true = float(np.trace(table))
    rows = np.arange(n)
    pairings: Iterator[Sequence[int] | np.ndarray]
    if math.factorial(min(n, 12)) <= _EXACT:
        pairings, extra, count = itertools.permutations(range(n)), 0, math.factorial(n)
    else:
        rng = np.random.default_rng(seed)
        pairings, extra, count = (rng.permutation(n) for _ in range(_DRAWN)), 1, _DRAWN + 1
    as_good = sum(float(table[rows, list(pairing)].sum()) <= true + 1e-9 for pairing in pairings)
    return (as_good + extra) / count


# --------------------------------------------------------------------------------------------------- measuring


def hear(samples: np.ndarray, rate: int) -> Heard:
    """Measure music, float (samples,) or (samples, channels), at any rate."""
    import soundfile

    params = MusicParams()
    librosa = warm_up()
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    seconds = len(mono) / rate
    if rate != params.sample_rate:
        import soxr

        mono = soxr.resample(mono, rate, params.sample_rate)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "music.wav", np.clip(mono, -1, 1), params.sample_rate, subtype="FLOAT")
        try:
            record = music(folder / "music.wav", params, folder)
        except Filtered:  # silence
            return Heard(seconds, None, np.zeros(0), np.zeros(0))
        envelope = np.load(folder / "onset.npy")
    onsets = librosa.onset.onset_detect(
        onset_envelope=envelope, sr=params.sample_rate, hop_length=params.hop_length, units="time"
    )
    onsets = np.maximum(onsets - params.onset_delay_s, 0)
    return Heard(seconds, record["tempo_bpm"], np.asarray(record["beats_s"], dtype=float), onsets)


def motion_tempo(poses: np.ndarray) -> float | None:
    """Tempo of a dancer's mean joint speed, poses (frames, 25, 3) at 30 a second.

    Dancers rest on beats, so the speed is read upside down; its pulse is one step, which may be one beat or two.
    """
    sure = (poses[1:, :, 2] > _MIN_SURE) & (poses[:-1, :, 2] > _MIN_SURE)
    speed = np.linalg.norm(np.diff(poses[..., :2], axis=0), axis=-1)
    mean = np.where(sure, speed, 0).sum(axis=1) / np.maximum(sure.sum(axis=1), 1)
    return tempo(-mean, POSE_FPS)[0]


def clicks(seconds: float, bpm: float, rate: int = 22_050, first_s: float = 0.0) -> np.ndarray:
    """A click track, float32 (samples,): 1 kHz decaying within 20 ms on each beat from `first_s` on."""
    samples = np.zeros(round(seconds * rate), dtype=np.float32)
    time_s = np.arange(round(0.05 * rate)) / rate
    click = (0.8 * np.exp(-time_s / 0.008) * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
    for beat_s in np.arange(first_s, seconds, 60 / bpm):
        start = round(beat_s * rate)
        part = samples[start : start + len(click)]
        part += click[: len(part)]
    return samples


# ------------------------------------------------------------------------------------------------------- systems


def compare(heard: Sequence[Heard], dances: Sequence[Danced]) -> dict[str, Any]:
    """One system's row: every wav against its own dance (same index) and against dances to other songs.

    Returns:
        For `tempo`, `motion`: median error in per cent and mean |log2 ratio| (at the nearest octave, and `log2_strict`
        at the same octave), shares within 4 % and 8 %; for `f_beats`, `f_onsets`: mean. Each `true` and `shuffled`,
        with `p`.
    """
    other = np.array([[a.song_id != b.song_id for b in dances] for a in dances])
    if not other.any():
        raise UserError("all clips dance to one song, so there is nothing to shuffle: give a split with more songs")
    row: dict[str, Any] = {"clips": len(heard), "without_tempo": sum(h.bpm is None for h in heard)}
    for name in ("tempo", "motion"):
        wanted = [dance.bpm if name == "tempo" else dance.motion_bpm for dance in dances]
        table = np.array([[octaves_off(h.bpm, bpm) for bpm in wanted] for h in heard])
        strict = np.array([[abs(math.log2(h.bpm / bpm)) if h.bpm and bpm else 1.0 for bpm in wanted] for h in heard])
        row[name] = {"p": permutation_p(table)}
        for kind, off, ratio in (
            ("true", np.diag(table), np.diag(strict)),
            ("shuffled", table[other], strict[other]),
        ):
            row[name][kind] = {
                "median_percent": round(percent(float(np.median(off))), 2),
                "log2": round(float(off.mean()), 4),
                "log2_strict": round(float(ratio.mean()), 4),
                "within_4": round(float((off <= math.log2(1.04)).mean()), 4),
                "within_8": round(float((off <= math.log2(1.08)).mean()), 4),
            }
    for name, events in (("f_beats", "beats_s"), ("f_onsets", "onsets_s")):
        table = np.array([[pair_f(getattr(h, events), h, dance) for dance in dances] for h in heard])
        row[name] = {
            "true": round(float(np.diag(table).mean()), 4),
            "shuffled": round(float(table[other].mean()), 4),
            "p": permutation_p(-table),
        }
    return row


def read_generated(folder: Path) -> dict[int, Path]:
    """The wavs of a folder by clip id.

    Raises:
        UserError: no folder, or none of its files is named after a clip.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the one that `d2m sample DATASET --out` wrote")
    found = {
        int(match[1]): path
        for path in sorted(folder.glob("*.wav"))
        if (match := re.fullmatch(r"clip_([0-9]+)", path.stem)) is not None
    }
    if not found:
        raise UserError(f"{folder} holds no clip_000012.wav or the like: sample a dataset into it (`d2m sample`)")
    return found


def score(generated: Path, dataset: Path, split: str = "test") -> dict[str, Any]:
    """All rows for the clips of a split (or `all`) that have a wav.

    Returns:
        split, clips (one dict a clip: ids and tempi), systems: name to `compare`'s row.

    Raises:
        UserError: a split that is not there, or fewer than two of its clips with a wav.
    """
    import soundfile

    from tiktok_dm.reading import decode_audio, open_dataset

    wavs = read_generated(generated)
    opened = open_dataset(dataset)
    if split != ALL and split not in opened:
        raise UserError(f"{dataset} has no split {split!r}; it has {', '.join(opened)} (and {ALL})")
    columns = ["clip_id", "song_id", "duration_s", "tempo_bpm", "beats_s", "pose", "audio"]
    dances: list[Danced] = []
    heard: dict[str, list[Heard]] = {"generated": [], "ground truth": [], "clicks at 120 bpm": []}
    heard |= {name: [] for name in ("motion metronome", "motion drums", "motion hits")}
    splits = list(opened) if split == ALL else [split]
    for row in (row for name in splits for row in opened[name].select_columns(columns)):
        clip_id = int(row["clip_id"])
        if clip_id not in wavs:
            continue
        poses = np.asarray(row["pose"], dtype=np.float32)[:, 0]
        seconds, beats = float(row["duration_s"]), np.asarray(row["beats_s"], dtype=float)
        dances.append(Danced(clip_id, int(row["song_id"]), seconds, row["tempo_bpm"], beats, motion_tempo(poses)))
        try:
            made, rate = soundfile.read(wavs[clip_id], dtype="float32")
        except soundfile.LibsndfileError as error:
            raise UserError(f"{wavs[clip_id]} cannot be read as sound: sample it again") from error
        heard["generated"].append(hear(made, rate))
        heard["ground truth"].append(hear(*decode_audio(row["audio"])))
        heard["clicks at 120 bpm"].append(hear(clicks(seconds, CLICKS_BPM), 22_050))
        samples, pulse = round(seconds * 22_050), dance_pulse(poses) or DancePulse(CLICKS_BPM, 0.0)
        heard["motion metronome"].append(hear(clicks_at(pulse.beats_s(seconds), samples), 22_050))
        heard["motion drums"].append(hear(drum_beat(pulse, samples), 22_050))
        heard["motion hits"].append(hear(clicks_at(motion_beats(poses), samples), 22_050))
    if len(dances) < 2:
        raise UserError(
            f"{generated} has music for {len(dances)} clips of the split {split!r} of {dataset}: two or more are needed"
        )
    clips = [
        {
            "clip_id": dance.clip_id,
            "song_id": dance.song_id,
            "tempo_bpm": dance.bpm,
            "motion_bpm": None if dance.motion_bpm is None else round(dance.motion_bpm, 2),
            "generated_bpm": made_.bpm,
        }
        for dance, made_ in zip(dances, heard["generated"], strict=True)
    ]
    systems = {name: compare(pieces, dances) for name, pieces in heard.items()}
    return {"split": split, "clips": clips, "systems": systems}


def text(result: dict[str, Any]) -> str:
    """The result as a table for a terminal: true pairs, shuffled pairs, p."""
    head = (
        f"{'':18} {'':9} {'tempo error':>12} {'within 4 %':>10} {'8 %':>6} {'motion':>8} {'F beats':>8} {'F onsets':>9}"
    )
    lines = [f"{len(result['clips'])} clips of {result['split']}; errors are medians, octaves count as right", head]
    for name, row in result["systems"].items():
        for kind in ("true", "shuffled"):
            tempo_, motion = row["tempo"][kind], row["motion"][kind]
            lines.append(
                f"{name if kind == 'true' else '':18} {kind:9} {tempo_['median_percent']:10.1f} %"
                f" {tempo_['within_4']:10.2f} {tempo_['within_8']:6.2f} {motion['median_percent']:6.1f} %"
                f" {row['f_beats'][kind]:8.2f} {row['f_onsets'][kind]:9.2f}"
            )
        p = {key: f"{row[key]['p']:.4f}" for key in ("tempo", "motion", "f_beats", "f_onsets")}
        lines.append(
            f"{'':18} {'p':9} {p['tempo']:>12} {'':10} {'':6} {p['motion']:>8} {p['f_beats']:>8} {p['f_onsets']:>9}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generated", type=Path, help="folder with clip_000012.wav and so on")
    parser.add_argument("dataset", type=Path, help="a built dataset")
    parser.add_argument("--split", default="test", help=f"of the dataset, or `{ALL}` (default: test)")
    parser.add_argument("--json", type=Path, help="write everything there")
    options = parser.parse_args()
    try:
        result = score(options.generated, options.dataset, options.split)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(text(result))
    if options.json is not None:
        from tiktok_dm.files import write_atomic

        write_atomic(options.json, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
