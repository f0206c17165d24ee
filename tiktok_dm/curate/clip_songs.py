"""The songs of new clips: each is sketched, searched among all others, and given a song that is new or known.

For `propose`: puts `song_sketch`, `songs` and `song_groups` to work on scanned videos. Not for how two clips are
compared, nor for what makes one song of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from tiktok_dm.audio.song_index import SameSong, SongIndex
from tiktok_dm.audio.spectrogram_sketch import SongSketch, sketch
from tiktok_dm.curate.cuts.scan import Scan, scan
from tiktok_dm.curate.proposals import Proposals
from tiktok_dm.curate.review.ids import kept_ids, next_ids
from tiktok_dm.curate.song_groups import SongGroups, group_songs
from tiktok_dm.curate.video_findings import VideoFindings
from tiktok_dm.schema import SAMPLE_RATE

ClipIds = Mapping[tuple[int, int], int]  # (compilation, place among its shots) -> clip


def clip_sketches(
    before: Proposals, found: Sequence[VideoFindings], ids: ClipIds, sources: Mapping[int, Path], work: Path
) -> tuple[dict[str, SongSketch], list[str]]:
    """The music of every clip, old and new, by clip id as text; and sentences about what could not be heard.

    Args:
        before: proposals whose clips are old.
        found: new videos.
        ids: of the new clips.
        sources: where the video of each compilation lies, old and new.
        work: folder with what was scanned.
    """
    sketches: dict[str, SongSketch] = {}
    notes: list[str] = []
    sums = dict(
        zip(before.annotations.compilations.compilation_id, before.annotations.compilations.sha256, strict=True)
    )
    for number in sorted(int(n) for n in before.clips.compilation_id.unique()):
        rows = before.clips[before.clips.compilation_id == number]
        path = sources.get(number)
        timed = rows[rows.start_s.notna() & rows.end_s.notna()]
        if path is None or not isinstance(sums.get(number), str):
            notes.append(
                f"the songs of compilation {number} could not be compared with the new ones: its video is not where it "
                "was; give it again beside the new ones"
            )
            continue
        heard = scan(path, work, sha256=sums[number])
        for clip, start, end in zip(timed.clip_id, timed.start_s, timed.end_s, strict=True):
            sketches[str(clip)] = sketch_of(heard, float(start), float(end))
    for one in found:
        heard = scan(one.path, work, sha256=one.sha256)
        for k in one.clips:
            shot = one.shots[k]
            sketches[str(ids[one.compilation_id, k])] = sketch_of(heard, shot.start_s, shot.end_s)
    return sketches, notes


def group_clips(
    before: Proposals, found: Sequence[VideoFindings], ids: ClipIds, sketches: Mapping[str, SongSketch]
) -> SongGroups:
    """The song of every clip; those of old clips stay, and answers that a person gave are heeded."""
    fresh = {str(ids[one.compilation_id, k]) for one in found for k in one.clips}
    keys = [*(str(clip) for clip in before.clips.clip_id), *sorted(fresh, key=int)]
    pairs = same_songs({key: sketches[key] for key in keys if key in sketches}, fresh)
    runs_on = []
    for one in found:
        clips = one.clips
        for a, b in pairwise(clips):
            probability = one.shots[b].music_runs_on
            if b == a + 1 and probability is not None:
                runs_on.append((str(ids[one.compilation_id, a]), str(ids[one.compilation_id, b]), probability))
    answers = {
        (str(row.clip_a), str(row.clip_b)): str(row.answer)
        for row in before.same_songs.itertuples()
        if isinstance(row.answer, str)
    }
    known = {str(clip): int(song) for clip, song in zip(before.clips.clip_id, before.clips.song_id, strict=True)}
    return group_songs(
        keys,
        pairs,
        known=known,
        runs_on=runs_on,
        answers=answers,
        next_id=next_ids(before, kept_ids(before.root)).song,
        silent=[key for key in keys if key in sketches and sketches[key].silent],
    )


def sketch_of(heard: Scan, start_s: float, end_s: float) -> SongSketch:
    """The music of one clip of a scanned video."""
    sound = heard.sound[round(start_s * SAMPLE_RATE) : round(end_s * SAMPLE_RATE)]
    return sketch(np.asarray(sound, np.float32), SAMPLE_RATE)


def same_songs(sketches: Mapping[str, SongSketch], new: set[str] | None = None) -> list[SameSong]:
    """Pairs of clips that may share a song, each once, best first; with `new`, only pairs that hold one of these."""
    index = SongIndex()
    pairs: dict[tuple[str, str], SameSong] = {}
    for key, found in sketches.items():
        if found.silent:
            continue
        if new is None or key in new:
            for pair in index.search(found):
                # The searched sketch is not in the index yet: whatever it is called, it is the later one.
                both = SameSong(**{**vars(pair), "a": pair.a, "b": key})
                pairs[both.a, both.b] = both
        index.add(key, found)
    return sorted(pairs.values(), key=lambda pair: (-pair.confidence, pair.a, pair.b))
