"""Songs with known tempo, beats and style, synthesised from an arrangement of drums, bass, chords and lead.

A song is a function of (seed, song id): the same pair gives the same samples. Not for the sounds themselves
(`instruments`), nor for what is danced to them (`choreography`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tiktok_dm.synthetic.instruments import (
    INSTRUMENTS,
    SAMPLE_RATE,
    conga,
    crash,
    hat,
    kick,
    room,
    snare,
)
from tiktok_dm.synthetic.styles import STYLES, Style

SECTION_BEATS = 16
SECTIONS = 6
SONG_BEATS = SECTION_BEATS * SECTIONS
_MINOR, _MAJOR = (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 5, 7, 9, 11)
_LOUDNESS = {"X": 1.0, "x": 0.66, "-": 0.3}
_ADJECTIVES = ("Neon", "Paper", "Velvet", "Electric", "Golden", "Midnight", "Cherry", "Silver", "Tropic", "Pixel")
_NOUNS = ("Steps", "Balcony", "Signal", "Skyline", "Mirror", "Avenue", "Echo", "Summer", "Motion", "Parade")


@dataclass(frozen=True)
class Song:
    """What a song is, before it sounds.

    Args:
        song_id: its number.
        seed: of the demo.
        style: see `styles`.
        tempo_bpm: beats a minute; beat `k` sounds `60 k / tempo_bpm` seconds after the song's start.
        key: MIDI number of the tonic, 41 (F2) to 52 (E3).
        progression: four chord roots as scale degrees, one a bar, repeated.
        energy: 0..1 for each section of sixteen beats.
        accents: beats within a phrase of eight that music and dance stress.
        title: invented name.
    """

    song_id: int
    seed: int
    style: Style
    tempo_bpm: float
    key: int
    progression: tuple[int, ...]
    energy: tuple[float, ...]
    accents: tuple[int, ...]
    title: str

    @property
    def duration_s(self) -> float:
        """Seconds of the whole song, 96 beats."""
        return SONG_BEATS * 60 / self.tempo_bpm

    def beats_s(self) -> np.ndarray:
        """Time of every beat in seconds from the song's start, (96,)."""
        return np.arange(SONG_BEATS) * 60 / self.tempo_bpm


@lru_cache(maxsize=4096)
def make_song(seed: int, song_id: int) -> Song:
    """The song's plan; styles follow one another, so that the first six songs have six styles."""
    rng = np.random.default_rng([seed, song_id, 11])
    style = STYLES[song_id % len(STYLES)]
    low, high = style.tempo_bpm
    chorus = float(rng.uniform(0.85, 1.0))
    verse = float(rng.uniform(0.35, 0.6))
    shapes = ((verse, chorus, verse, chorus, 0.8, chorus), (0.7, chorus, verse, 0.8, chorus, chorus))
    accents = ((0, 4), (0, 3, 7), (0, 6), (2, 6), (0, 4, 7), (3, 7))
    names = np.random.default_rng([seed, 12]).permutation(len(_ADJECTIVES) * len(_NOUNS))
    adjective, noun = divmod(int(names[song_id % len(names)]), len(_NOUNS))
    return Song(
        song_id=song_id,
        seed=seed,
        style=style,
        tempo_bpm=round(float(rng.uniform(low, high)) * 2) / 2,
        key=int(rng.integers(41, 53)),
        progression=_four(style.progressions[rng.integers(len(style.progressions))]),
        energy=shapes[rng.integers(2)],
        accents=accents[rng.integers(len(accents))],
        title=f"{_ADJECTIVES[adjective]} {_NOUNS[noun]}",
    )


