"""Training segments: the `segments` configuration of a built dataset, with the codec's ground truth computed once.

The ground truth (latents and codes of every segment, under every gain) depends on data and codec alone, so it is
computed once and kept on the disk under a key made of both; training reads it through a memory map. Not for batches'
use: see `step`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from d2m_model.codec.files import fingerprint
from d2m_model.codec.hub import HubCodec
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import SEGMENT_SAMPLES, ModelConfig
from d2m_model.motion import check_motion, to_units
from d2m_model.training.step import Batch
from tiktok_dm.errors import UserError

VERSION = 2  # of the cached numbers
_ENCODE_ROWS = 16


@dataclass(frozen=True)
class Segments:
    """The segments of one split, memory-mapped.

    Args:
        ids: segment ids, in the dataset's order.
        songs: (n,) int64 song ids.
        motion: (n, motion_frames, motion_features) float32 in the model's units, or None.
        visual: (n, visual_features) float32, or None.
        genre: (n,) int64, or None.
        audio: (n, 44100) float32, at the training's peak.
        latent: (n, gains, channels, frames) float32, the codec's latent of the audio times each gain.
        codes: (n, gains, frames) int32; (n, gains, code-books, frames) of a residual codec.
        gains: the factors.
        key: of the cached folder; changes with data, codec, gains and what the model reads.
    """

    ids: list[str]
    songs: np.ndarray
    motion: np.ndarray | None
    visual: np.ndarray | None
    genre: np.ndarray | None
    audio: np.ndarray
    latent: np.ndarray
    codes: np.ndarray
    gains: tuple[float, ...]
    key: str

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray, gain: np.ndarray | None = None, audio: bool = True) -> Batch:
        """The segments of these rows.

        Args:
            rows: (batch,) indices.
            gain: (batch,) which of the gains each one gets; the first if None.
            audio: whether the true audio comes along.
        """
        gain = np.zeros(len(rows), dtype=np.int64) if gain is None else gain
        sound = None
        if audio:
            factor = np.asarray(self.gains, dtype=np.float32)[gain][:, None]
            sound = torch.from_numpy(self.audio[rows] * factor)[:, None]
        return Batch(
            motion=None if self.motion is None else torch.from_numpy(self.motion[rows]),
            visual=None if self.visual is None else torch.from_numpy(self.visual[rows])[:, None],
            genre=None if self.genre is None else torch.from_numpy(self.genre[rows]),
            latent=torch.from_numpy(self.latent[rows, gain]),
            codes=torch.from_numpy(self.codes[rows, gain]),
            audio=sound,
        )


def load_segments(
    dataset: str,
    split: str,
    codec: JukeboxVQVAE | HubCodec,
    model: ModelConfig,
    gains: list[float],
    cache: Path,
    peak: float = 0.0,
) -> Segments:
    """The segments of a split with their ground truth, computed now if the cache does not hold it.

    Args:
        dataset: folder or hub id of a built dataset.
        split: `train`, `validation` or `test`.
        codec: frozen, of the model's level.
        model: what the model reads: motion, visual features, genres.
        gains: factors on the audio.
        cache: the folder of all cached data.
        peak: greatest absolute value of each segment's audio before the gains; 0 leaves it as it is.

    Raises:
        UserError: a dataset without `segments` or without the split; motion, visual features, genres or audio of
            another shape than the model's, or not finite; a codec of another width or hop than the model's.
    """
    check_codec(codec, model)
    key = cache_key(dataset, split, codec, model, gains, peak)
    folder = cache / key
    if not (folder / "index.json").is_file():
        n, rows = _rows(dataset, split, model)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            # A place of its own for each of several trainings that want the same; the first one done gives the name.
            with TemporaryDirectory(prefix=f".{key}.", dir=cache) as unfinished:
                filled = Path(unfinished) / key
                filled.mkdir()
                _fill(filled, n, _scaled(rows, peak), codec, gains, where=f"{dataset} ({split})")
                if not (folder / "index.json").is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                    filled.rename(folder)
        except OSError as error:
            raise UserError(f"The cache {folder} cannot be written: {error.strerror or error}.") from error
    return _open(folder, key)


def check_codec(codec: JukeboxVQVAE | HubCodec, model: ModelConfig) -> None:
    """Raise `UserError` unless the codec's latents of a segment are what the model makes."""
    frames = codec.n_frames(SEGMENT_SAMPLES)
    if (codec.latent_channels, frames) != (model.latent_channels, model.latent_frames):
        raise UserError(
            f"The codec's latent of 2 s is {codec.latent_channels} x {frames}, the model's {model.latent_channels} x "
            f"{model.latent_frames}; set model.latent_channels and model.level to the codec's (or, of a codec with "
            f"neither level's frames, model.latent_channels={codec.latent_channels} model.latent_frames={frames})."
        )


