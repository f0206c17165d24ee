"""The tables as one checked definition: names, dtypes, units, ranges.

For the annotation tables that people write, for the columns of the dataset that comes out, and for the numbers that
several packages share. Not for files (`tiktok_dm.annotations.tables` reads and writes them), and not for what is said
when a cell is wrong (`tiktok_dm.annotations.rules`). Importing it costs nothing.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tiktok_dm.errors import UserError

SAMPLE_RATE = 22_050  # Hz, mono: the rate of the published audio
POSE_FPS = 30  # poses a second, whatever the video's own rate
SEGMENT_S = 2.0  # length of a segment
SEGMENT_SAMPLES = 44_100  # SEGMENT_S * SAMPLE_RATE
SEGMENT_POSES = 60  # SEGMENT_S * POSE_FPS
N_JOINTS = 25  # BODY_25
MAX_DANCERS = 5  # the most in the published dataset; pose rows are padded to it
SPLITS = ("train", "test", "validation")
MAX_SECONDS = 86_400.0  # no compilation is longer than a day
OVERLAP_TOLERANCE_S = 0.001  # two clips that share less than this only touch
DURATION_TOLERANCE_S = 0.05  # more than one frame at 25 fps: containers round their duration


class SegmentId(NamedTuple):
    """The four numbers of a published segment id; `segment_index` counts from 1."""

    compilation_id: int
    song_id: int
    clip_id: int
    segment_index: int


_SEGMENT_ID = re.compile(r"([0-9]{6})_(0|[1-9][0-9]*)_(0|[1-9][0-9]*)_seg([1-9][0-9]*)")


def segment_id(compilation_id: int, song_id: int, clip_id: int, k: int) -> str:
    """The published id `CCCCCC_S_V_segK` of segment `k` (from 1) of a clip.

    Raises:
        ValueError: a number is negative, `k` is below 1, or `compilation_id` has more than six digits.
    """
    if min(compilation_id, song_id, clip_id) < 0 or k < 1 or compilation_id > 999_999:
        raise ValueError(f"no segment id for compilation {compilation_id}, song {song_id}, clip {clip_id}, segment {k}")
    return f"{compilation_id:06d}_{song_id}_{clip_id}_seg{k}"


def parse_segment_id(text: str) -> SegmentId:
    """The inverse of `segment_id`; raises `UserError` for any other text."""
    match = _SEGMENT_ID.fullmatch(text)
    if match is None:
        raise UserError(f"{text!r} is not a segment id: it should look like 000007_41_210_seg3")
    return SegmentId(*(int(part) for part in match.groups()))


def whole_segments(duration_s: float) -> int:
    """How many whole segments tile `duration_s` seconds; a shorter rest is dropped.

    A clip may end a millisecond before its last segment does: container time bases round to that.
    """
    return max(0, math.floor((duration_s + 1e-3) / SEGMENT_S + 1e-9))


def nearest_name(name: str, known: Collection[str]) -> str | None:
    """The name in `known` that `name` was probably meant to be, or None when none is near."""
    match = difflib.get_close_matches(name.casefold().replace(" ", "_"), sorted(known), n=1, cutoff=0.5)
    return match[0] if match else None


# ------------------------------------------------------------------------------------------- annotation tables


@dataclass(frozen=True)
class Column:
    """One column of an annotation table.

    Args:
        name: as in the header.
        kind: what its cells hold: `id`, `count`, `seconds`, `share` (0..1), `number`, `text`, `file`, `url`, `sha256`,
            `split`, or one of `choices`.
        meaning: with its unit, in words.
        required: the header must have it.
        filled: no cell of it may be empty.
        extra: written only where some cell of it is filled.
        low, high: the least and the greatest value, for numbers.
        choices: the words that a `choice` may be.
    """

    name: str
    kind: str
    meaning: str
    required: bool = False
    filled: bool = False
    extra: bool = False
    low: int = 0
    high: float = 999_999_999
    choices: tuple[str, ...] = ()

    @property
    def dtype(self) -> str:
        """The pandas dtype of its values; each of them knows empty cells."""
        integers, reals = dict.fromkeys(("id", "count"), "Int64"), ("seconds", "share", "number")
        return {**integers, **dict.fromkeys(reals, "Float64")}.get(self.kind, "string")


def _key(name: str, meaning: str, high: float = 999_999_999) -> Column:
    return Column(name, "id", meaning, required=True, filled=True, high=high)


_NOTES = Column("notes", "text", "anything the annotator wants to say", extra=True)
_COMPILATION_ID = _key("compilation_id", "the compilation, an integer from 0", 999_999)
_SONG_ID = _key("song_id", "the song, an integer from 0")

TABLES: dict[str, tuple[Column, ...]] = {
    "compilations": (
        _COMPILATION_ID,
        Column("title", "text", "title of the source video"),
        Column("url", "url", "where the source video is, http or https", required=True),
        Column("file", "file", "name of a local file of it, without folders", required=True),
        Column("license", "text", "licence of the source video"),
        Column("sha256", "sha256", "checksum that the source video must have"),
        _NOTES,
    ),
    "clips": (
        _key("clip_id", "the clip, an integer from 0, unique over all compilations"),
        _COMPILATION_ID,
        _SONG_ID,
        Column("start_s", "seconds", "start of the clip, s from the source's first instant", True, high=MAX_SECONDS),
        Column("end_s", "seconds", "end of the clip, s from the source's first instant", True, high=MAX_SECONDS),
        Column("n_dancers", "count", "how many people dance, as annotated", low=1, high=MAX_DANCERS),
        Column("released_segments", "count", "2-s segments in the published lists", extra=True, high=MAX_SECONDS),
        _NOTES,
    ),
    "songs": (
        _SONG_ID,
        Column("title", "text", "title of the song"),
        Column("artist", "text", "who plays it"),
        Column("genre", "text", "its genre", extra=True),
        Column("license", "text", "licence of the recording", extra=True),
        _NOTES,
    ),
    "splits": (
        _SONG_ID,
        Column("split", "split", "train, test or validation", required=True, filled=True),
    ),
}

# What a program proposed beside the annotations, and what a person said to it (`tiktok_dm.curate.proposals`).
_CONFIDENCE = Column("confidence", "share", "how sure the program is, 0..1", required=True, high=1)
_REASON = Column("reason", "text", "why, in words")
PROPOSAL_TABLES: dict[str, tuple[Column, ...]] = {
    "proposals": (
        _key("clip_id", "the clip"),
        *(
            column
            for value in ("start", "end", "song", "dancers")
            for column in (
                Column(f"{value}_confidence", "share", f"how sure the program is of the {value}, 0..1", high=1),
                Column(f"{value}_reason", "text", f"why the {value}, in words"),
            )
        ),
        Column("review", "choice", "what a person said", choices=("accepted", "mended")),
    ),
    "rejected": (
        _COMPILATION_ID,
        Column("start_s", "seconds", "start of a stretch that is no clip, s", True, True, high=MAX_SECONDS),
        Column("end_s", "seconds", "its end, s", True, True, high=MAX_SECONDS),
        Column("kind", "text", "title_card, outro_card, card, black or rejected"),
        _CONFIDENCE,
        _REASON,
        Column("clip_id", "id", "of the clip that a person rejected; never given again", extra=True),
        Column("song_id", "id", "its song; never given again", extra=True),
        Column("n_dancers", "count", "its dancers", extra=True, low=1, high=MAX_DANCERS),
    ),
    "candidates": (
        _COMPILATION_ID,
        Column("at_s", "seconds", "an instant that was considered as a boundary, s", True, True, high=MAX_SECONDS),
        Column("kind", "text", "hard_cut, crossfade, fade, flash, zoom, motion, start or end"),
        _CONFIDENCE,
        Column("used", "choice", "whether a clip starts or ends there", choices=("yes", "no")),
        _REASON,
    ),
    "same_songs": (
        Column("clip_a", "id", "a clip", required=True, filled=True),
        Column("clip_b", "id", "a later clip that may have the same song", required=True, filled=True),
        _CONFIDENCE,
        Column("speed", "number", "speed of clip_b's music over clip_a's", low=0, high=100),
        Column("offset_s", "number", "second of clip_b at which clip_a's start sounds", low=-86_400, high=86_400),
        _REASON,
        Column("answer", "choice", "what a person said", choices=("same", "different")),
    ),
}
TABLES.update(PROPOSAL_TABLES)


# ------------------------------------------------------------------------------------------- the dataset's columns
# name -> (kind, meaning). Kinds: string, int64, float32, float64, video, audio (22,050 Hz mono), float64[] (any
# length), int64[4], and float32[...] with its shape, in which None is the one free length.

_SHARED: dict[str, tuple[str, str]] = {
    "clip_id": ("int64", "the clip, unique over all compilations"),
    "compilation_id": ("int64", "the source video that the clip was cut from"),
    "song_id": ("int64", "the song that is danced to"),
    "split": ("string", "train, test or validation; assigned to whole songs"),
    "start_s": ("float64", "start, s from the source's first instant, on a frame that exists"),
}

CLIP_COLUMNS: dict[str, tuple[str, str]] = {
    **_SHARED,
    "end_s": ("float64", "end, s from the source's first instant"),
    "duration_s": ("float64", "end_s - start_s, s"),
    "fps": ("float64", "frames a second of the video"),
    "width": ("int64", "width of the video, px"),
    "height": ("int64", "height of the video, px"),
    "content_box": ("int64[4]", "x, y, width, height of the picture without static decoration, px"),
    "n_dancers": ("int64", "dancers found by the pose stage"),
    "n_dancers_annotated": ("int64", "dancers as annotated; null where the annotation says nothing"),
    "video": ("video", "the clip's picture and sound"),
    "audio": ("audio", "the clip's sound, 22,050 Hz mono"),
    "pose": (
        f"float32[None,{MAX_DANCERS},{N_JOINTS},3]",
        "BODY_25 of each dancer: x px, y px, confidence; 30 fps",
    ),
    "pose_fps": ("float64", "poses a second"),
    "pose_coverage": ("float64", "share of the poses in which a dancer was found, 0..1"),
    "pose_confidence": ("float64", "mean confidence of the keypoints found, 0..1"),
    "pose_model": ("string", "the pose estimator and its version"),
    "beats_s": ("float64[]", "beats of the music, s from the clip's start"),
    "tempo_bpm": ("float64", "tempo of the music, beats a minute"),
    "loudness_lufs": ("float64", "integrated loudness of the sound, LUFS"),
    "source": ("string", "link or file name of the source video"),
    "source_sha256": ("string", "SHA-256 of the source video"),
    "video_sha256": ("string", "SHA-256 of the bytes in video"),
    "audio_sha256": ("string", "SHA-256 of the bytes in audio"),
}

SEGMENT_COLUMNS: dict[str, tuple[str, str]] = {
    "segment_id": ("string", "CCCCCC_S_V_segK: compilation, song, clip, segment"),
    **{name: _SHARED[name] for name in ("clip_id", "compilation_id", "song_id", "split")},
    "segment_index": ("int64", "place of the segment in its clip, from 1"),
    "start_s": ("float64", "start, s from the clip's start"),
    "audio": ("audio", f"{SEGMENT_SAMPLES:,} samples at 22,050 Hz, mono"),
    "motion": (f"float32[{SEGMENT_POSES},{N_JOINTS * 3}]", "30 fps x BODY_25 x (x px, y px, confidence), lead dancer"),
    "n_dancers": ("int64", "dancers found in the clip"),
}

DATASET_COLUMNS = {"clips": CLIP_COLUMNS, "segments": SEGMENT_COLUMNS}

# Columns that a dataset's segments have only where it was made with them, after the others.
EXTRA_SEGMENT_COLUMNS: dict[str, tuple[str, str]] = {
    "visual": ("float32[2048]", "features of the segment's picture: of RGB 1,024, of optical flow 1,024"),
}


def segment_columns(visual: int = 0, method: str = "") -> dict[str, tuple[str, str]]:
    """Columns of a dataset's segments.

    Args:
        visual: length of the visual features; 0 for a dataset without them.
        method: how those were made, in words.
    """
    if not visual:
        return SEGMENT_COLUMNS
    kind, meaning = EXTRA_SEGMENT_COLUMNS["visual"]
    if method or kind != f"float32[{visual}]":
        meaning = "features of what is seen in the segment" + (f": {method}" if method else "")
    return {**SEGMENT_COLUMNS, "visual": (f"float32[{visual}]", meaning)}


SMPL_FRAMES = 120
"""Poses of an AIST++ segment: 2 s at 60 a second."""
SMPL_FEATURES = 3 + 24 * 9
"""Translation, and 24 rotations as 3 x 3 matrices."""


def smpl_segment_columns(genres: Sequence[str], visual: int = 0, method: str = "") -> dict[str, tuple[str, str]]:
    """Columns of AIST++'s segments, whose motion is SMPL's and which have a genre.

    Args:
        genres: the order of the one-hot.
        visual: length of the visual features; 0 for a dataset without them.
        method: how those were made, in words.
    """
    columns = {
        **segment_columns(visual, method),
        "segment_id": ("string", "name of the dance with its camera, and _segK, as in the published lists"),
        "clip_id": ("int64", "the dance: place of its name among all of the split lists'"),
        "compilation_id": ("int64", "the dancer: 4 is d04 (AIST++ has no compilations)"),
        "song_id": ("int64", "the music: 6 x genre + its number; mBR0 is 0"),
        "split": ("string", "train or test of the cross-modality split; no song is in both"),
        "motion": (
            f"float32[{SMPL_FRAMES},{SMPL_FEATURES}]",
            "60 fps x (translation, then 24 SMPL rotations as 3 x 3 matrices, row by row)",
        ),
        "n_dancers": ("int64", "1"),
    }
    seen = {name: columns.pop(name) for name in ("visual",) if name in columns}
    return {**columns, "genre": (f"float32[{len(genres)}]", f"one-hot of {', '.join(genres)}"), **seen}