def _four(chords: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(chords[k % len(chords)] for k in range(4))


class _Mixer:
    """Places one-shot sounds on a time line, named by bus."""

    def __init__(self, song: Song) -> None:
        self.step_s = 15 / song.tempo_bpm
        self.swing = song.style.swing
        self.count = int(np.ceil(song.duration_s * SAMPLE_RATE))
        self.buses = {name: np.zeros(self.count, np.float32) for name in _GAINS}
        self.kicks: list[float] = []
        self.notes: dict[tuple[str, float, int], np.ndarray] = {}

    def at(self, step: float) -> float:
        """Seconds of a sixteenth, with swing."""
        return (step + (self.swing if step % 2 == 1 else 0.0)) * self.step_s

    def add(self, bus: str, step: float, sound: np.ndarray, loudness: float) -> None:
        line = self.buses[bus]
        start = round(self.at(step) * SAMPLE_RATE)
        if start < self.count:
            part = sound[: self.count - start]
            line[start : start + len(part)] += np.float32(loudness) * part.astype(np.float32)

    def note(self, bus: str, step: float, instrument: str, midi: float, steps: float, loudness: float) -> None:
        key = (instrument, midi, round(steps * 4))
        if key not in self.notes:
            self.notes[key] = INSTRUMENTS[instrument](midi, steps * self.step_s)
        self.add(bus, step, self.notes[key], loudness)


def _hits(pattern: str) -> list[tuple[int, float]]:
    return [(k, _LOUDNESS[c]) for k, c in enumerate(pattern) if c != "."]


@lru_cache(maxsize=8)  # about 10 MB a song
def render_song(seed: int, song_id: int) -> np.ndarray:
    """The whole song, mono float32 at 44.1 kHz, peak 0.9; read-only, since it is cached."""
    song = make_song(seed, song_id)
    rng = np.random.default_rng([seed, song_id, 13])
    mixer = _Mixer(song)
    _drums(song, mixer, rng)
    _bass(song, mixer, rng)
    _chords(song, mixer, rng)
    _lead(song, mixer, rng)
    mix = _master(song, mixer)
    mix.flags.writeable = False
    return mix


def _bars(song: Song):
    """(number, first sixteenth, energy) of each bar."""
    for bar in range(SONG_BEATS // 4):
        yield bar, 16 * bar, song.energy[4 * bar // SECTION_BEATS]


def _drums(song: Song, mixer: _Mixer, rng: np.random.Generator) -> None:
    style = song.style
    pick = {
        name: rng.integers(len(getattr(style, name))) for name in ("kick", "snare", "hat", "open_hat", "percussion")
    }
    drum = kick(float(rng.uniform(0.24, 0.4)), float(rng.uniform(44, 54)))
    back = snare(style.snare_kind, float(rng.uniform(170, 230)))
    closed, opened, shaken = hat(0.05), hat(0.26), hat(0.09, 9)
    hand = [conga(f) for f in (float(rng.uniform(180, 230)), float(rng.uniform(280, 340)))]
    cymbal = crash()
    for bar, first, energy in _bars(song):
        loud = 0.75 + 0.25 * energy
        for k, v in _hits(style.kick[pick["kick"]]):
            mixer.add("kick", first + k, drum, v * loud)
            mixer.kicks.append(mixer.at(first + k))
        for k, v in _hits(style.snare[pick["snare"]]):
            mixer.add("snare", first + k, back, v * loud)
        for k, v in _hits(style.hat[pick["hat"]]):
            mixer.add("hat", first + k, closed, 0.55 * v * energy**0.5)
        if energy > 0.62:
            for k, v in _hits(style.open_hat[pick["open_hat"]]):
                mixer.add("hat", first + k, opened, 0.5 * v)
            for k, v in _hits(style.percussion[pick["percussion"]]):
                mixer.add("snare", first + k, hand[k // 2 % 2] if k % 3 else shaken, 0.3 * v)
        if bar % 4 == 0 and energy > 0.62:
            mixer.add("hat", first, cymbal, 0.5)
        if bar % 4 == 3:  # a fill leads into the next section
            for j, k in enumerate((12, 13, 14, 15) if energy > 0.62 else (14, 15)):
                mixer.add("snare", first + k, back, 0.35 + 0.12 * j)
        for beat in song.accents:
            if beat // 4 == bar % 2:
                mixer.add("snare", first + 4 * (beat % 4), shaken, 0.5 * energy)


def _scale(song: Song, degree: int) -> int:
    """Semitones above the tonic of a scale degree of any octave."""
    octave, step = divmod(degree, 7)
    return 12 * octave + (_MINOR if song.style.minor else _MAJOR)[step]


def _bass(song: Song, mixer: _Mixer, rng: np.random.Generator) -> None:
    pattern, offsets = song.style.bass[rng.integers(len(song.style.bass))]
    hits = _hits(pattern)
    played = 0
    for bar, first, energy in _bars(song):
        root = song.key - 12 + _scale(song, song.progression[bar % 4])
        root -= 12 if root > 46 else 0
        for j, (k, v) in enumerate(hits):
            until = hits[j + 1][0] if j + 1 < len(hits) else 16
            length = min(until - k, 6 if song.style.bass_kind == "sub" else 3) * 0.92
            offset = offsets[played % len(offsets)]
            played += 1
            mixer.note("bass", first + k, song.style.bass_kind, root + offset, length, v * (0.7 + 0.3 * energy))


def _chords(song: Song, mixer: _Mixer, rng: np.random.Generator) -> None:
    style = song.style
    pattern = style.chord[rng.integers(len(style.chord))]
    instrument = style.chord_kind[rng.integers(len(style.chord_kind))]
    seventh = rng.random() < 0.5
    hits = _hits(pattern)
    for bar, first, energy in _bars(song):
        degree = song.progression[bar % 4]
        tones = [song.key + 12 + _scale(song, degree + d) for d in ((0, 2, 4, 6) if seventh else (0, 2, 4))]
        tones = [t - 12 if t > 69 else t for t in tones]
        for j, (k, v) in enumerate(hits):
            until = hits[j + 1][0] if j + 1 < len(hits) else 16
            if instrument == "arpeggio":
                tone = sorted(tones)[(j * 2 + j // 3) % len(tones)] + (12 if j % 4 == 3 else 0)
                mixer.note("chords", first + k, instrument, tone, 1, v * (0.5 + 0.5 * energy))
                continue
            length = min(until - k, 2) if instrument in ("organ", "guitar", "stab", "pluck") else until - k
            for tone in tones:
                mixer.note("chords", first + k, instrument, tone, length * 0.95, v * 0.5 * (0.6 + 0.4 * energy))
        if style.sidechain >= 0.3 or style.name == "disco":  # a soft bed under the rhythm
            for tone in tones[:3]:
                mixer.note("chords", first, "pad", tone, 15.5, 0.22 * energy)


def _lead(song: Song, mixer: _Mixer, rng: np.random.Generator) -> None:
    """A motif of two bars, its answer in the next two; only where the song is loud."""
    style = song.style
    instrument = style.lead_kind[rng.integers(len(style.lead_kind))]
    instrument = "lead" if instrument == "square" else instrument
    density = float(rng.uniform(0.28, 0.5))
    weight = np.tile([1.7, 0.15, 1.0, 0.25], 8)
    struck = np.flatnonzero(rng.random(32) < density * weight)
    rhythm = [int(k) for k in struck if k < 29] or [0, 6, 16, 22]
    contour = np.cumsum(rng.choice([-2, -1, -1, 0, 1, 1, 2], len(rhythm)))
    contour = np.clip(contour - int(np.median(contour)), -4, 5)
    for bar, first, energy in _bars(song):
        if bar % 2 or energy < 0.62:
            continue
        answer = bar % 4 == 2
        for j, k in enumerate(rhythm):
            chord = song.progression[(bar + k // 16) % 4]
            degree = int(contour[j]) + (1 if answer and j > len(rhythm) // 2 else 0)
            if k % 8 == 0:  # strong beats rest on the chord
                degree = chord % 7 + 2 * round((degree - chord % 7) / 2)
            until = rhythm[j + 1] if j + 1 < len(rhythm) else 32
            midi = song.key + 24 + _scale(song, degree)
            mixer.note("lead", first + k, instrument, midi - 12 * (midi > 84), min(until - k, 4) * 0.9, 0.8)


_GAINS = {"kick": 0.95, "snare": 0.62, "hat": 0.30, "bass": 0.52, "chords": 0.24, "lead": 0.26}


def _master(song: Song, mixer: _Mixer) -> np.ndarray:
    """Ducking, room, soft limit, peak 0.9."""
    bus = {name: np.float32(gain) * mixer.buses[name] for name, gain in _GAINS.items()}
    duck = np.ones(mixer.count, np.float32)
    recovery = np.linspace(0, 1, int(min(0.24, 50 / song.tempo_bpm) * SAMPLE_RATE)) ** 1.5
    shape = (1 - song.style.sidechain * (1 - recovery)).astype(np.float32)
    for time_s in mixer.kicks:
        start = round(time_s * SAMPLE_RATE)
        part = shape[: mixer.count - start]
        duck[start : start + len(part)] = np.minimum(duck[start : start + len(part)], part)
    dry = bus["kick"] + bus["snare"] + bus["hat"] + bus["lead"] + duck * (bus["bass"] + bus["chords"])
    # Little of the snare: a long tail of noise would bury the beats that follow it.
    wet = room(np.float32(0.06) * bus["snare"] + np.float32(0.5) * duck * bus["chords"] + np.float32(0.6) * bus["lead"])
    mix = dry + np.float32(0.5) * wet
    mix = np.tanh(np.float32(1.3 / np.quantile(np.abs(mix[::7]), 0.999)) * mix)
    return np.float32(0.9 / np.abs(mix).max()) * mix