def cache_key(
    dataset: str, split: str, codec: JukeboxVQVAE | HubCodec, model: ModelConfig, gains: list[float], peak: float = 0.0
) -> str:
    """Name of the cached folder: everything that its numbers depend on, hashed."""
    reads = [model.motion_frames, model.motion_features, model.motion_units, model.visual_features, model.genres]
    parts = [VERSION, dataset_fingerprint(dataset), split, fingerprint(codec), reads, gains]
    if peak:
        parts.append(peak)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def dataset_fingerprint(dataset: str) -> str:
    """What identifies a dataset's content: its manifest where it is a built folder, otherwise its commit or its files.

    Raises:
        UserError: no such dataset.
    """
    folder = Path(dataset)
    if folder.is_dir():
        manifest = folder / "manifest.json"
        if manifest.is_file():
            return hashlib.sha256(manifest.read_bytes()).hexdigest()
        files = sorted(path for path in folder.rglob("*.parquet"))
        stats = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset):
        raise UserError(f"There is no dataset at {dataset}: give the folder that `tiktok-dm build` wrote, or a hub id.")
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(dataset).sha)
    except Exception as error:  # the hub's client raises many kinds; all mean that it cannot be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"There is no folder {dataset}, and the hub does not give it: {reason}") from error


def splits_of(dataset: str) -> list[str]:
    """The splits of the `segments` configuration.

    Raises:
        UserError: a dataset without it.
    """
    return list(_open_segments(dataset))


def _open_segments(dataset: str) -> Any:
    from tiktok_dm.reading import open_dataset

    try:
        return open_dataset(dataset, "segments")
    except (ValueError, FileNotFoundError) as error:  # what `datasets` raises for a configuration that is not there
        raise UserError(
            f"The dataset {dataset} cannot be opened with its segments ({' '.join(str(error).split())[:120]}); build "
            "it with `tiktok-dm build`, and clips of 2 s or more."
        ) from error


def read_rows(dataset: str, split: str, model: ModelConfig) -> Iterator[dict[str, Any]]:
    """Checked rows of a split: id, song, audio (44100,), and motion, visual and genre where the model reads them."""
    return _rows(dataset, split, model)[1]


def _rows(dataset: str, split: str, model: ModelConfig) -> tuple[int, Iterator[dict[str, Any]]]:
    """How many rows a split has, and `read_rows`."""
    opened = _open_segments(dataset)
    if split not in opened:
        raise UserError(f"The dataset {dataset} has no segments in its split {split}; it has {', '.join(opened)}.")
    table = opened[split]
    wanted = [("motion", model.motion_frames), ("visual", model.visual_features), ("genre", model.genres)]
    for column, reads in wanted:
        if reads and column not in table.column_names:
            raise UserError(
                f"The segments of {dataset} have no column {column!r}, which this model reads; build the dataset with "
                f"it, or set the model's {'visual_features' if column == 'visual' else column + 's'} to 0."
            )
    read = {column for column, reads in wanted if reads}
    table = table.select_columns(["segment_id", "song_id", "audio", *read])
    return len(table), (_row(row, model, dataset) for row in table.with_format(None))


def _row(row: dict[str, Any], model: ModelConfig, dataset: str) -> dict[str, Any]:
    from tiktok_dm.reading import decode_audio

    name = f"segment {row['segment_id']} of {dataset}"
    audio, _ = decode_audio(row["audio"])
    if audio.shape != (SEGMENT_SAMPLES,) or not np.isfinite(audio).all():
        shape = "x".join(map(str, audio.shape))
        raise UserError(f"The audio of {name} is {shape} samples or not finite; it must be {SEGMENT_SAMPLES} numbers.")
    out = {"id": row["segment_id"], "song": row["song_id"], "audio": audio}
    if model.motion_frames:
        motion = check_motion(np.asarray(row["motion"]), model.motion_frames, model.motion_features, name)
        out["motion"] = to_units(motion, model.motion_units)[0]
    if model.visual_features:
        visual = np.asarray(row["visual"], dtype=np.float32).reshape(-1)
        if visual.shape != (model.visual_features,) or not np.isfinite(visual).all():
            raise UserError(
                f"The visual features of {name} are {visual.shape[0]} numbers or not finite; the model takes "
                f"{model.visual_features}."
            )
        out["visual"] = visual
    if model.genres:
        genre = int(np.argmax(row["genre"])) if np.ndim(row["genre"]) else int(row["genre"])
        if not 0 <= genre < model.genres:
            raise UserError(f"The genre of {name} is {genre}; the model knows 0 to {model.genres - 1}.")
        out["genre"] = genre
    return out


def _scaled(rows: Iterator[dict[str, Any]], peak: float) -> Iterator[dict[str, Any]]:
    """Rows with their audio at that peak; silent ones, and all where `peak` is 0, as they are."""
    for row in rows:
        greatest = float(np.abs(row["audio"]).max())
        if peak and greatest:
            row["audio"] = (row["audio"] * np.float32(peak / greatest)).astype(np.float32)
        yield row


