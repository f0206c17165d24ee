"""Training sets of any size from the demo's songs and dances: segments alone, straight from the known joints.

Nothing is rendered and nothing is estimated, so a clip costs milliseconds where a build takes seconds; the folder opens
like a built dataset's `segments` configuration and has no `clips`. A model trained on it meets estimated poses later,
so the joints may be given an estimator's errors (`tiktok_dm.synthetic.noise`). Not for real footage, and not for the
demo that is rendered and built (`pipeline.demo`): give it another seed than that one, so that they share no song.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import schema
from tiktok_dm.dataset.export import segment_rows
from tiktok_dm.dataset.rows import ClipItem, DatasetMeta, SplitInfo
from tiktok_dm.errors import UserError
from tiktok_dm.importers.segment_set import (
    CONFIG,
    Progress,
    column_table,
    describe_set,
    segment_writers,
    set_meta,
    versions,
    write_segment_set,
)
from tiktok_dm.runtime.store import content_key
from tiktok_dm.synthetic import DemoParams

VERSION = 1  # of what this module writes
_CLIPS_PER_COMPILATION = 16  # as in compilations of short dances


@dataclass(frozen=True)
class SegmentSetParams:
    """What the set consists of; the same values give the same bytes.

    Args:
        songs, clips: how many of each; every song is danced to in `clips / songs` clips.
        seed: of songs, dances, errors of the poses and the split.
        shortest_s, longest_s: bounds of the clips' lengths, s.
        test_share: share of the clips in the test split; whole songs.
        noise: how large the poses' errors are beside BlazePose's on the rendered demo (1: as large); 0 gives the known
            joints with confidence 1.
        groove: how dancers keep time, `human` or `exact`; see `synthetic.DemoParams`.
    """

    songs: int = 64
    clips: int = 128
    seed: int = 1
    shortest_s: float = 12.0
    longest_s: float = 16.0
    test_share: float = 0.15
    noise: float = 1.0
    groove: str = "human"

    def __post_init__(self) -> None:
        if self.songs < 2:
            raise UserError(f"a split needs at least two songs, not {self.songs}: ask for more songs")
        if not 0 < self.test_share < 1:
            raise UserError(f"the test share is {self.test_share:g}: give a number between 0 and 1, such as 0.15")
        if not 0 <= self.noise <= 4:
            raise UserError(f"the noise is {self.noise:g}: give a number from 0 (none) to 4, such as 1")
        if self.shortest_s < schema.SEGMENT_S:
            raise UserError(f"clips of {self.shortest_s:g} s may hold no segment: let them last 2 s or more")
        self.demo  # noqa: B018 - it checks the rest

    @property
    def demo(self) -> DemoParams:
        """The demo whose dances these are."""
        compilations = -(-self.clips // _CLIPS_PER_COMPILATION)
        return DemoParams(
            clips=self.clips,
            songs=self.songs,
            compilations=max(1, compilations),
            seed=self.seed,
            shortest_s=self.shortest_s,
            longest_s=self.longest_s,
            groove=self.groove,
        )


def write_demo_segments(
    out: Path, params: SegmentSetParams | None = None, *, workers: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Write the set into the folder `out`: `data/segments`, `README.md`, `manifest.json`.

    Everything is written beside `out` and renamed into it, so the folder is whole or absent. The bytes do not depend on
    the number of workers.

    Args:
        out: a new or empty folder, or one with the set of the same parameters, which is left as it is.
        workers: processes; each takes whole songs, since a song is synthesised once for all its clips.
        progress: called with (songs done, songs in all, what was done).

    Returns:
        name, clips, segments, songs, seconds, splits, tempo_bpm (lowest and highest of each split), bytes, unchanged.

    Raises:
        UserError: `out` holds something else, or the parameters make no set.
        DiskFull: it did not fit.
    """
    params = params or SegmentSetParams()
    out = Path(out)
    key = _key(params)
    tell = progress or (lambda done, total, what: None)
    return write_segment_set(out, key, lambda folder: _write(folder, params, key, workers, tell))


