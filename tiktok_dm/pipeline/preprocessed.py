"""The authors' preprocessed archives, unpacked, as a dataset: `motion_s2`, `video_s2` and `audio_s2` become `segments`.

So a baseline can be trained without any of the videos. Every file is held against the 2,691 released segment ids and
against its format; what is missing, broken or no segment's is listed, and the rest is imported. Nothing is opened with
pickle. Not for getting the archives: that is `preprocessed_fetch`.

The authors' formats: motion, 60 poses (30 fps) of BODY_25 x (x px, y px, confidence), which their code reshapes to
(60, 75); visual features (1, 2048), I3D; sound, 22,050 Hz mono, 2 s.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import __version__, schema
from tiktok_dm.annotations import Annotations
from tiktok_dm.errors import UserError
from tiktok_dm.pipeline.card import front_matter
from tiktok_dm.pipeline.export import CARD, DATA, DatasetMeta, write_manifest
from tiktok_dm.pipeline.segment_set import CONFIG, SHARD_BYTES, write_segment_set
from tiktok_dm.pipeline.shards import Columns, ShardWriter, SplitInfo
from tiktok_dm.pipeline.store import content_key

VERSION = 1  # of what this module writes
NAME = "tiktok-dm-preprocessed"
REPORT = "import.json"
FOLDERS = {"motion": "motion_s2", "visual": "video_s2", "audio": "audio_s2"}
SUFFIXES = {"motion": ".npy", "visual": ".npy", "audio": ".wav"}
VISUAL_FEATURES = 2048
_WORDS = {"motion": "motion", "video": "visual", "visual": "visual", "audio": "audio"}
_SLACK = schema.SAMPLE_RATE // 20  # samples: cutting by time stamps is off by less than 50 ms
_MAX_FILE = 64 * 2**20  # bytes: the largest of these files has 0.5 MB
_SHOWN = 3  # examples in a sentence

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PreprocessedResult:
    """What an import made.

    Args:
        counts: name, clips, segments, songs, splits, bytes, unchanged.
        report: as in `import.json`: expected, imported, visual, missing (ids by kind), broken (file and reason), extra
            (files that belong to no released segment), left_out (ids with something missing or broken), fitted (sounds
            that were a few samples short or long), elsewhere (files in a folder of the other split).
    """

    out: Path
    counts: Mapping[str, Any]
    report: Mapping[str, Any]

    @property
    def complete(self) -> bool:
        """Whether every released segment is there with all that was looked for."""
        return not self.report["left_out"]

    def sentences(self) -> list[str]:
        """What was found, one sentence each, with examples."""
        report, out = self.report, []
        for kind, ids in report["missing"].items():
            if ids:
                out.append(f"{_count(ids, 'released segment')} without a file in {FOLDERS[kind]}: {_examples(ids)}")
        if report["broken"]:
            told = [f"{entry['file']} ({entry['reason']})" for entry in report["broken"]]
            out.append(f"{_count(told, 'broken file')}: {_examples(told)}")
        if report["extra"]:
            out.append(f"{_count(report['extra'], 'file')} of no released segment: {_examples(report['extra'])}")
        if report["elsewhere"]:
            ids = report["elsewhere"]
            out.append(f"{_count(ids, 'file')} in a folder of the other split (the release counts): {_examples(ids)}")
        if report["fitted"]:
            ids = report["fitted"]
            out.append(f"{_count(ids, 'sound')} not of exactly 44,100 samples, made so at the end: {_examples(ids)}")
        if not report["visual"]:
            out.append(f"no {FOLDERS['visual']}: the segments have no column 'visual'")
        if report["left_out"]:
            out.append(f"{_count(report['left_out'], 'segment')} left out; {REPORT} lists all of this")
        return out


@dataclass(frozen=True)
class _Expected:
    """A released segment."""

    name: str
    split: str
    id: schema.SegmentId


@dataclass(frozen=True)
class _Found:
    """The files of a root.

    Args:
        files: kind -> segment id -> its files, in order of their paths.
        strange: files in the right folders whose names are no segment ids.
    """

    files: dict[str, dict[str, list[Path]]]
    strange: list[Path]


class _BrokenError(Exception):
    """Why a file cannot be used, in a few words."""


def import_preprocessed(
    root: Path | str,
    out: Path | str,
    *,
    released: Annotations | None = None,
    progress: Progress | None = None,
) -> PreprocessedResult:
    """Turn the authors' preprocessed files under `root` into the dataset `out`.

    `root` may be the folder that holds `motion_s2`, `video_s2` and `audio_s2`, or any folder above, with folders for
    train and test inside or not. Without `video_s2` the segments have no visual features; a segment that lacks
    anything else, or of which a file is broken, is left out.

    The same files give the same bytes. An earlier import in `out` is replaced when the files have changed, and left as
    it is when they have not.

    Args:
        released: the released clips, with their split; by default those that the project ships.
        progress: called with (segments done, segments in all, what was done).

    Raises:
        UserError: no such files under `root`, none that can be used, or `out` holds something else.
        DiskFull: it did not fit; an earlier import in `out` is untouched.
    """
    root, out = Path(root), Path(out)
    expected = _expected(released)
    found = _find(root)
    key, sums = _key(root, found, expected)
    counts = write_segment_set(
        out,
        key,
        lambda folder: _write(folder, root, found, sums, expected, key, progress or (lambda done, total, what: None)),
        replaces=NAME,
    )
    return PreprocessedResult(out, counts, json.loads((out / REPORT).read_text(encoding="utf-8")))


def _expected(released: Annotations | None) -> list[_Expected]:
    """All released segments in the order of their rows."""
    if released is None:
        from tiktok_dm.released import released_annotations

        released = released_annotations()
    if released.splits is None:
        raise UserError("the released clips have no split: give annotations with splits")
    split_of = dict(zip(released.splits.song_id, released.splits.split, strict=True))
    rows: list[Any] = list(released.clips.itertuples())
    rows.sort(key=lambda row: (schema.SPLITS.index(split_of[row.song_id]), row.clip_id))
    return [
        _Expected(
            schema.segment_id(row.compilation_id, row.song_id, row.clip_id, k),
            split_of[row.song_id],
            schema.SegmentId(int(row.compilation_id), int(row.song_id), int(row.clip_id), k),
        )
        for row in rows
        for k in range(1, int(row.released_segments) + 1)
    ]


# ------------------------------------------------------------------------------------------------------ what is there


def _find(root: Path) -> _Found:
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: name the one that holds {', '.join(FOLDERS.values())}")
    files: dict[str, dict[str, list[Path]]] = {kind: {} for kind in FOLDERS}
    strange = []
    for path in sorted(_walk(root)):
        # What macOS and Windows leave in archives is nobody's.
        if path.name.startswith((".", "Thumbs.db")) or "__MACOSX" in path.parts:
            continue
        kind = _kind(path.relative_to(root.parent if root.name else root))
        if kind is None or path.suffix.lower() != SUFFIXES[kind]:
            continue
        try:
            schema.parse_segment_id(path.stem)
        except UserError:
            strange.append(path)
        else:
            files[kind].setdefault(path.stem, []).append(path)
    for kind in ("motion", "audio"):
        if not files[kind]:
            archives = [path.name for path in sorted(root.iterdir()) if path.name.endswith((".zip", ".tar", ".gz"))]
            hint = f"; unpack {_examples(archives)} there first, or use --fetch" if archives else ""
            wanted = f"{FOLDERS[kind]}/000000_0_0_seg1{SUFFIXES[kind]}"
            raise UserError(f"{root} holds no files such as {wanted}: name the folder with the unpacked archives{hint}")
    return _Found(files, strange)


def _walk(root: Path) -> Iterator[Path]:
    """All files under a folder, also behind links to folders, each folder once."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        yield from (Path(folder) / name for name in names)