class _Rows:
    """An array that goes to a .npy file a few rows at a time, so that its length costs no memory."""

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.rest = rows
        self.file = path.open("wb")
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def add(self, rows: np.ndarray) -> None:
        """The next rows."""
        self.rest -= len(rows)
        self.file.write(np.ascontiguousarray(rows).data)

    def close(self) -> None:
        """All rows are there."""
        self.file.close()
        assert self.rest == 0, f"{self.rest} rows are missing"


def _fill(
    folder: Path, n: int, rows: Iterator[dict[str, Any]], codec: JukeboxVQVAE | HubCodec, gains: list[float], where: str
) -> None:
    """Write the arrays of `n` rows and what the codec makes of their audio, a few rows at a time."""
    if not n:
        raise UserError(f"The dataset {where} holds no segments.")
    device = next(codec.parameters()).device
    factors = torch.tensor(gains, dtype=torch.float32, device=device)
    index: dict[str, list[Any]] = {"ids": [], "songs": [], "gains": gains}
    files: dict[str, _Rows] = {}
    while chunk := list(islice(rows, _ENCODE_ROWS)):
        arrays = {name: np.stack([row[name] for row in chunk]) for name in chunk[0] if name not in ("id", "song")}
        with torch.no_grad():
            scaled = torch.from_numpy(arrays["audio"]).to(device)[:, None] * factors[:, None]
            encoded = codec.encode(scaled.reshape(-1, 1, SEGMENT_SAMPLES))
            codes = codec.quantise(encoded).codes.to(torch.int32)
        shape = (len(chunk), len(gains))
        arrays["latent"] = encoded.reshape(*shape, *encoded.shape[1:]).cpu().numpy()
        arrays["codes"] = codes.reshape(*shape, *codes.shape[1:]).cpu().numpy()
        for name, values in arrays.items():
            if name not in files:
                files[name] = _Rows(folder / f"{name}.npy", n, values.shape[1:], values.dtype)
            files[name].add(values)
        index["ids"] += [row["id"] for row in chunk]
        index["songs"] += [row["song"] for row in chunk]
    for file in files.values():
        file.close()
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _open(folder: Path, key: str) -> Segments:
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))

    def load(name: str) -> np.ndarray:
        return np.load(folder / f"{name}.npy", mmap_mode="r")

    def optional(name: str) -> np.ndarray | None:
        return load(name) if (folder / f"{name}.npy").is_file() else None

    return Segments(
        ids=index["ids"],
        songs=np.asarray(index["songs"], dtype=np.int64),
        motion=optional("motion"),
        visual=optional("visual"),
        genre=optional("genre"),
        audio=load("audio"),
        latent=load("latent"),
        codes=load("codes"),
        gains=tuple(index["gains"]),
        key=key,
    )


def hold_out(segments: Segments, n_songs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on and rows to validate on, of different songs.

    Raises:
        UserError: fewer songs than that and one more.
    """
    songs = np.unique(segments.songs)
    if n_songs >= len(songs):
        raise UserError(f"{n_songs} songs are to be held out, but the training split has {len(songs)}; hold out fewer.")
    held = np.random.default_rng([seed, 1]).choice(songs, n_songs, replace=False)
    out = np.isin(segments.songs, held)
    return np.flatnonzero(~out), np.flatnonzero(out)


class TrainingBatches(TorchDataset[Batch]):
    """Batch number `step` of a training, for any step: a pure function of seed and step, so that a run can go on
    anywhere.

    Every pass over the data has an order of its own; a rest smaller than a batch is left out of the pass.

    Args:
        segments: all segments.
        rows: (n,) the ones to train on.
        batch: segments per step over all processes.
        seed: of order and gains.
        audio: whether batches carry the true audio.
        rank, world: this process takes every `world`-th segment of a batch, from its `rank` on.

    Raises:
        UserError: fewer segments than one batch.
    """

    def __init__(
        self, segments: Segments, rows: np.ndarray, batch: int, seed: int, audio: bool, rank: int = 0, world: int = 1
    ) -> None:
        if len(rows) < batch:
            raise UserError(f"There are {len(rows)} segments to train on, fewer than one batch of {batch}; set batch.")
        self.segments, self.rows, self.size, self.seed, self.audio = segments, rows, batch, seed, audio
        self.rank, self.world = rank, world
        self.per_pass = len(rows) // batch

    def __getitem__(self, step: int) -> Batch:
        number, position = divmod(step, self.per_pass)
        rng = np.random.default_rng([self.seed, 2, number])
        order = rng.permutation(self.rows)
        gain = rng.integers(len(self.segments.gains), size=len(self.rows))
        part = slice(position * self.size + self.rank, (position + 1) * self.size, self.world)
        return self.segments.batch(order[part], gain[part], self.audio)