def _key(params: SegmentSetParams) -> str:
    """Name of the set's content: it changes with the parameters and with the code and libraries that make it."""
    return content_key("demo_segments", VERSION, params, versions("numpy", "pyarrow", "soundfile", "soxr"))


# ------------------------------------------------------------------------------------------------------------- songs


@dataclass(frozen=True)
class _SongJob:
    """All clips of one song, for one worker."""

    params: SegmentSetParams
    song_id: int
    split: str
    clip_ids: tuple[int, ...]


def _song_rows(job: _SongJob) -> tuple[list[ClipItem], list[dict[str, Any]]]:
    """The clips of a song as a build would hand them to the export, and the rows of their segments."""
    from tiktok_dm.media import encode_audio
    from tiktok_dm.synthetic import clip_truth
    from tiktok_dm.synthetic.accuracy import as_estimated
    from tiktok_dm.synthetic.performance import find_clip

    items: list[ClipItem] = []
    rows: list[dict[str, Any]] = []
    demo = job.params.demo
    with tempfile.TemporaryDirectory() as folder:
        for clip_id in job.clip_ids:
            plan = find_clip(demo, clip_id)
            poses, audio, beats_s, song_id = clip_truth(demo, clip_id)
            if job.params.noise:
                rng = np.random.default_rng([job.params.seed, 21, clip_id])
                poses = as_estimated(poses, rng, job.params.noise)
            path = Path(folder) / f"clip_{clip_id:06d}.flac"
            path.write_bytes(encode_audio(audio, schema.SAMPLE_RATE, "flac"))
            item = ClipItem(
                clip_id=clip_id,
                compilation_id=plan.compilation_id,
                song_id=song_id,
                split=job.split,
                annotated_start_s=plan.first_frame / demo.fps,
                annotated_end_s=(plan.first_frame + plan.frames) / demo.fps,
                segment={"duration_s": plan.frames / demo.fps},
                poses={"n_dancers": poses.shape[1], "estimator": "none", "estimator_version": ""},
                music={"beats_s": beats_s.tolist()},
                n_dancers_annotated=poses.shape[1],
                source="",
                source_sha256="",
                video=path,
                audio=path,
                pose=path,
            )
            items.append(item)
            rows += segment_rows(item, poses)
    return items, rows


def _jobs(params: SegmentSetParams) -> list[_SongJob]:
    """One job a song, train songs first, in order of their ids."""
    import pandas as pd

    from tiktok_dm.annotations.splits import assign_splits
    from tiktok_dm.synthetic.plan import make_plan

    clips = [clip for compilation in make_plan(params.demo) for clip in compilation.clips]
    table = pd.DataFrame(
        {"song_id": [clip.song_id for clip in clips], "compilation_id": [clip.compilation_id for clip in clips]}
    )
    splits = assign_splits(table, params.test_share, params.seed)
    split_of = {int(song_id): str(split) for song_id, split in splits[["song_id", "split"]].itertuples(index=False)}
    jobs = [
        _SongJob(params, song_id, split, tuple(clip.clip_id for clip in clips if clip.song_id == song_id))
        for song_id, split in split_of.items()
    ]
    return sorted(jobs, key=lambda job: (schema.SPLITS.index(job.split), job.song_id))


def _run(jobs: Sequence[_SongJob], workers: int) -> Iterator[tuple[list[ClipItem], list[dict[str, Any]]]]:
    """Results in the order of the jobs."""
    if workers <= 1 or len(jobs) == 1:
        yield from map(_song_rows, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_song_rows, jobs)


# ------------------------------------------------------------------------------------------------------------- files


