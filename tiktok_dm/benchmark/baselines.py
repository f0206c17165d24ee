"""Music that knows little or nothing of the dance, for every test id: what a system has to beat, and what bounds it.

One folder of wav files per baseline (22,050 Hz, mono, 16 bit, named by id, each as long as the dance), with a
`baseline.json` that says what it is. A metric that a metronome or shuffled music wins says nothing about a system, and
that shows only in a table that carries these rows. Everything is a function of the dataset, the options and the seed.
Not for scoring (`evaluate`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.benchmark.codec_round_trip import CodecRoundTrip
from tiktok_dm.benchmark.motion_neighbour import VERSION as MOTION_VERSION
from tiktok_dm.benchmark.motion_neighbour import motion_descriptor, nearest_by_motion
from tiktok_dm.benchmark.pairs import Item, read_reference
from tiktok_dm.errors import UserError
from tiktok_dm.media import encode_audio
from tiktok_dm.schema import SAMPLE_RATE

VERSION = 1
DESCRIPTION = "baseline.json"
FIXED_BPM = 120.0
CLICK = "1,000 Hz sine, decaying by exp(-200 t), 20 ms, peak 0.7"
_LOUDNESS_BLOCK_S = 0.4

TITLES = {
    "ground_truth": "ground truth",
    "ground_truth_codec": "ground truth through a codec",
    "shuffled": "shuffled ground truth",
    "metronome_true_tempo": "metronome at the true tempo",
    "metronome_120": "metronome at 120 bpm",
    "silence": "silence",
    "noise": "noise",
    "nearest_motion": "nearest training clip by motion",
}
"""Every baseline's folder, in the order of tables, and what tables call it."""


