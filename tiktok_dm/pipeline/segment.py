"""The segment stage: one exact cut of a compilation, its sound for the models, and where the picture proper is.

How a cut is exact is `tiktok_dm.media`'s matter, what decoration is `tiktok_dm.media.content_box`'s. Not for 2-s
segments: the export tiles clips into those.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import media
from tiktok_dm.files import sha256_file
from tiktok_dm.media.content_box import find_content_box
from tiktok_dm.runtime.store import OMITTED
from tiktok_dm.schema import SAMPLE_RATE

VERSION = 2

# Pictures in which the content box is looked for, spread over the clip.
_SAMPLED = 32


@dataclass(frozen=True)
class SegmentParams:
    """What a cut depends on.

    Args:
        max_height: of the stored picture, px; None keeps the source's.
        crf: x264's constant quality; 20 is visually near the source.
        preset: x264's preset.
        sample_rate: of the clip's sound for the models, Hz.
        audio_track: number of the source's sound track, from 0; None for the one that `tiktok_dm.media` chooses.
    """

    max_height: int | None = 720
    crf: int = 20
    preset: str = "veryfast"
    sample_rate: int = SAMPLE_RATE
    audio_track: int | None = field(default=None, metadata={OMITTED: True})


def segment(source: Path, start_s: float, end_s: float, params: SegmentParams, out: Path) -> dict[str, Any]:
    """Cut one clip.

    Args:
        source: the compilation.
        start_s, end_s: as annotated; both go to the nearest instants at which a source frame appears.
        params: size, quality, rate.
        out: existing folder; receives `clip.mp4` and, if the source has sound, `audio.flac` (mono, exactly
            round(duration_s * sample_rate) samples, cut from the source and not from the clip's AAC).

    Returns:
        The record: start_s, end_s, duration_s, n_frames, width, height, fps, has_audio, content_box (x, y, width,
        height in px of the stored picture), content_box_confidence, video_sha256, audio_sha256 (None without sound),
        start_pts, end_pts, time_base (of the source).

    Raises:
        MediaError: the source cannot be read, or ends before the clip does.
        OSError: the disk is full (also DiskFull).
    """
    pictures: list[np.ndarray] = []
    cut = media.cut(
        source,
        start_s,
        end_s,
        out / "clip.mp4",
        max_height=params.max_height,
        crf=params.crf,
        preset=params.preset,
        on_frame=lambda _, picture: pictures.append(picture),
        sample_s=max((end_s - start_s) / _SAMPLED, 0.05),
        audio_track=params.audio_track,
    )
    height, width = pictures[0].shape[:2]
    found = find_content_box(np.stack(pictures)).scaled((width, height), (cut.width, cut.height))
    record: dict[str, Any] = asdict(cut)
    for name in ("start_s", "end_s", "duration_s", "fps"):
        record[name] = round(record[name], 6)
    record["content_box"] = [found.x, found.y, found.width, found.height]
    record["content_box_confidence"] = round(float(found.confidence), 3)
    record["video_sha256"] = sha256_file(out / "clip.mp4")
    record["audio_sha256"] = None
    if cut.has_audio:
        samples = media.read_audio(
            source,
            sample_rate=params.sample_rate,
            start_s=cut.start_s,
            end_s=cut.end_s,
            track=params.audio_track,
        )
        wanted = round(record["duration_s"] * params.sample_rate)
        if len(samples) != wanted:  # the two roundings of the ends may differ by a sample
            samples = np.pad(samples, (0, max(0, wanted - len(samples))))[:wanted]
        (out / "audio.flac").write_bytes(media.encode_audio(samples, params.sample_rate))
        record["audio_sha256"] = sha256_file(out / "audio.flac")
    return record
