"""Open a built dataset, and decode its video and audio columns without any system library.

`datasets` decodes Video and Audio columns by torchcodec, which needs FFmpeg's shared libraries on the system. Here the
columns are left as the bytes that are stored, and PyAV and soundfile, which carry their own libraries, decode a value
when asked. Not for media files on the disk: that is `tiktok_dm.media`.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.schema import DATASET_COLUMNS, SAMPLE_RATE

if TYPE_CHECKING:
    from datasets import DatasetDict, Features, IterableDatasetDict

    Encoded = Mapping[str, Any] | bytes

_ARRAY = re.compile(r"(\w+)\[([^\]]*)\]")


def features(config: str, columns: Mapping[str, tuple[str, str]] | None = None) -> Features:
    """The `datasets` types of the columns of a configuration, `clips` or `segments`, made from the schema's.

    Args:
        columns: name to (kind, meaning), where they are not the schema's own for this configuration.

    Raises:
        UserError: no such configuration.
    """
    if config not in DATASET_COLUMNS:
        known = " and ".join(DATASET_COLUMNS)
        raise UserError(f"there is no configuration {config!r} in a dataset: the configurations are {known}")
    from datasets import Features

    return Features({name: _feature(kind) for name, (kind, _) in (columns or DATASET_COLUMNS[config]).items()})


def _feature(kind: str) -> Any:
    """`int64` -> Value, `float64[]` -> List, `int64[4]` -> List of four, `float32[None,5,25,3]` -> Array4D."""
    import datasets

    if kind == "video":
        return datasets.Video()
    if kind == "audio":
        return datasets.Audio(sampling_rate=SAMPLE_RATE)
    array = _ARRAY.fullmatch(kind)
    if array is None:
        return datasets.Value(kind)
    dtype = array[1]
    shape = tuple(None if n.strip() == "None" else int(n) for n in array[2].split(",") if n.strip())
    if len(shape) <= 1:
        return datasets.List(datasets.Value(dtype), length=shape[0] if shape else -1)
    return getattr(datasets, f"Array{len(shape)}D")(shape=shape, dtype=dtype)


def open_dataset(
    path: Path | str, config: str = "clips", *, streaming: bool = False
) -> DatasetDict | IterableDatasetDict:
    """A built dataset as `datasets.load_dataset` opens it, by split, with video and audio left undecoded.

    A value of such a column is `{"bytes": ..., "path": ...}`; give it to `decode_video` or `decode_audio`.

    Args:
        path: the dataset's folder (or its name on the Hugging Face hub).
        config: `clips` or `segments`.
        streaming: read rows as they are asked for instead of copying the dataset into the `datasets` cache first.

    Raises:
        UserError: no such configuration, or a folder without a dataset.

    Example:
        >>> from tiktok_dm import open_dataset
        >>> clips = open_dataset("demo")
        >>> sorted(clips), clips["train"].num_rows
        (['test', 'train'], 1)
    """
    columns = features(config)
    if Path(path).is_dir() and not (Path(path) / "README.md").is_file():
        raise UserError(f"{path} holds no dataset (it has no README.md): give the folder that a finished build wrote")
    if not Path(path).exists() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", str(path)):
        raise UserError(f"there is no dataset at {path}: give the folder that a finished build wrote")
    import datasets

    opened = datasets.load_dataset(str(path), config, streaming=streaming)
    for name, column in columns.items():
        if isinstance(column, datasets.Video):
            opened = opened.cast_column(name, datasets.Video(decode=False))
        elif isinstance(column, datasets.Audio):
            opened = opened.cast_column(name, datasets.Audio(sampling_rate=column.sampling_rate, decode=False))
    return opened


def stored_bytes(value: Encoded) -> bytes:
    """The encoded bytes in a value of an undecoded video or audio column.

    Raises:
        UserError: the value holds no bytes (it was decoded already, or only a path was stored).
    """
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(data, bytes | bytearray | memoryview):
        raise UserError(
            "this value holds no encoded bytes: open the dataset with tiktok_dm.reading.open_dataset, or cast the "
            "column to decode=False"
        )
    return bytes(data)


def decode_video(value: Encoded) -> Iterator[np.ndarray]:
    """Pictures of a video value in order of their time, each uint8 (height, width, 3), RGB; one at a time.

    `np.stack(list(decode_video(row["video"])))` is all of them, (frames, height, width, 3).

    Raises:
        UserError: no bytes in the value.
        MediaError: the bytes are no video.

    Example:
        >>> from tiktok_dm import decode_video, open_dataset
        >>> clip = open_dataset("demo")["train"][0]
        >>> next(decode_video(clip["video"])).shape == (clip["height"], clip["width"], 3)
        True
    """
    for _, picture in video_frames(value):
        yield picture.to_ndarray(format="rgb24")


def video_frames(value: Encoded) -> Iterator[tuple[float, Any]]:
    """`(seconds from the container's first instant, av.VideoFrame)` of each picture of a video value."""
    import av

    data = stored_bytes(value)
    try:
        with av.open(io.BytesIO(data), "r") as container:
            if not container.streams.video:
                raise MediaError("a stored video holds no picture: the dataset is damaged, run `tiktok-dm verify`")
            for picture in container.decode(container.streams.video[0]):
                yield float(picture.time or 0.0), picture
    except av.FFmpegError as error:
        raise MediaError(
            f"a stored video cannot be decoded ({error}): run `tiktok-dm verify` on the dataset"
        ) from error


def decode_audio(value: Encoded) -> tuple[np.ndarray, int]:
    """Samples float32 (samples,) in -1..1 and their rate in Hz, of an audio value.

    A file with several channels gives (samples, channels); the dataset's are mono, 22,050 Hz.

    Raises:
        UserError: no bytes in the value.
        MediaError: the bytes are no sound.

    Example:
        >>> from tiktok_dm import decode_audio, open_dataset
        >>> segment = open_dataset("demo", "segments")["train"][0]
        >>> samples, rate = decode_audio(segment["audio"])
        >>> samples.shape, rate
        ((44100,), 22050)
    """
    import soundfile

    try:
        return soundfile.read(io.BytesIO(stored_bytes(value)), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise MediaError(
            f"a stored sound cannot be decoded ({error}): run `tiktok-dm verify` on the dataset"
        ) from error


@functools.cache
def missing_decoder() -> str | None:
    """What to install so that `datasets` itself can decode video and audio columns, in one sentence; None if nothing.

    Nothing in this package needs it; looking costs seconds, since torchcodec loads PyTorch.
    """
    instead = "(tiktok_dm.reading opens the dataset without it)"
    try:
        import torchcodec.decoders  # noqa: F401
    except ModuleNotFoundError as error:
        return (
            f"To decode video and audio columns by itself, datasets needs {error.name}: run "
            f"pip install 'tiktok-dm[decode]' and install FFmpeg 4 to 8 {instead}."
        )
    except (ImportError, OSError, RuntimeError) as error:
        # torchcodec tries each FFmpeg version in turn; where none is installed, every try fails at libavutil.
        if "libav" in str(error) or "FFmpeg" in str(error):
            return (
                "To decode video and audio columns by itself, datasets needs the shared libraries of FFmpeg 4 to 8, "
                "which torchcodec did not find on this system: install them, for instance by apt-get install ffmpeg "
                f"or brew install ffmpeg {instead}."
            )
        return (
            "To decode video and audio columns by itself, datasets needs a torchcodec that fits the installed "
            f"PyTorch: run pip install 'tiktok-dm[decode]' {instead}."
        )
    return None
