"""The authors' preprocessed archives as a dataset of segments.

So a baseline can be trained without any of the videos. Every file is held against the 2,691 released segment ids and
against its format (`preprocessed_files`); what is missing, broken or no segment's is listed, and the rest is imported.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiktok_dm import schema
from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.dataset.card import front_matter
from tiktok_dm.dataset.rows import Columns, DatasetMeta, SplitInfo
from tiktok_dm.errors import UserError
from tiktok_dm.importers.archive_files import (
    FOLDERS,
    VISUAL_FEATURES,
    BrokenFileError,
    FoundFiles,
    find_files,
    read_motion,
    read_sound,
    read_visual,
)
from tiktok_dm.importers.segment_set import (
    REPORT,
    Progress,
    checksum,
    column_table,
    counted,
    describe_set,
    examples,
    segment_writers,
    set_meta,
    versions,
    write_segment_set,
)
from tiktok_dm.runtime.store import content_key

VERSION = 1  # of what this module writes
NAME = "tiktok-dm-preprocessed"


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
                out.append(f"{counted(ids, 'released segment')} without a file in {FOLDERS[kind]}: {examples(ids)}")
        if report["broken"]:
            told = [f"{entry['file']} ({entry['reason']})" for entry in report["broken"]]
            out.append(f"{counted(told, 'broken file')}: {examples(told)}")
        if report["extra"]:
            out.append(f"{counted(report['extra'], 'file')} of no released segment: {examples(report['extra'])}")
        if report["elsewhere"]:
            ids = report["elsewhere"]
            out.append(f"{counted(ids, 'file')} in a folder of the other split (the release counts): {examples(ids)}")
        if report["fitted"]:
            ids = report["fitted"]
            out.append(f"{counted(ids, 'sound')} not of exactly 44,100 samples, made so at the end: {examples(ids)}")
        if not report["visual"]:
            out.append(f"no {FOLDERS['visual']}: the segments have no column 'visual'")
        if report["left_out"]:
            out.append(f"{counted(report['left_out'], 'segment')} left out; {REPORT} lists all of this")
        return out


@dataclass(frozen=True)
class _Expected:
    """A released segment."""

    name: str
    split: str
    id: schema.SegmentId


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
    found = find_files(root)
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
        from tiktok_dm.annotations.released import released_annotations

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


def _key(root: Path, found: FoundFiles, expected: Sequence[_Expected]) -> tuple[str, dict[Path, str]]:
    """Name of the set's content, and the checksum of every file that it depends on."""
    sums, names = {}, {segment.name for segment in expected}
    for by_name in found.files.values():
        for paths in by_name.values():
            for path in paths:
                sums[path] = checksum(path) if path.stem in names else ""
    files = {path.relative_to(root).as_posix(): digest for path, digest in sums.items()}
    files |= {path.relative_to(root).as_posix(): "" for path in found.strange}
    wanted = [[segment.name, segment.split] for segment in expected]
    inputs = {"files": files, "released": wanted, **versions("numpy", "pyarrow", "soundfile")}
    return content_key("import_preprocessed", VERSION, {}, inputs), sums


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
    root: Path, found: FoundFiles, sums: Mapping[Path, str], expected: Sequence[_Expected], findings: _Findings
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
                    raise BrokenFileError(
                        f"differs from {paths[1].relative_to(root).as_posix()}, and both have its name"
                    )
                if kind == "audio":
                    values[kind], fitted = read_sound(paths[0])
                else:
                    values[kind] = (read_motion if kind == "motion" else read_visual)(paths[0])
            except BrokenFileError as error:
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
    found: FoundFiles,
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
    kept: list[_Expected] = []
    with segment_writers(folder, splits, columns) as writers:
        rows = _rows(root, found, sums, expected, findings)
        for done, (segment, row) in enumerate(zip(expected, rows, strict=True), 1):
            if row is not None:
                writers[segment.split].add(row)
                kept.append(segment)
            progress(done, len(expected), segment.name)
        infos = [info for split in splits if (info := writers[split].finish()).num_examples]
    report = {name: value for name, value in findings.__dict__.items()}
    result = PreprocessedResult(folder, {}, report)
    if not kept:
        raise UserError(f"no segment can be imported from {root}: {'; '.join(result.sentences()[:2])}")
    counts = _counts(kept)
    meta = set_meta(
        NAME,
        "TikTok Dance-Music, the authors' preprocessed segments",
        {"visual": findings.visual},
        clips=counts["clips"],
        compilations=len({segment.id.compilation_id for segment in kept}),
        license="",  # the authors state none
        homepage="https://github.com/L-YeZhu/D2M-GAN",
    )
    describe_set(folder, key, meta, counts, _card(meta, infos, kept, columns, result), report)


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


_PROSE = """# {title}

The 2-second segments of TikTok Dance-Music as the authors of D2M-GAN (ECCV 2022) preprocessed them, turned into one
dataset by `tiktok-dm import archives`. There are no pictures and no configuration `clips`. The poses are
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
{columns}"""


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
        columns=column_table(columns),
    )
