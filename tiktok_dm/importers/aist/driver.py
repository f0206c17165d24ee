"""AIST++ as a dataset: two-second segments with SMPL motion, genre and sound, and clips where there are videos.

The segments are those of the D2M-GAN paper, by the rule that `aist_layout` tells: motion (120, 219) and a genre, as the
released AIST models take them (`aist_segments`), and visual features where these are asked for. Sound comes from the
camera's video where it has one, else from the music by its id (`mBR0.wav`). Clips carry the video and its 2-D keypoints
as BODY_25 at 30 fps (`aist_clips`). Not for reading AIST++'s files (`aist_layout`), nor for builds from compilations
(`build`).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from collections.abc import Sequence as Several
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.dataset.card import front_matter
from tiktok_dm.dataset.export import DATA, clip_row
from tiktok_dm.dataset.rows import ClipItem, DatasetMeta, ShardWriter, SplitInfo
from tiktok_dm.errors import UserError
from tiktok_dm.importers.aist.layout import (
    CAMERAS,
    GENRES,
    PUBLISHED_SEGMENTS,
    AistFolder,
    AistMedia,
    AistResult,
    Findings,
    Sequence,
    open_aist,
)
from tiktok_dm.importers.aist.rows import STAGE, ClipJob, DanceFeatures, LeftOut, SegmentMaker, clip_items
from tiktok_dm.importers.segment_set import (
    CONFIG,
    REPORT,
    SHARD_BYTES,
    Progress,
    checksum,
    column_table,
    describe_set,
    segment_writers,
    set_meta,
    versions,
    write_segment_set,
)
from tiktok_dm.pipeline.visual import VisualParams
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.visual.base import VisualSource

VERSION = 2  # of what this module writes
NAME = "aist-plusplus"
SPLITS = ("train", "test")  # crossmodal_val has the songs of the test split


@dataclass(frozen=True)
class AistOptions:
    """What a user asks for.

    Args:
        annotations: AIST++'s annotations, unpacked.
        media: folder, searched to its depths, with videos (`gBR_sBM_c01_d04_mBR0_ch01.mp4`), music (`mBR0.wav`), or
            both.
        out: the dataset's folder; what is half done stands beside it in `<out>.work`.
        camera: `c01` to `c09`: whose video, sound and keypoints are taken. The published segments are of c01.
        skip_ignored: leave out the sequences of AIST++'s ignore list; the published segments have them.
        clips: also write the clips of which there are videos.
        max_height: of stored clips, px; None keeps the videos' own.
        workers: processes that cut clips.
        genres: the order of the ten genres in the one-hot, where a checkpoint wants another than AIST's own.
        visual: visual features of the segments; None leaves them out. With them, segments without a video are left out.
        visual_source: weights and device for those.
    """

    annotations: Path
    media: Path
    out: Path
    camera: str = "c01"
    skip_ignored: bool = False
    clips: bool = True
    max_height: int | None = 720
    workers: int = 1
    genres: tuple[str, ...] = GENRES
    visual: VisualParams | None = None
    visual_source: VisualSource = field(default_factory=VisualSource)

    def __post_init__(self) -> None:
        if self.camera not in CAMERAS:
            raise UserError(f"there is no camera {self.camera!r}: take one of {', '.join(CAMERAS)}")
        if sorted(self.genres) != sorted(GENRES):
            given, known = ",".join(self.genres), ",".join(GENRES)
            raise UserError(f"the order of the genres is {given}: give each of {known} once")


def build_aist(options: AistOptions, progress: Progress | None = None) -> AistResult:
    """Make the dataset of AIST++, or go on making it.

    The same files give the same bytes. A sequence without motion or sound, or with a broken file, is left out and
    listed. Clips that an earlier, stopped call has cut are not cut again, nor features made again.

    Args:
        progress: called with (steps done, steps in all, what was done).

    Raises:
        UserError: no annotations, no media, no weights for visual features, no segment that could be made, or `out`
            holds something else.
        DiskFull: it did not fit; what is finished is kept.
    """
    work = options.out.with_name(options.out.name + ".work")
    folder = open_aist(options.annotations)
    media = AistMedia(options.media, options.camera)
    seen = None if options.visual is None else DanceFeatures(options.visual, options.visual_source, Store(work))
    if seen is not None:
        seen.extractor.check()
    sums = _sums(folder, media)
    key = _key(options, folder, sums, seen)
    tell = progress or (lambda done, total, what: None)
    findings = Findings(options.camera)
    maker = SegmentMaker(folder, media, options.genres, sums, seen, findings)
    counts = write_segment_set(
        options.out, key, lambda place: _write(place, options, maker, key, work, tell), replaces=NAME
    )
    for part in ("objects/aist_clip", f"objects/{STAGE}", "tmp"):  # the dataset holds the same
        shutil.rmtree(work / part, ignore_errors=True)
    with contextlib.suppress(OSError):
        (work / "objects").rmdir()
        work.rmdir()
    report = json.loads((options.out / REPORT).read_text(encoding="utf-8"))
    return AistResult(options.out, counts, report)


def _sums(folder: AistFolder, media: AistMedia) -> dict[str, str]:
    """SHA-256 of every file that the dataset may depend on, by its name."""
    files: dict[str, str] = {}
    for split in SPLITS:
        for sequence in folder.splits[split]:
            for path in (
                folder.root / "motions" / f"{sequence.name}.pkl",
                folder.root / "keypoints2d" / f"{sequence.name}.pkl",
                media.video(sequence),
                media.files.get(sequence.music),
            ):
                if path is not None and path.is_file() and path.name not in files:
                    files[path.name] = checksum(path)
    return files


def _key(options: AistOptions, folder: AistFolder, sums: Mapping[str, str], seen: DanceFeatures | None) -> str:
    """Name of the dataset's content."""
    lists = {part: [sequence.name for sequence in names] for part, names in folder.splits.items()}
    inputs = {"files": sums, "lists": lists, "ignored": sorted(folder.ignored), "settings": folder.settings}
    libraries = versions("av", "numpy", "pyarrow", "scipy", "soundfile")
    return content_key("aist", VERSION, _parameters(options, seen), {**inputs, **libraries})