def _kind(path: Path) -> str | None:
    """What the nearest folder above a file says it is."""
    for folder in reversed(path.parent.parts):
        for word, kind in _WORDS.items():
            if folder.lower().startswith(word):
                return kind
    return None


def _key(root: Path, found: _Found, expected: Sequence[_Expected]) -> tuple[str, dict[Path, str]]:
    """Name of the set's content, and the checksum of every file that it depends on."""
    sums, names = {}, {segment.name for segment in expected}
    for by_name in found.files.values():
        for paths in by_name.values():
            for path in paths:
                sums[path] = _sha256(path) if path.stem in names else ""
    files = {path.relative_to(root).as_posix(): digest for path, digest in sums.items()}
    files |= {path.relative_to(root).as_posix(): "" for path in found.strange}
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pyarrow", "soundfile")}
    wanted = [[segment.name, segment.split] for segment in expected]
    inputs = {"files": files, "released": wanted, "package": __version__, **versions}
    return content_key("import_preprocessed", VERSION, {}, inputs), sums


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # listed as broken when it is opened
        return f"unreadable: {error.errno}"


# ------------------------------------------------------------------------------------------------------ what is in it


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise _BrokenError(f"{path.stat().st_size / 2**20:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise _BrokenError(f"cannot be read: {error.strerror}") from error


def _read_numbers(path: Path) -> np.ndarray:
    """A file of one array of finite real numbers, as float32 of its shape."""
    data = _bytes(path)
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise _BrokenError(f"NumPy format {version[0]}.{version[1]}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, SyntaxError, EOFError, RecursionError, MemoryError) as error:
        raise _BrokenError("is no NumPy array") from error
    if dtype.hasobject:
        raise _BrokenError("holds Python objects, which are not loaded")
    if dtype.kind not in "fiu":
        raise _BrokenError(f"holds {dtype.name} where numbers belong")
    # The header is believed only as far as there are bytes for it: no memory is asked for on its word alone.
    count = 1
    for length in shape:
        count *= length
    if len(data) - stream.tell() < count * dtype.itemsize:
        raise _BrokenError("is cut short")
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _BrokenError("is no NumPy array") from error
    with np.errstate(over="ignore"):
        array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise _BrokenError("holds NaN or infinite values")
    return array


def _shape(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "one number"


def read_motion(path: Path) -> np.ndarray:
    """Motion as (60, 75) float32; (60, 25, 3), one flat row, and dimensions of length 1 are taken too."""
    array = _read_numbers(path)
    flat = schema.SEGMENT_POSES * schema.N_JOINTS * 3
    if array.squeeze().shape not in ((60, 75), (60, 25, 3), (flat,)):
        raise _BrokenError(f"shape {_shape(array)} where 60x75 belongs")
    return array.reshape(schema.SEGMENT_POSES, schema.N_JOINTS * 3)


def read_visual(path: Path) -> np.ndarray:
    """Visual features as (2048,) float32."""
    array = _read_numbers(path)
    if array.squeeze().shape != (VISUAL_FEATURES,):
        raise _BrokenError(f"shape {_shape(array)} where 1x{VISUAL_FEATURES} belongs")
    return array.reshape(VISUAL_FEATURES)


def read_sound(path: Path) -> tuple[np.ndarray, bool]:
    """Sound as (44100,) float32, and whether samples had to be added or taken away at its end to make it so."""
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(_bytes(path)), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise _BrokenError("is no sound file") from error
    if rate != schema.SAMPLE_RATE:
        raise _BrokenError(f"{rate:,} Hz where {schema.SAMPLE_RATE:,} belong")
    if samples.shape[1] != 1:
        raise _BrokenError(f"{samples.shape[1]} channels where one belongs")
    missing = schema.SEGMENT_SAMPLES - len(samples)
    if abs(missing) > _SLACK:
        raise _BrokenError(f"{len(samples) / rate:.2f} s where {schema.SEGMENT_S:g} belong")
    sound = samples[: schema.SEGMENT_SAMPLES, 0]
    if not np.isfinite(sound).all():
        raise _BrokenError("holds NaN or infinite values")
    return np.pad(sound, (0, max(0, missing))), missing != 0


# --------------------------------------------------------------------------------------------------------- what is made


@dataclass
class _Findings:
    """What import.json says, as it is gathered."""

    expected: int
    visual: bool
    imported: int = 0
    missing: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in FOLDERS})
    broken: list[dict[str, str]] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    fitted: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


def _rows(
    root: Path, found: _Found, sums: Mapping[Path, str], expected: Sequence[_Expected], findings: _Findings
) -> Iterator[dict[str, Any] | None]:
    """The row of each expected segment, or None for one that is left out; `findings` grows on the way."""
    from tiktok_dm.media import encode_audio

    for segment in expected:
        values: dict[str, Any] = {}
        fitted = False
        for kind in FOLDERS:
            if kind == "visual" and not findings.visual:
                continue
            paths = found.files[kind].get(segment.name, [])
            if not paths:
                findings.missing[kind].append(segment.name)
                continue
            where = paths[0].relative_to(root).as_posix()
            other = {"train": "test", "test": "train"}.get(segment.split)
            findings.elsewhere += [
                path.relative_to(root).as_posix() for path in paths if other in path.relative_to(root).parts[:-1]
            ]
            try:
                if len({sums[path] for path in paths}) > 1:
                    raise _BrokenError(f"differs from {paths[1].relative_to(root).as_posix()}, and both have its name")
                if kind == "audio":
                    values[kind], fitted = read_sound(paths[0])
                else:
                    values[kind] = (read_motion if kind == "motion" else read_visual)(paths[0])
            except _BrokenError as error:
                findings.broken.append({"file": where, "reason": str(error)})
        if len(values) < 2 + findings.visual:
            findings.left_out.append(segment.name)
            yield None
            continue
        if fitted:
            findings.fitted.append(segment.name)
        findings.imported += 1
        sound = encode_audio(values["audio"], schema.SAMPLE_RATE, "flac")
        yield {
            "segment_id": segment.name,
            **{name: getattr(segment.id, name) for name in ("clip_id", "compilation_id", "song_id")},
            "split": segment.split,
            "segment_index": segment.id.segment_index,
            "start_s": (segment.id.segment_index - 1) * schema.SEGMENT_S,
            "audio": {"bytes": sound, "path": f"{segment.name}.flac"},
            "motion": values["motion"],
            "n_dancers": None,  # the archives hold one dancer and do not say of how many
            **({"visual": values["visual"]} if findings.visual else {}),
        }


def _write(
    folder: Path,
    root: Path,
    found: _Found,
    sums: Mapping[Path, str],
    expected: Sequence[_Expected],
    key: str,
    progress: Progress,
) -> None:
    known = {segment.name for segment in expected}
    findings = _Findings(len(expected), visual=bool(found.files["visual"]))
    findings.extra = sorted(
        path.relative_to(root).as_posix()
        for path in [
            *found.strange,
            *(path for by_name in found.files.values() for name, paths in by_name.items() for path in paths
              if name not in known),
        ]
    )  # fmt: skip
    columns = schema.segment_columns(visual=VISUAL_FEATURES if findings.visual else 0)
    splits = [split for split in schema.SPLITS if any(segment.split == split for segment in expected)]
    writers = {
        split: ShardWriter(folder / DATA / CONFIG, CONFIG, split, SHARD_BYTES, columns=columns) for split in splits
    }
    kept: list[_Expected] = []
    try:
        rows = _rows(root, found, sums, expected, findings)
        for done, (segment, row) in enumerate(zip(expected, rows, strict=True), 1):
            if row is not None:
                writers[segment.split].add(row)
                kept.append(segment)
            progress(done, len(expected), segment.name)
        infos = [info for split in splits if (info := writers[split].finish()).num_examples]
    finally:
        for writer in writers.values():
            writer.__exit__(None, None, None)
    report = {name: value for name, value in findings.__dict__.items()}
    result = PreprocessedResult(folder, {}, report)
    if not kept:
        raise UserError(f"no segment can be imported from {root}: {'; '.join(result.sentences()[:2])}")
    counts = _counts(kept)
    meta = DatasetMeta(
        name=NAME,
        title="TikTok Dance-Music, the authors' preprocessed segments",
        license="",  # the authors state none
        homepage="https://github.com/L-YeZhu/D2M-GAN",
        citation="",
        description="",
        parameters={"visual": findings.visual},
        tools={"tiktok_dm": __version__, "numpy": np.__version__},
        ledger=(),
        plan_clips=counts["clips"],
        plan_compilations=len({segment.id.compilation_id for segment in kept}),
    )
    (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / CARD).write_text(_card(meta, infos, kept, columns, result), encoding="utf-8")
    write_manifest(folder, {"export": key, "name": NAME, "counts": counts}, meta)


def _counts(kept: Sequence[_Expected]) -> dict[str, Any]:
    def of(segments: Sequence[_Expected]) -> dict[str, int]:
        return {
            "clips": len({segment.id.clip_id for segment in segments}),
            "segments": len(segments),
            "songs": len({segment.id.song_id for segment in segments}),
        }

    by_split = Counter(segment.split for segment in kept)
    splits = {split: of([s for s in kept if s.split == split]) for split in schema.SPLITS if by_split[split]}
    return {**of(kept), "splits": splits}


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items):,} {noun}{'' if len(items) == 1 else 's'}"


