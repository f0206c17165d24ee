"""The dance styles of the demo: what a style sounds like and how it moves, side by side.

Music and choreography both read this one table, so that motion carries tempo, phase and style of the music.
Not for synthesis (`music`) or motion (`choreography`) themselves.

A drum pattern is one bar of sixteen steps: `X` accent, `x` normal, `-` ghost note, `.` rest.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """One style.

    Args:
        name: genre label of the truth files.
        tempo_bpm: lowest and highest tempo.
        minor: whether songs stand in a minor key.
        progressions: chord roots as scale degrees (0 = tonic), one chord a bar.
        kick, snare, hat, open_hat, percussion: alternatives of drum patterns.
        snare_kind: `snare`, `clap` or `rim`.
        bass: alternatives of (pattern, degree offsets in semitones cycled over its notes).
        bass_kind, chord_kind, lead_kind: names of instruments.
        chord: alternatives of chord patterns; a chord sounds until the next.
        swing: delay of every second sixteenth, in sixteenths.
        sidechain: how far the kick ducks bass and chords, 0..1.
        step_beats: beats from one pose to the next.
        hold: part of a step for which a pose is held before the next begins, 0..0.35.
        bounce, sway: amplitudes in body heights; a negative bounce goes up on the beat.
        twist, tilt: amplitudes of chest rotation and shoulder tilt in rad.
        arms: vocabulary of arm targets, (right, left) names in `choreography.ARMS`.
        stances: vocabulary of stances, names in `choreography.STANCES`.
    """

    name: str
    tempo_bpm: tuple[float, float]
    minor: bool
    progressions: tuple[tuple[int, ...], ...]
    kick: tuple[str, ...]
    snare: tuple[str, ...]
    hat: tuple[str, ...]
    open_hat: tuple[str, ...]
    percussion: tuple[str, ...]
    snare_kind: str
    bass: tuple[tuple[str, tuple[int, ...]], ...]
    bass_kind: str
    chord: tuple[str, ...]
    chord_kind: tuple[str, ...]
    lead_kind: tuple[str, ...]
    swing: float
    sidechain: float
    step_beats: int
    hold: float
    bounce: float
    sway: float
    twist: float
    tilt: float
    arms: tuple[tuple[str, str], ...]
    stances: tuple[str, ...]


HOUSE = Style(
    name="house",
    tempo_bpm=(120, 128),
    minor=True,
    progressions=((0, 5, 2, 6), (0, 3, 5, 4), (0, 0, 5, 6)),
    kick=("X...X...X...X...",),
    snare=("....X.......X...",),
    hat=("X.-.X.-.X.-.X.-.", "X-x-X-x-X-x-X-x-"),
    open_hat=("..x...x...x...x.",),
    percussion=("-.-.-.x.-.-.-.x.", "..-...-...-.-.-."),
    snare_kind="clap",
    bass=(("..x...x...x...x.", (0, 0, 0, 12)), ("x.x.x.x.x.x.x.x.", (0, 12, 0, 12, 0, 12, 7, 12))),
    bass_kind="saw",
    chord=("..x...x...x...x.", "..x...xx..x...x."),
    chord_kind=("organ", "stab"),
    lead_kind=("pluck", "square"),
    swing=0.08,
    sidechain=0.65,
    step_beats=1,
    hold=0.15,
    bounce=0.022,
    sway=0.012,
    twist=0.16,
    tilt=0.05,
    arms=(
        ("flex", "low"), ("low", "flex"), ("flex", "flex"), ("front", "low_out"), ("low_out", "front"), ("low", "low"),
    ),
    stances=("step_right", "step_left", "tap_right", "tap_left", "knee_right", "knee_left"),
)  # fmt: skip
HIP_HOP = Style(
    name="hip-hop",
    tempo_bpm=(86, 98),
    minor=True,
    progressions=((0, 0, 5, 4), (0, 3, 0, 4), (0, 5, 3, 4)),
    kick=("X......xX.......", "X.......X.x.....", "X.....x.X.......",),
    snare=("....X.......X...", "....X.......X.-."),
    hat=("X.x.X.x.X.x.X.x.", "X.-.X.-.X.-.X.-."),
    open_hat=("..............x.", "......x........."),
    percussion=("................", "......-.......-."),
    snare_kind="snare",
    bass=(("x.......x.......", (0, 7, 0, -2)), ("x...x...x.x.....", (0, 12, 0, -2))),
    bass_kind="sub",
    chord=("x.......x.......", "x...x...x...x..."),
    chord_kind=("keys", "keys"),
    lead_kind=("flute", "bell"),
    swing=0.28,
    sidechain=0.15,
    step_beats=1,
    hold=0.18,
    bounce=0.036,
    sway=0.010,
    twist=0.12,
    tilt=0.10,
    arms=(
        ("front", "front"), ("cross", "flex"), ("flex", "cross"), ("out", "front"), ("front", "out"),
        ("low_out", "low_out"), ("chest", "chest"),
    ),
    stances=("wide", "squat", "squat_right", "squat_left", "step_right", "step_left"),
)  # fmt: skip
DISCO = Style(
    name="disco",
    tempo_bpm=(108, 118),
    minor=False,
    progressions=((0, 5, 3, 4), (0, 2, 3, 4), (3, 4, 2, 5)),
    kick=("X...X...X...X...",),
    snare=("....X.......X...", "....X.......X.-."),
    hat=("X-x-X-x-X-x-X-x-", "X.x.X.x.X.x.X.x."),
    open_hat=("..-...-...-...-.",),
    percussion=("x.......x.......", "..x...x...x...x."),
    snare_kind="snare",
    bass=(("x.x.x.x.x.x.x.x.", (0, 12)), ("x.xxx.x.x.xxx.x.", (0, 12, 0, 12, 7, 12))),
    bass_kind="saw",
    chord=("..x...x...x...x.", "x.xxx.x.x.xxx.x."),
    chord_kind=("guitar", "guitar"),
    lead_kind=("strings", "brass"),
    swing=0.0,
    sidechain=0.15,
    step_beats=1,
    hold=0.05,
    bounce=0.014,
    sway=0.026,
    twist=0.20,
    tilt=0.12,
    arms=(
        ("diagonal", "hip"), ("hip", "diagonal"), ("cross_low", "hip"), ("hip", "cross_low"), ("diagonal", "low_out"),
        ("low_out", "diagonal"), ("out", "out"),
    ),
    stances=("step_right", "step_left", "tap_right", "tap_left", "neutral"),
)  # fmt: skip
REGGAETON = Style(
    name="reggaeton",
    tempo_bpm=(90, 100),
    minor=True,
    progressions=((0, 5, 2, 6), (0, 6, 5, 4), (5, 6, 0, 0)),
    kick=("X...X...X...X...", "X...x...X...x..."),
    snare=("...-..x....-..x.",),
    hat=("X.-.X.-.X.-.X.-.", "X-x-X-x-X-x-X-x-"),
    open_hat=("................",),
    percussion=("x.-.x.-.x.-.x.-.", "x.x.x.x.x.x.x.x."),
    snare_kind="rim",
    bass=(("x...x...x...x...", (0, 0, 0, 7)), ("x...x.x.x...x.x.", (0, 0, 7, 0, 0, -2))),
    bass_kind="sub",
    chord=("..x...x...x...x.", "x...x...x...x..."),
    chord_kind=("pluck", "stab"),
    lead_kind=("marimba", "flute"),
    swing=0.0,
    sidechain=0.25,
    step_beats=1,
    hold=0.10,
    bounce=0.018,
    sway=0.038,
    twist=0.26,
    tilt=0.06,
    arms=(
        ("head", "hip"), ("hip", "head"), ("hip", "hip"), ("head", "low_out"), ("low", "hip"), ("head", "head"),
    ),
    stances=("neutral", "narrow", "squat", "tap_right", "tap_left"),
)  # fmt: skip
HALF_TIME = Style(
    name="half-time",
    tempo_bpm=(132, 140),
    minor=True,
    progressions=((0, 5, 0, 3), (0, 0, 5, 5), (0, 6, 5, 6)),
    kick=("X.........x.....", "X...x.....x....."),
    snare=("........X.......",),
    hat=("x.x.x.x.x.x.x.x.", "x.x.xxx.x.x.x.xx"),
    open_hat=("..............x.", "................"),
    percussion=("................", "......-......-.."),
    snare_kind="clap",
    bass=(("x.........x.....", (0, -5)), ("x...x.....x.....", (0, 12, 3))),
    bass_kind="sub",
    chord=("x...............", "x.......x......."),
    chord_kind=("pad", "bell"),
    lead_kind=("bell", "square"),
    swing=0.0,
    sidechain=0.3,
    step_beats=2,
    hold=0.10,
    bounce=0.045,
    sway=0.014,
    twist=0.15,
    tilt=0.14,
    arms=(
        ("up", "low_out"), ("low_out", "up"), ("out", "chest"), ("chest", "out"), ("cross", "cross"),
        ("diagonal", "low_out"), ("low_out", "diagonal"),
    ),
    stances=("wide", "squat", "squat_right", "squat_left", "wide"),
)  # fmt: skip
SYNTH_POP = Style(
    name="synth-pop",
    tempo_bpm=(100, 108),
    minor=False,
    progressions=((0, 4, 5, 3), (5, 3, 0, 4), (0, 3, 5, 4)),
    kick=("X...x...X...x...", "X.....x.X......."),
    snare=("....X.......X...",),
    hat=("x.x.x.x.x.x.x.x.",),
    open_hat=("..............x.",),
    percussion=("................", "x...x...x...x.x."),
    snare_kind="snare",
    bass=(("x.x.x.x.x.x.x.x.", (0,)), ("x.x.x.x.x.x.x.x.", (0, 0, 12, 0))),
    bass_kind="square",
    chord=("xxxxxxxxxxxxxxxx", "x.xxx.xxx.xxx.xx"),
    chord_kind=("arpeggio", "arpeggio"),
    lead_kind=("square", "brass"),
    swing=0.0,
    sidechain=0.45,
    step_beats=1,
    hold=0.0,
    bounce=-0.026,
    sway=0.016,
    twist=0.10,
    tilt=0.08,
    arms=(
        ("up", "up"), ("diagonal", "diagonal"), ("clap", "clap"), ("out", "out"), ("up", "hip"), ("hip", "up"),
        ("chest", "chest"),
    ),
    stances=("neutral", "wide", "knee_right", "knee_left", "step_right", "step_left"),
)  # fmt: skip

STYLES = (HOUSE, HIP_HOP, DISCO, REGGAETON, HALF_TIME, SYNTH_POP)