def _parameters(options: AistOptions, seen: DanceFeatures | None) -> dict[str, Any]:
    """What was asked for, as the dataset says it; what was left as it is by default and came later is not named."""
    chosen: dict[str, Any] = {n: getattr(options, n) for n in ("camera", "skip_ignored", "clips", "max_height")}
    if options.genres != GENRES:
        chosen["genres"] = list(options.genres)
    if seen is not None:
        chosen["visual"] = seen.published()
    return chosen


# ------------------------------------------------------------------------------------------------------------- files


def _write(place: Path, options: AistOptions, maker: SegmentMaker, key: str, work: Path, progress: Progress) -> None:
    folder, media, findings, seen = maker.folder, maker.media, maker.findings, maker.seen
    chosen: dict[str, list[Sequence]] = {}
    for split in SPLITS:
        listed = folder.splits[split]
        chosen[split] = [s for s in listed if not (options.skip_ignored and s.name in folder.ignored)]
        findings.ignored += [s.name for s in listed if s not in chosen[split]]
    jobs = [
        ClipJob(
            sequence,
            split,
            folder.clip_id(sequence),
            video,
            folder.root / "keypoints2d" / f"{sequence.name}.pkl",
            options.camera,
            folder.picture_size(sequence, options.camera),
            options.max_height,
            work,
        )
        for split in SPLITS
        for sequence in chosen[split]
        if options.clips and (video := media.video(sequence)) is not None
    ]
    total, done = sum(map(len, chosen.values())) + len(jobs), 0
    items: list[ClipItem] = []
    for job, item in zip(jobs, clip_items(jobs, options.workers), strict=True):
        if isinstance(item, LeftOut):
            left = findings.broken if item.broken else findings.clips_left_out
            left.append({"file": item.file, "reason": item.reason})
        else:
            items.append(item)
        done += 1
        progress(done, total, job.video.name)
    columns = schema.smpl_segment_columns(options.genres)
    if seen is not None:
        columns = schema.smpl_segment_columns(options.genres, seen.extractor.features, seen.extractor.method)
    infos: list[SplitInfo] = []
    songs: dict[str, set[int]] = {}
    with segment_writers(place, SPLITS, columns) as segments:
        for split in SPLITS:
            with ShardWriter(place / DATA / "clips", "clips", split, SHARD_BYTES) as clips:
                for item in items:
                    if item.split == split:
                        clips.add(clip_row(item, np.load(item.pose)))
                infos.append(clips.finish())
            songs[split] = set()
            count = 0
            for sequence in chosen[split]:
                for row in maker.rows(sequence, split):
                    segments[split].add(row)
                    songs[split].add(sequence.song_id)
                    count += 1
                done += 1
                progress(done, total, sequence.name)
            infos.append(segments[split].finish())
            findings.splits[split] = {
                "sequences": len(folder.splits[split]),
                "segments": count,
                "by_beats": sum(sequence.segments_by_beats for sequence in folder.splits[split]),
                "published": PUBLISHED_SEGMENTS[split],
            }
    infos = [info for info in infos if info.num_examples]
    for config in ("clips", CONFIG):
        if not any(info.config == config for info in infos):
            shutil.rmtree(place / DATA / config, ignore_errors=True)
    report = dict(findings.__dict__)
    result = AistResult(place, {}, report)
    if not any(part["segments"] for part in findings.splits.values()):
        why = "; ".join(sentence for sentence in result.sentences() if not sentence.startswith(SPLITS))
        raise UserError(f"no segment can be made: {why}")
    counts = {
        "clips": len(items),
        "segments": sum(part["segments"] for part in findings.splits.values()),
        "songs": len(set().union(*songs.values())),
        "splits": {
            split: {"segments": findings.splits[split]["segments"], "songs": len(songs[split])}
            for split in SPLITS
            if findings.splits[split]["segments"]
        },
    }
    meta = set_meta(
        NAME,
        "AIST++ in two-second segments",
        _parameters(options, seen),
        clips=sum(map(len, chosen.values())),
        compilations=len({s.dancer for part in chosen.values() for s in part}),
        license="other",
        homepage="https://google.github.io/aistplusplus_dataset/",
    )
    describe_set(place, key, meta, counts, _card(meta, infos, counts, result), report)


