"""Music by rules, from silence to drums that watch the dance: what a system has to beat, and what bounds it.

A metric that a metronome or shuffled music wins says nothing about a system, and that shows only in a table that
carries these rows. Everything is a function of the dataset, the options and the seed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tiktok_dm.benchmark.codec_round_trip import CodecRoundTrip
from tiktok_dm.benchmark.metrics.alignment import joint_speed, motion_beats
from tiktok_dm.benchmark.motion_pulse import DancePulse, clicks_at, dance_pulse, drum_beat
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.errors import UserError
from tiktok_dm.pose.skeletons import BODY_25
from tiktok_dm.schema import POSE_FPS, SAMPLE_RATE

MOTION_VERSION = 1
LAGS_S = np.geomspace(0.2, 1.0, 12)
"""Of the autocorrelation: 300 to 60 a minute; two seconds of motion hold each of them twice at least."""
PARTS = {
    "body": tuple(range(len(BODY_25.joints))),
    "hands": (BODY_25.index("right_wrist"), BODY_25.index("left_wrist")),
    "feet": (BODY_25.index("right_ankle"), BODY_25.index("left_ankle")),
    "trunk": (BODY_25.index("neck"), BODY_25.index("mid_hip")),
}
DIM = 2 * len(PARTS) + len(LAGS_S)


def motion_descriptor(pose: np.ndarray, fps: float = POSE_FPS) -> np.ndarray | None:
    """What one dancer's motion is like, float64 (20,); None where too little of the dancer was seen to say.

    Speeds are means over joints (`alignment.joint_speed`), divided by the torso length (the median distance from neck
    to mid-hip), so that neither the picture's size nor the dancer's distance counts:

    - 0-7: for the whole body, wrists, ankles, and neck with mid-hip: log(1 + mean speed in torso lengths a second), and
      the speed's standard deviation over its mean; 0 where the part is not seen;
    - 8-19: autocorrelation of the whole body's speed (its mean removed, gaps filled by the mean, divided by its value
      at lag 0) at 12 lags spaced evenly in the logarithm from 0.2 to 1 s: the dance's pulse.

    Args:
        pose: (frames, 25, 3): x px, y px, confidence.
        fps: poses a second.
    """
    pose = np.asarray(pose, np.float64)
    if len(pose) < 3:
        return None
    neck, hip = (pose[:, i] for i in PARTS["trunk"])
    seen = (neck[:, 2] > 0) & (hip[:, 2] > 0)
    torso = float(np.median(np.linalg.norm(neck[seen, :2] - hip[seen, :2], axis=1))) if seen.any() else 0.0
    body = joint_speed(pose, fps)
    if torso <= 0 or np.isfinite(body).sum() < fps / 2:
        return None
    values: list[float] = []
    for joints in PARTS.values():
        speed = joint_speed(pose[:, joints], fps) / torso
        speed = speed[np.isfinite(speed)]
        mean = float(speed.mean()) if len(speed) else 0.0
        values += [float(np.log1p(mean)), float(speed.std()) / mean if mean > 0 else 0.0]
    centred = np.where(np.isfinite(body), body - np.nanmean(body), 0.0)
    power = float(centred @ centred)
    correlation = np.correlate(centred, centred, "full")[len(centred) - 1 :] / power if power > 0 else np.zeros(1)
    pulse = np.interp(LAGS_S * fps, np.arange(len(correlation)), correlation, right=0.0)
    return np.array([*values, *pulse])


def nearest_by_motion(
    wanted: Sequence[np.ndarray | None], training: Sequence[np.ndarray | None]
) -> list[tuple[int, float]]:
    """For each wanted descriptor the place of the nearest training one and their distance; of equals the first.

    Euclidean distance after each dimension is standardised by the training's mean and standard deviation. Where a
    dance has no descriptor, it stands at the training's mean, and its distance is nan; training dances without one are
    never chosen unless all are, and then the first is.
    """
    places = [k for k, value in enumerate(training) if value is not None]
    if not places:
        return [(0, float("nan"))] * len(wanted)
    known = np.stack([value for value in training if value is not None])
    mean, std = known.mean(axis=0), known.std(axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    known = (known - mean) / std
    found = []
    for value in wanted:
        point = (value - mean) / std if value is not None else np.zeros(known.shape[1])
        distances = np.linalg.norm(known - point, axis=1)
        best = int(distances.argmin())
        found.append((places[best], float(distances[best]) if value is not None else float("nan")))
    return found


VERSION = 2
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
    "motion_metronome": "metronome that watches the dance",
    "motion_drums": "kick and hat that watch the dance",
    "motion_hits": "a click at each motion beat",
    "retrieval_aligned": "training music stretched and laid on the dance",
}
"""Every baseline's folder, in the order of tables, and what tables call it."""
RANDOM = ("shuffled", "metronome_true_tempo", "metronome_120", "noise")
"""Those that depend on the seed."""


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
        training: clips or segments whose music may be taken; may be empty, then `nearest_motion` and
            `retrieval_aligned` are left out.
        codec: of `ground_truth_codec`; without one that baseline is left out.
        seed: of everything random.
        leave_out_itself: whether an item's own song is barred from what is taken, for items that are training ones.
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
    yield from _from_motion(items)
    if training:
        yield retrieval_aligned(items, training, leave_out_itself=leave_out_itself)


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