@dataclass(frozen=True)
class Baseline:
    """One of them, before it sounds.

    Args:
        name: of its folder, a key of `TITLES`.
        what: in words, for people.
        make: the music of an item, float32 (samples,) at 22,050 Hz, as long as the item's.
        parameters: what it depends on besides dataset and seed.
        clips: what was chosen for each id, such as the id whose music it gets.
        notes: what could not be done as meant, a sentence each.
    """

    name: str
    what: str
    make: Callable[[Item], np.ndarray] = field(repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    clips: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_baselines(
    dataset: Path,
    out: Path,
    *,
    split: str = "test",
    config: str = "clips",
    codec: CodecRoundTrip | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write the folders; `out` appears only when all of them are whole.

    Args:
        dataset: a built dataset.
        out: new folder, or an empty one.
        split: whose ids get music; music of other clips comes from this split (`shuffled`) or from train.
        config: `clips` (ids `clip_000012`) or `segments` (published segment ids).
        codec: of `ground_truth_codec`; without one that folder is not made.
        seed: of everything random.
        progress: called with files written and files in all.

    Returns:
        Names of the folders, in the order of tables.

    Raises:
        UserError: no such dataset, split or configuration; `out` is not empty, or cannot be written.
    """
    if not (dataset / "README.md").is_file() or not (dataset / "data").is_dir():
        raise UserError(f"{dataset} holds no dataset: give the folder that a finished `tiktok-dm build` wrote")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another folder, or remove it first")
    reference = read_reference(dataset, split=split, config=config)
    items = list(reference.items.values())
    training = _training(dataset, config) if split != "train" else items
    found = list(baselines(items, training, codec=codec, seed=seed, leave_out_itself=split in ("train", "all")))
    made = {
        "dataset": {"name": dataset.name, "export": _export(dataset), "split": split, "config": config},
        "seed": seed,
        "version": VERSION,
        "sample_rate": SAMPLE_RATE,
    }
    with _new_folder(out) as folder:
        total, done = len(found) * len(items), 0
        for baseline in found:
            (folder / baseline.name).mkdir()
            for item in items:
                sound = np.asarray(baseline.make(item), np.float32)
                wav = encode_audio(sound, SAMPLE_RATE, "wav")
                (folder / baseline.name / f"{item.id}.wav").write_bytes(wav)
                done += 1
                if progress is not None:
                    progress(done, total)
            _describe(folder / baseline.name / DESCRIPTION, baseline, made, len(items))
    return [baseline.name for baseline in found]


def baselines(
    items: Sequence[Item],
    training: Sequence[Item],
    *,
    codec: CodecRoundTrip | None = None,
    seed: int = 0,
    leave_out_itself: bool = False,
) -> Iterator[Baseline]:
    """All baselines of some items, in the order of `TITLES`.

    Args:
        items: whose dance gets music.
        training: clips or segments whose music may be taken; may be empty, then `nearest_motion` is left out.
        codec: as in `make_baselines`.
        seed: likewise.
        leave_out_itself: whether an item's own song is barred from `nearest_motion`, for items that are training ones.
    """
    yield Baseline("ground_truth", "The dance's own music, as the dataset holds it.", Item.sound)
    if codec is not None:
        yield _through(codec)
    yield shuffled(items, training, seed=seed)
    yield _metronome(items, None, seed)
    yield _metronome(items, FIXED_BPM, seed)
    yield Baseline(
        "silence", "No sound at all: every sample is 0.", lambda item: np.zeros(len(item.sound()), np.float32)
    )
    yield Baseline(
        "noise",
        "Pink noise (power falls by 3 dB an octave above 20 Hz) of the true music's loudness.",
        lambda item: pink_noise(item.sound(), _rng(seed, "noise", item.id)),
        {
            "spectrum": "pink",
            "loudness": "integrated loudness of the true music (ITU-R BS.1770-4), or its RMS where it has none "
            "(shorter than 0.4 s, or silent); quieter where a sample would pass 0.99",
        },
    )
    if training:
        yield nearest_motion(items, training, leave_out_itself=leave_out_itself)


# ------------------------------------------------------------------------------------------- other music


def _through(codec: CodecRoundTrip) -> Baseline:
    def make(item: Item) -> np.ndarray:
        sound = item.sound()
        return fit(np.clip(codec(sound, SAMPLE_RATE), -1, 1), len(sound), loop=False)

    return Baseline(
        "ground_truth_codec",
        "The dance's own music, coded and decoded: the upper bound of a system that predicts this codec's codes, and "
        "of no other system.",
        make,
        {"codec": codec.name, "licence": codec.licence},
    )


def shuffled(items: Sequence[Item], training: Sequence[Item] = (), *, seed: int = 0) -> Baseline:
    """Real music that belongs to another dance: a derangement of songs.

    Songs are put in a random order, their clips in a random order within, and each item gets the music that lies as
    many places on as the largest song has clips: a permutation in which nobody keeps the song, wherever no song has
    more than half of the items. Where one has, each item draws from the items of other songs (some music then comes
    several times), and where there is no other song at all, from the training music of other songs.
    """
    notes: tuple[str, ...] = ()
    songs = sorted({_song(item) for item in items})
    groups = {song: [item for item in items if _song(item) == song] for song in songs}
    largest = max(len(group) for group in groups.values())
    rng = _rng(seed, "shuffled")
    partner: dict[str, Item] = {}
    if 2 * largest <= len(items):
        order = [
            groups[songs[s]][k] for s in rng.permutation(len(songs)) for k in rng.permutation(len(groups[songs[s]]))
        ]
        partner = {item.id: order[(k + largest) % len(order)] for k, item in enumerate(order)}
    else:
        pool = list(items) if len(songs) > 1 else list(training)
        notes = (
            "one song has more than half of the items, so that some music is used several times"
            if len(songs) > 1
            else "all items dance to one song, so that the music is drawn from training clips of other songs",
        )
        for item in items:
            others = [other for other in pool if _song(other) != _song(item)]
            if not others:
                raise UserError("all music is of one song: shuffled ground truth needs a second one in test or train")
            partner[item.id] = others[int(rng.integers(len(others)))]
    return Baseline(
        "shuffled",
        "Real music of another song than the dance's, cropped to the dance's length or looped up to it.",
        lambda item: fit(partner[item.id].sound(), len(item.sound())),
        {"length": "cropped from the start, or repeated from the start"},
        {item.id: {"music_of": partner[item.id].id} for item in items},
        notes,
    )


def nearest_motion(items: Sequence[Item], training: Sequence[Item], *, leave_out_itself: bool = False) -> Baseline:
    """Music of the training dance whose lead dancer moves most alike; see `motion_neighbour`."""
    wanted, known = ([_descriptor(item) for item in group] for group in (items, training))
    chosen: dict[str, tuple[Item, float]] = {}
    everyone = nearest_by_motion(wanted, known)
    for item, value, (place, distance) in zip(items, wanted, everyone, strict=True):
        others = list(range(len(training)))
        if leave_out_itself:
            others = [k for k in others if _song(training[k]) != _song(item)] or others
            within, distance = nearest_by_motion([value], [known[k] for k in others])[0]
            place = others[within]
        chosen[item.id] = (training[place], distance)
    unseen = sum(value is None for value in wanted)
    note = (
        f"{unseen} of {len(items)} dances show too little of the lead dancer, and got the most average training dance"
    )
    return Baseline(
        "nearest_motion",
        "Music of the training dance whose lead dancer moves most like this one's, cropped to the dance's length or "
        "looped up to it.",
        lambda item: fit(chosen[item.id][0].sound(), len(item.sound())),
        {"descriptor": f"motion_neighbour version {MOTION_VERSION}", "length": "cropped or repeated from the start"},
        {
            item.id: {"music_of": other.id, "distance": round(distance, 4) if np.isfinite(distance) else None}
            for item, (other, distance) in ((item, chosen[item.id]) for item in items)
        },
        (note,) if unseen else (),
    )


def _descriptor(item: Item) -> np.ndarray | None:
    if item.poses is None or not item.poses.shape[1]:
        return None
    return motion_descriptor(item.poses[:, 0])


# ------------------------------------------------------------------------------------------- made sounds


def _metronome(items: Sequence[Item], bpm: float | None, seed: int) -> Baseline:
    """Clicks at `bpm`, or at each item's own tempo."""
    from tiktok_dm.benchmark.metronome import click_track

    tempos = {item.id: bpm for item in items} if bpm else true_tempos(items)
    unknown = sorted(name for name, tempo in tempos.items() if tempo is None)
    tempo_of = {name: tempo or FIXED_BPM for name, tempo in tempos.items()}
    name = "metronome_true_tempo" if bpm is None else "metronome_120"
    phase = {item.id: float(_rng(seed, name, item.id).random()) for item in items}

    def make(item: Item) -> np.ndarray:
        period = 60 / tempo_of[item.id]
        samples = len(item.sound())
        sound = click_track(samples / SAMPLE_RATE, 1 / period, first_s=phase[item.id] * period)
        return fit(sound, samples, loop=False)

    note = f"{len(unknown)} of {len(items)} dances have no known tempo and got 120 bpm: {', '.join(unknown[:5])}"
    return Baseline(
        name,
        "A click on each beat of the true music's tempo, at a random phase: it knows the tempo and nothing else."
        if bpm is None
        else "A click every half second, at a random phase: it knows nothing.",
        make,
        {
            "click": CLICK,
            "phase": "drawn evenly from one beat, for each id",
            "bpm": bpm or "the dataset's tempo_bpm, or tracked",
        },
        {item.id: {"bpm": round(tempo_of[item.id], 3), "phase": round(phase[item.id], 4)} for item in items},
        (note,) if unknown and bpm is None else (),
    )


def true_tempos(items: Sequence[Item]) -> dict[str, float | None]:
    """Beats a minute of each item's true music, by id.

    The dataset's `tempo_bpm`; else from the median distance of its beats; else (segments without their clips) tracked
    in the true music, all given segments of a clip joined in their order; None where there is no pulse.
    """
    from tiktok_dm.benchmark.clip_features import measure

    found: dict[str, float | None] = {}
    unknown: dict[Any, list[Item]] = {}
    for item in items:
        if item.tempo_bpm and item.tempo_bpm > 0:
            found[item.id] = float(item.tempo_bpm)
        elif item.beats_s is not None and len(item.beats_s) > 1:
            found[item.id] = float(60 / np.median(np.diff(item.beats_s)))
        else:
            unknown.setdefault(item.id if item.clip_id is None else item.clip_id, []).append(item)
    for together in unknown.values():
        tempo = measure(np.concatenate([item.sound() for item in together])).whole.tempo_bpm
        found |= {item.id: tempo for item in together}
    return found


def pink_noise(like: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pink noise as long and as loud as a sound, float32 (samples,): see `baselines` for how loudness is matched.

    White Gaussian noise whose spectrum is divided by the square root of frequency above 20 Hz, and is 0 below.
    """
    n = len(like)
    spectrum = np.fft.rfft(rng.standard_normal(n))
    frequency = np.fft.rfftfreq(n, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(np.where(frequency >= 20, spectrum / np.sqrt(np.maximum(frequency, 20)), 0), n)
    noise /= max(float(np.sqrt(np.mean(noise**2))), 1e-12)
    rms = float(np.sqrt(np.mean(np.square(like, dtype=np.float64)))) if n else 0.0
    noise *= rms
    wanted, have = _loudness(like), _loudness(noise)
    if wanted is not None and have is not None:
        noise *= 10 ** ((wanted - have) / 20)
    peak = float(np.abs(noise).max(initial=0))
    return (noise * min(1.0, 0.99 / peak) if peak > 0 else noise).astype(np.float32)


def _loudness(sound: np.ndarray) -> float | None:
    """Integrated loudness in LUFS, or None where it is not defined."""
    import pyloudnorm

    if len(sound) <= _LOUDNESS_BLOCK_S * SAMPLE_RATE:
        return None
    meter = pyloudnorm.Meter(SAMPLE_RATE, block_size=_LOUDNESS_BLOCK_S)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(meter.integrated_loudness(np.asarray(sound, np.float64)))
    return value if np.isfinite(value) else None


def fit(sound: np.ndarray, samples: int, *, loop: bool = True) -> np.ndarray:
    """A sound (n,) cropped to `samples` from its start, or repeated from its start (else filled up with silence)."""
    if len(sound) >= samples:
        return sound[:samples]
    if loop and len(sound):
        return np.resize(sound, samples)
    return np.pad(sound, (0, samples - len(sound)))


# ------------------------------------------------------------------------------------------- files


def _song(item: Item) -> tuple[int, str]:
    """The song, or the item itself where that is unknown."""
    return (item.song_id, "") if item.song_id is not None else (-1, item.id)


def _rng(seed: int, *names: str) -> np.random.Generator:
    """Random numbers of their own for each purpose and id, so that one doesn't depend on the others."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def _training(dataset: Path, config: str) -> list[Item]:
    try:
        return list(read_reference(dataset, split="train", config=config).items.values())
    except UserError:
        return []  # a dataset of test clips only


def _export(dataset: Path) -> str | None:
    """The content key of the dataset's export, which tells datasets apart."""
    try:
        return json.loads((dataset / "manifest.json").read_text(encoding="utf-8")).get("export")
    except (OSError, ValueError):
        return None


def _describe(path: Path, baseline: Baseline, made: Mapping[str, Any], count: int) -> None:
    text = {
        "baseline": baseline.name,
        "title": TITLES[baseline.name],
        "what": baseline.what,
        "parameters": dict(baseline.parameters),
        "notes": list(baseline.notes),
        "n": count,
        **made,
        "clips": {name: dict(value) for name, value in sorted(baseline.clips.items())},
    }
    path.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class _new_folder:
    """A folder to fill beside `out`, renamed to it when the block ends without an error, and removed otherwise."""

    def __init__(self, out: Path) -> None:
        self._out = out.absolute()

    def __enter__(self) -> Path:
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self._out.name}.", dir=self._out.parent))
        except OSError as error:
            raise UserError(f"{self._out} cannot be written: {error.strerror or error}") from error
        return self._folder

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._folder.chmod(0o755)
                self._folder.replace(self._out)
            elif isinstance(error, OSError):
                raise UserError(f"{self._out} cannot be written: {error.strerror or error}") from error
        except OSError as broken:
            raise UserError(f"{self._out} cannot be written: {broken.strerror or broken}") from broken
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