def _examples(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")


_PROSE = """# {title}

The 2-second segments of TikTok Dance-Music as the authors of D2M-GAN (ECCV 2022) preprocessed them, turned into one
dataset by `tiktok-dm import-preprocessed`. There are no pictures and no configuration `clips`. The poses are
OpenPose's, in pixels, of one dancer; which one the authors took where several dance is not documented. No licence or
terms are stated with the archives: ask the authors before you pass this on.

| split | segments | clips | songs |
|---|---:|---:|---:|
{splits}
No song is in two splits. Of {expected:,} released segments, {imported:,} are here.
{findings}
## Loading

```python
from tiktok_dm.reading import decode_audio, open_dataset

row = open_dataset("PATH", "segments")["train"][0]
samples, rate = decode_audio(row["audio"])    # float32 (44100,), 22050
```

## Columns

| column | type | meaning |
|---|---|---|
{columns}
"""


def _card(
    meta: DatasetMeta,
    infos: Sequence[SplitInfo],
    kept: Sequence[_Expected],
    columns: Columns,
    result: PreprocessedResult,
) -> str:
    splits = [
        f"| {split} | {part['segments']} | {part['clips']} | {part['songs']} |\n"
        for split, part in _counts(kept)["splits"].items()
    ]
    told = "".join(f"- {sentence}.\n" for sentence in result.sentences())
    return front_matter(kept, meta, infos) + _PROSE.format(
        title=meta.title,
        splits="".join(splits),
        expected=result.report["expected"],
        imported=result.report["imported"],
        findings=f"\n{told}" if told else "",
        columns="\n".join(f"| `{name}` | {kind} | {text} |" for name, (kind, text) in columns.items()),
    )