def _lead(item: Item) -> np.ndarray | None:
    """Poses (frames, 25, 3) of the lead dancer, where there is one."""
    return item.poses[:, 0] if item.poses is not None and item.poses.shape[1] else None


def _descriptor(item: Item) -> np.ndarray | None:
    lead = _lead(item)
    return None if lead is None else motion_descriptor(lead)


def _dance_pulse(item: Item) -> DancePulse | None:
    lead = _lead(item)
    return None if lead is None else dance_pulse(lead)


def retrieval_aligned(items: Sequence[Item], training: Sequence[Item], *, leave_out_itself: bool = False) -> Baseline:
    """Training music whose tempo is near the dance's and whose dance moves alike, stretched and laid on its pulse.

    The training music is taken whose `motion_descriptor` is nearest, `_STRETCH_COST` being added for each octave that
    it has to be stretched, half and double time being free. A phase vocoder gives it the dance's tempo, and it begins
    where its first beats fall on the dance's.
    """
    import librosa

    pulses = {item.id: _dance_pulse(item) for item in items}
    wanted, known = ([_descriptor(item) for item in group] for group in (items, training))
    tempi = true_tempos(training)
    chosen: dict[str, tuple[Item, float]] = {}
    for item, value in zip(items, wanted, strict=True):
        pulse = pulses[item.id]
        options: list[tuple[float, int, float]] = []
        for place, (distance, rate) in enumerate(
            zip(_distances(value, known), (_rate(pulse, tempi[other.id]) for other in training), strict=True)
        ):
            barred = leave_out_itself and _song(training[place]) == _song(item)
            if not barred:
                options.append((distance + _STRETCH_COST * abs(math.log2(rate)), place, rate))
        if not options:
            raise UserError("all music is of one song: music of another dance needs a second one in train")
        _, place, rate = min(options)
        chosen[item.id] = (training[place], rate)

    def make(item: Item) -> np.ndarray:
        other, rate = chosen[item.id]
        sound, samples, pulse = other.sound(), len(item.sound()), pulses[item.id]
        if pulse is None:
            return fit(sound, samples)
        stretched = sound if rate == 1 else librosa.effects.time_stretch(sound, rate=rate)
        beats = _beats(other) / rate
        period, seconds = 60 / pulse.bpm, samples / SAMPLE_RATE
        beats = beats[beats >= pulse.first_s]
        start = float(beats[0]) - pulse.first_s if len(beats) else 0.0
        # Repeated by whole beats of the dance, so that the phase stays.
        whole = math.floor((len(stretched) / SAMPLE_RATE - start) / period) * period
        first = round(start * SAMPLE_RATE)
        piece = stretched[first : first + max(1, round(whole * SAMPLE_RATE))] if whole < seconds else stretched[first:]
        return np.asarray(fit(piece, samples), np.float32)

    unheard = sum(pulse is None for pulse in pulses.values())
    return Baseline(
        "retrieval_aligned",
        "Music of the training clip nearest in motion and tempo, stretched to the dance's own pulse and laid on it.",
        make,
        {"descriptor": f"motion_neighbour version {MOTION_VERSION}", "stretch": "phase vocoder (librosa)"},
        {item.id: {"music_of": other.id, "rate": round(rate, 4)} for item, (other, rate) in _in_order(items, chosen)},
        (f"{unheard} of {len(items)} dances have no pulse, and got music as it is",) if unheard else (),
    )