_PROSE = """# {title}

AIST++ (Li et al., ICCV 2021) cut into two-second segments as in the D2M-GAN paper, by `tiktok-dm build --dataset
aist++`: the cross-modality split, camera {camera}. AIST++'s annotations are Google's, under CC BY 4.0; videos and
music are the AIST Dance Video Database's, under its own terms of use.

| split | segments | songs |
|---|---:|---:|
{splits}
{findings}
The 219 numbers of a frame stand as in AIST++'s own training code; the order of the ten genres in the arrays that the
paper's authors trained on is not documented, here it is {genres}.
{visual}No song is in two splits; AIST++'s own validation list shares its songs with the test list and is not here.

## Loading

```python
from tiktok_dm.reading import decode_audio, open_dataset

row = open_dataset("PATH", "segments")["train"][0]
samples, rate = decode_audio(row["audio"])    # float32 (44100,), 22050
```
{columns}"""


def _card(meta: DatasetMeta, infos: Several[SplitInfo], counts: dict[str, Any], result: AistResult) -> str:
    splits = [f"| {split} | {part['segments']} | {part['songs']} |\n" for split, part in counts["splits"].items()]
    tables = ""
    for config in dict.fromkeys(info.config for info in infos):
        lines = column_table(next(info for info in infos if info.config == config).columns or schema.CLIP_COLUMNS)
        tables += f"\n## Columns of {config}\n\n| column | type | meaning |\n|---|---|---|\n{lines}"
    return front_matter(range(counts["segments"]), meta, infos) + _PROSE.format(
        title=meta.title,
        camera=result.report["camera"],
        splits="".join(splits),
        findings="".join(f"- {sentence}.\n" for sentence in result.sentences()),
        genres=", ".join(meta.parameters.get("genres", GENRES)),
        visual=_weights(meta.parameters.get("visual")),
        columns=tables,
    )


def _weights(seen: Mapping[str, Any] | None) -> str:
    """The card's sentence on the weights that visual features were made with."""
    if seen is None:
        return ""
    told = ", ".join(f"`{name}` {sha256}" for name, sha256 in sorted(seen["weights"].items()))
    return f"Visual features are {seen['extractor']}'s; weights by SHA-256: {told}.\n"
