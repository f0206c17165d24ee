"""Where an audit finds its clips: in local compilations, or in a built dataset.

Each is told from all others by a key, and opened only when it is asked for. Not for what is heard and seen in it
(`audit_evidence`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.audit.evidence import HEIGHT, PICTURES_PER_S, RATE, SIDE, VERSION, ClipSource
from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def sources_of_media(
    annotations: Annotations, media: Path, not_heard: dict[str, list[int]] | None = None
) -> Iterator[ClipSource]:
    """The clips of local compilations, in the table's order; what cannot be opened is put into `not_heard`.

    Raises:
        UserError: `media` is no folder.
    """
    import pandas as pd

    from tiktok_dm.media import read_audio, read_frames
    from tiktok_dm.pipeline.acquire import find_local

    if not media.is_dir():
        raise UserError(f"the media folder {media} does not exist: give the folder with the compilations")
    missing = not_heard if not_heard is not None else {}
    named = annotations.compilations
    files = {int(n): None if pd.isna(f) else str(f) for n, f in zip(named.compilation_id, named.file, strict=True)}
    paths = {number: find_local(media, number, file) for number, file in files.items()}

    def source(clip: int, path: Path, start: float, end: float) -> ClipSource:
        state = path.stat()
        key = _key([str(path.resolve()), state.st_size, state.st_mtime_ns, start, end])
        return ClipSource(
            clip,
            key,
            lambda: (read_audio(path, sample_rate=RATE, start_s=start, end_s=end), RATE),
            lambda: (
                rgb for _, rgb in read_frames(path, start_s=start, end_s=end, fps=PICTURES_PER_S, max_height=HEIGHT)
            ),
        )

    for row in annotations.clips.to_dict("records"):
        clip, number = int(row["clip_id"]), int(row["compilation_id"])
        path = paths.get(number)
        if path is None:
            missing.setdefault(f"no file of compilation {number} is in {media}", []).append(clip)
        elif pd.isna(row["start_s"]) or pd.isna(row["end_s"]):
            missing.setdefault("no start or no end", []).append(clip)
        else:
            yield source(clip, path, float(row["start_s"]), float(row["end_s"]))


def sources_of_dataset(dataset: Path | str) -> tuple[pd.DataFrame, Iterator[ClipSource]]:
    """The clips of a built dataset: `clip_id`, `song_id`, `compilation_id` and `split` of each, and the clips one after
    another (only one clip's bytes are held at a time).

    Raises:
        UserError: there is no dataset.
    """
    import pandas as pd

    from tiktok_dm.reading import open_dataset

    opened = open_dataset(dataset, "clips", streaming=True)
    columns = ["clip_id", "song_id", "compilation_id", "split"]
    rows = [row for split in opened.values() for row in split.select_columns(columns)]
    table = pd.DataFrame(rows, columns=columns).astype(
        {name: "string" if name == "split" else "Int64" for name in columns}
    )

    def clips() -> Iterator[ClipSource]:
        for split in opened.values():
            for row in split.select_columns(["clip_id", "video", "audio"]):
                yield _stored_clip(row)

    return table, clips()


def _stored_clip(row: Mapping[str, Any]) -> ClipSource:
    from tiktok_dm.reading import decode_audio, stored_bytes

    def sound() -> tuple[np.ndarray, float]:
        samples, rate = decode_audio(row["audio"])
        return (samples if samples.ndim == 1 else samples.mean(axis=1)), rate

    digests = [hashlib.sha256(stored_bytes(row[name])).hexdigest() for name in ("video", "audio")]
    return ClipSource(int(row["clip_id"]), _key(digests), sound, lambda: _stored_pictures(row["video"]))


def _stored_pictures(value: Any) -> Iterator[np.ndarray]:
    """The pictures on screen at k / PICTURES_PER_S of a stored video, scaled down."""
    from tiktok_dm.reading import video_frames

    held: Any = None
    count = 0

    def small(picture: Any) -> np.ndarray:
        height = min(HEIGHT, picture.height)
        width = max(1, round(picture.width * height / picture.height))
        return picture.to_ndarray(format="rgb24", width=width, height=height)

    for time, picture in video_frames(value):
        while held is not None and count / PICTURES_PER_S < time - 1e-6:
            yield small(held)
            count += 1
        held = picture
    if held is not None:
        yield small(held)


def _key(inputs: Sequence[Any]) -> str:
    """Content key of a clip's evidence: of what it is made from, and how."""
    from tiktok_dm.runtime.store import content_key

    parameters = {"rate": RATE, "pictures": PICTURES_PER_S, "side": SIDE, "height": HEIGHT}
    return content_key("audit", VERSION, parameters, {str(k): value for k, value in enumerate(inputs)})