_STRETCH_COST = 8.0
"""Distance of motion that one octave of stretching is worth: a tenth of an octave costs about what styles differ by."""


def _in_order(items: Sequence[Item], chosen: Mapping[str, Any]) -> Iterator[tuple[Item, Any]]:
    return ((item, chosen[item.id]) for item in items)


def _distances(wanted: np.ndarray | None, training: Sequence[np.ndarray | None]) -> np.ndarray:
    """Distance (training,) of descriptors as in `nearest_by_motion`; where one is missing, the mean of the others."""
    known = [value for value in training if value is not None]
    if wanted is None or not known:
        return np.zeros(len(training))
    std = np.std(known, axis=0)
    std = np.where(std > 1e-9, std, 1.0)
    far = np.array([np.nan if value is None else np.linalg.norm((value - wanted) / std) for value in training])
    return np.where(np.isnan(far), np.nanmean(far), far)


def _rate(pulse: DancePulse | None, tempo: float | None) -> float:
    """How much faster music of a tempo has to be played to be danced to, half and double time being as good."""
    if pulse is None or not tempo:
        return 1.0
    octaves = math.log2(pulse.bpm / tempo)
    return float(2 ** (octaves - round(octaves)))


def _beats(item: Item) -> np.ndarray:
    """Beats of an item's own music: the dataset's, else tracked."""
    from tiktok_dm.benchmark.clip_features import measure

    return item.beats_s if item.beats_s is not None else measure(item.sound()).whole.beats_s


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


def _from_motion(items: Sequence[Item]) -> Iterator[Baseline]:
    """Clicks and drums that hear the dance's motion and nothing else."""
    pulses = {item.id: _dance_pulse(item) or DancePulse(FIXED_BPM, 0.0) for item in items}
    unknown = sum(_dance_pulse(item) is None for item in items)
    notes = (f"{unknown} of {len(items)} dances have no pulse and got 120 bpm",) if unknown else ()
    clips = {
        item.id: {"bpm": round(pulses[item.id].bpm, 3), "first_s": round(pulses[item.id].first_s, 4)} for item in items
    }

    def clicks(item: Item) -> np.ndarray:
        samples = len(item.sound())
        return clicks_at(pulses[item.id].beats_s(samples / SAMPLE_RATE), samples)

    def hits(item: Item) -> np.ndarray:
        lead = _lead(item)
        return clicks_at(motion_beats(lead) if lead is not None else np.zeros(0), len(item.sound()))

    yield Baseline(
        "motion_metronome",
        "A click on each beat of the lead dancer's own pulse: tempo and phase are read from the motion alone.",
        clicks,
        {"click": CLICK, "pulse": "motion_pulse.dance_pulse"},
        clips,
        notes,
    )
    yield Baseline(
        "motion_drums",
        "A kick on each beat of the lead dancer's own pulse and a hat between: the same rule as a drummer plays it.",
        lambda item: drum_beat(pulses[item.id], len(item.sound())),
        {"pulse": "motion_pulse.dance_pulse"},
        clips,
        notes,
    )
    yield Baseline(
        "motion_hits",
        "A click at each motion beat of the lead dancer, the local minima of the joints' speed.",
        hits,
        {"click": CLICK, "motion_beats": "metrics.alignment.motion_beats"},
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


# ------------------------------------------------------------------------------------------- small things


def _song(item: Item) -> tuple[int, str]:
    """The song, or the item itself where that is unknown."""
    return (item.song_id, "") if item.song_id is not None else (-1, item.id)


def _rng(seed: int, *names: str) -> np.random.Generator:
    """Random numbers of their own for each purpose and id, so that one doesn't depend on the others."""
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])