def _write(folder: Path, params: SegmentSetParams, key: str, workers: int, progress: Progress) -> None:
    from tiktok_dm.synthetic.music import make_song

    jobs = _jobs(params)
    splits = [split for split in schema.SPLITS if any(job.split == split for job in jobs)]
    items: list[ClipItem] = []
    with segment_writers(folder, splits) as writers:
        for done, (job, (made, rows)) in enumerate(zip(jobs, _run(jobs, workers), strict=True), 1):
            items += made
            for row in rows:
                writers[job.split].add(row)
            progress(done, len(jobs), f"song {job.song_id}")
        infos = [writers[split].finish() for split in splits]
    tempi = {job.song_id: make_song(params.seed, job.song_id).tempo_bpm for job in jobs}
    counts = {
        "clips": len(items),
        "segments": sum(info.num_examples for info in infos),
        "songs": len(jobs),
        "seconds": round(sum(float(item.segment["duration_s"]) for item in items), 3),
        "splits": {
            split: {
                "clips": sum(item.split == split for item in items),
                "segments": sum(info.num_examples for info in infos if info.split == split),
                "songs": sum(job.split == split for job in jobs),
            }
            for split in splits
        },
        "tempo_bpm": {
            split: [f(tempi[job.song_id] for job in jobs if job.split == split) for f in (min, max)] for split in splits
        },
    }
    meta = set_meta(
        "demo-segments",
        "Segments of synthetic dances and songs",
        params.__dict__,
        clips=params.clips,
        compilations=params.demo.compilations,
        license="cc0-1.0",
    )
    describe_set(folder, key, meta, counts, _card(items, meta, infos, params, tempi, jobs))


_PROSE = """# {title}

Synthetic throughout: nobody was filmed and no recording was used. {clips} dances of known joints to {songs} synthesised
songs, cut into 2-second segments and nothing else: there are no pictures and no configuration `clips`. Made by
`tiktok-dm demo-segments` with seed {seed}, to train small models quickly; for judging them, build the rendered demo
(`tiktok-dm build --demo`), whose seed is another, so that it shares no song with this set.

{noise}

| split | segments | clips | songs | tempo, beats a minute (lowest, median, highest) |
|---|---:|---:|---:|---:|
{splits}
No song is in two splits.

## Loading

```python
from datasets import load_dataset
from tiktok_dm.reading import decode_audio, open_dataset

segments = load_dataset("PATH", "segments")           # to decode audio, datasets uses torchcodec and FFmpeg
row = open_dataset("PATH", "segments")["train"][0]    # audio left as bytes; neither is needed
samples, rate = decode_audio(row["audio"])            # float32 (44100,), 22050
```

## Columns

| column | type | meaning |
|---|---|---|
{columns}"""
_EXACT = "The joints are exact, with confidence 1."
_NOISY = (
    "The joints have errors as BlazePose makes them on the rendered demo, times {noise:g}: offsets and slow drift of "
    "about 0.04 torso lengths together, confidences below 1, no small toes."
)


def _card(
    items: Sequence[ClipItem],
    meta: DatasetMeta,
    infos: Sequence[SplitInfo],
    params: SegmentSetParams,
    tempi: dict[int, float],
    jobs: Sequence[_SongJob],
) -> str:
    from tiktok_dm.dataset.card import front_matter

    lines = []
    for info in infos:
        songs = [job for job in jobs if job.split == info.split]
        bpm = [tempi[job.song_id] for job in songs]
        clips = sum(len(job.clip_ids) for job in songs)
        spread = f"{min(bpm):g}, {statistics.median(bpm):g}, {max(bpm):g}"
        lines.append(f"| {info.split} | {info.num_examples} | {clips} | {len(songs)} | {spread} |\n")
    return front_matter(items, meta, infos) + _PROSE.format(
        title=meta.title,
        clips=params.clips,
        songs=params.songs,
        seed=params.seed,
        noise=_NOISY.format(noise=params.noise) if params.noise else _EXACT,
        splits="".join(lines),
        columns=column_table(schema.DATASET_COLUMNS[CONFIG]),
    )
