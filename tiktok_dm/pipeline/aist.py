"""AIST++ as a dataset: two-second segments with SMPL motion, genre and sound, and clips where there are videos.

The segments are those of the D2M-GAN paper, by the rule that `aist_layout` tells: motion (120, 219) and a genre, as the
released AIST models take them. Sound comes from the camera's video where it has one, else from the music by its id
(`mBR0.wav`). Clips carry the video and its 2-D keypoints as BODY_25 at 30 fps, so that what reads the project's own
clips reads these too. Not for reading AIST++'s files (`aist_layout`), nor for builds from compilations (`build`).

The 219 numbers of a frame are the translation (3), then SMPL's 24 joint rotations as matrices, row by row (24 x 9), as
in the code that AIST++'s authors train with (mint). Sizes fit the released models; in which order their authors put
the two is not documented.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm import __version__, schema
from tiktok_dm.errors import DiskFull, Filtered, MediaError, UserError
from tiktok_dm.pipeline.aist_layout import (
    CAMERAS,
    FPS,
    GENRES,
    PUBLISHED_SEGMENTS,
    AistFolder,
    Sequence,
    open_aist,
    read_keypoints2d,
    read_motion,
)
from tiktok_dm.pipeline.card import front_matter
from tiktok_dm.pipeline.export import CARD, DATA, ClipItem, DatasetMeta, clip_row, write_manifest
from tiktok_dm.pipeline.segment_set import CONFIG, SHARD_BYTES, write_segment_set
from tiktok_dm.pipeline.shards import Columns, ShardWriter, SplitInfo
from tiktok_dm.pipeline.store import Store, content_key, sha256_file
from tiktok_dm.pose.skeletons import COCO_17, to_body_25

VERSION = 1  # of what this module writes
NAME = "aist-plusplus"
REPORT = "import.json"
SPLITS = ("train", "test")  # crossmodal_val has the songs of the test split
FRAMES = round(FPS * schema.SEGMENT_S)
FEATURES = 3 + 24 * 9
_VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_SOUND = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
# A dance of a whole number of segments may end some frames, or its sound some milliseconds, before its last one does.
_SLACK_FRAMES = 3
_SLACK_SAMPLES = schema.SAMPLE_RATE // 20
_KEPT_SOUNDS = 6  # the songs of a genre
_SHOWN = 3

SEGMENT_COLUMNS: Columns = {
    **schema.SEGMENT_COLUMNS,
    "segment_id": ("string", "name of the dance with its camera, and _segK, as in the published lists"),
    "clip_id": ("int64", "the dance: place of its name among all of the split lists'"),
    "compilation_id": ("int64", "the dancer: 4 is d04 (AIST++ has no compilations)"),
    "song_id": ("int64", "the music: 6 x genre + its number; mBR0 is 0"),
    "split": ("string", "train or test of the cross-modality split; no song is in both"),
    "motion": (
        f"float32[{FRAMES},{FEATURES}]",
        "60 fps x (translation, then 24 SMPL rotations as 3 x 3 matrices, row by row)",
    ),
    "n_dancers": ("int64", "1"),
    "genre": (f"float32[{len(GENRES)}]", f"one-hot of {', '.join(GENRES)}"),
}

Progress = Callable[[int, int, str], None]


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
    """

    annotations: Path
    media: Path
    out: Path
    camera: str = "c01"
    skip_ignored: bool = False
    clips: bool = True
    max_height: int | None = 720
    workers: int = 1


@dataclass(frozen=True)
class AistResult:
    """What came out.

    Args:
        counts: name, segments, clips, songs, splits, bytes, unchanged.
        report: as in `import.json`: camera; splits (sequences listed, segments, by_beats, published); missing (motion,
            sound: names); broken (file, reason); other_length (sequence, segments, by_beats); ignored; clips_left_out.
    """

    out: Path
    counts: dict[str, Any]
    report: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether there are as many segments as published, in both splits."""
        return all(part["segments"] == part["published"] for part in self.report["splits"].values())

    def sentences(self) -> list[str]:
        """What was found, one sentence each, with examples."""
        report, out = self.report, []
        for split, part in report["splits"].items():
            found, wanted = part["segments"], part["published"]
            if found == wanted:
                out.append(f"{split}: {found:,} segments, as many as are published")
            else:
                out.append(
                    f"{split}: {found:,} segments where {wanted:,} are published; the {part['sequences']:,} sequences "
                    f"of the list have {part['by_beats']:,} by their beats"
                )
        for what, names in report["missing"].items():
            if names:
                out.append(f"{len(names):,} sequences without {what}: {_examples(names)}")
        for key, words in (("broken", "broken files"), ("clips_left_out", "videos that gave no clip")):
            told = [f"{entry['file']} ({entry['reason']})" for entry in report[key]]
            if told:
                out.append(f"{len(told):,} {words}: {_examples(told)}")
        told = [f"{e['sequence']} ({e['segments']} segments, {e['by_beats']} by beats)" for e in report["other_length"]]
        if told:
            out.append(f"{len(told):,} sequences of another length than their beats': {_examples(told)}")
        if report["ignored"]:
            names = report["ignored"]
            out.append(f"{len(names):,} sequences of AIST++'s ignore list left out: {_examples(names)}")
        return out


@dataclass
class _Findings:
    """What import.json says, as it is gathered."""

    camera: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=lambda: {"motion": [], "sound": []})
    broken: list[dict[str, str]] = field(default_factory=list)
    other_length: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    clips_left_out: list[dict[str, str]] = field(default_factory=list)


def build_aist(options: AistOptions, progress: Progress | None = None) -> AistResult:
    """Make the dataset of AIST++, or go on making it.

    The same files give the same bytes. A sequence without motion or sound, or with a broken file, is left out and
    listed. Clips that an earlier, stopped call has cut are not cut again.

    Args:
        progress: called with (steps done, steps in all, what was done).

    Raises:
        UserError: no annotations, no media, no segment that could be made, or `out` holds something else.
        DiskFull: it did not fit; what is finished is kept.
    """
    if options.camera not in CAMERAS:
        raise UserError(f"there is no camera {options.camera!r}: take one of {', '.join(CAMERAS)}")
    folder = open_aist(options.annotations)
    media = _Media(options.media, options.camera)
    key = _key(options, folder, media)
    work = options.out.with_name(options.out.name + ".work")
    tell = progress or (lambda done, total, what: None)
    counts = write_segment_set(
        options.out, key, lambda place: _write(place, options, folder, media, key, Store(work), tell), replaces=NAME
    )
    for part in ("objects/aist_clip", "tmp"):  # the dataset holds the same bytes
        shutil.rmtree(work / part, ignore_errors=True)
    with contextlib.suppress(OSError):
        (work / "objects").rmdir()
        work.rmdir()
    report = json.loads((options.out / REPORT).read_text(encoding="utf-8"))
    return AistResult(options.out, counts, report)


class _Media:
    """The videos of one camera and the music under a folder, by name."""

    def __init__(self, root: Path, camera: str) -> None:
        if not root.is_dir():
            raise UserError(f"there is no folder {root}: name the one with AIST's videos or music")
        self.root, self.camera = root, camera
        self.files: dict[str, Path] = {}
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in (*_VIDEO, *_SOUND) and path.is_file() and not path.name.startswith("."):
                self.files.setdefault(path.stem, path)
        self._has_sound: dict[Path, bool] = {}
        self._sounds: dict[Path, np.ndarray] = {}

    def video(self, sequence: Sequence) -> Path | None:
        """The camera's video of a sequence."""
        path = self.files.get(sequence.video(self.camera))
        return path if path is not None and path.suffix.lower() in _VIDEO else None

    def sound(self, sequence: Sequence) -> Path | None:
        """Where a sequence's sound comes from: its video, if that has any, else the music.

        Raises:
            MediaError: the video cannot be read, and there is no music.
        """
        video, music = self.video(sequence), self.files.get(sequence.music)
        if video is None:
            return music
        try:
            if video not in self._has_sound:
                from tiktok_dm.media import probe

                self._has_sound[video] = probe(video).audio is not None
        except MediaError:
            if music is None:
                raise
            return music
        return video if self._has_sound[video] else music

    def read(self, path: Path) -> np.ndarray:
        """All of a file's sound, 22,050 Hz mono; a few are kept, since many dances share a music."""
        from tiktok_dm.media import read_audio

        if path not in self._sounds:
            if len(self._sounds) >= _KEPT_SOUNDS:
                del self._sounds[next(iter(self._sounds))]
            self._sounds[path] = read_audio(path, sample_rate=schema.SAMPLE_RATE)
        return self._sounds[path]


def _key(options: AistOptions, folder: AistFolder, media: _Media) -> str:
    """Name of the dataset's content."""
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
                    files[path.name] = sha256_file(path)
    versions = {name: importlib.metadata.version(name) for name in ("av", "numpy", "pyarrow", "scipy", "soundfile")}
    lists = {part: [sequence.name for sequence in names] for part, names in folder.splits.items()}
    inputs = {"files": files, "lists": lists, "ignored": sorted(folder.ignored), "settings": folder.settings}
    chosen = {name: getattr(options, name) for name in ("camera", "skip_ignored", "clips", "max_height")}
    return content_key("aist", VERSION, chosen, {**inputs, "package": __version__, **versions})


# ---------------------------------------------------------------------------------------------------------- segments


def smpl_motion(poses: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Motion as the models take it.

    Args:
        poses: (N, 24, 3) axis-angles, rad.
        places: (N, 3) translation.

    Returns:
        (N, 219) float32: translation, then 24 rotation matrices (Rodrigues), row by row.
    """
    from scipy.spatial.transform import Rotation

    matrices = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix()
    return np.concatenate([places, matrices.reshape(len(poses), -1)], axis=-1).astype(np.float32)


def genre_of(sequence: Sequence) -> np.ndarray:
    """One-hot (10,) float32 in the order of `aist_layout.GENRES`."""
    return np.eye(len(GENRES), dtype=np.float32)[GENRES.index(sequence.genre)]


def _segments(
    sequence: Sequence, split: str, camera: str, clip_id: int, motion: np.ndarray, sound: np.ndarray
) -> list[dict[str, Any]]:
    """The rows of a sequence: as many whole segments as both motion and sound have."""
    from tiktok_dm.media import encode_audio

    count = min((len(motion) + _SLACK_FRAMES) // FRAMES, (len(sound) + _SLACK_SAMPLES) // schema.SEGMENT_SAMPLES)
    # The last pose stands, and silence follows, where a segment ends a moment later than they do.
    frames = np.minimum(np.arange(count * FRAMES), len(motion) - 1)
    samples = np.pad(sound, (0, _SLACK_SAMPLES))
    rows = []
    for k in range(count):
        name = f"{sequence.video(camera)}_seg{k + 1}"
        part = samples[k * schema.SEGMENT_SAMPLES : (k + 1) * schema.SEGMENT_SAMPLES]
        rows.append(
            {
                "segment_id": name,
                "clip_id": clip_id,
                "compilation_id": sequence.dancer,
                "song_id": sequence.song_id,
                "split": split,
                "segment_index": k + 1,
                "start_s": k * schema.SEGMENT_S,
                "audio": {"bytes": encode_audio(part, schema.SAMPLE_RATE, "flac"), "path": f"{name}.flac"},
                "motion": motion[frames[k * FRAMES : (k + 1) * FRAMES]],
                "n_dancers": 1,
                "genre": genre_of(sequence),
            }
        )
    return rows


def _sequence_rows(
    sequence: Sequence, split: str, folder: AistFolder, media: _Media, findings: _Findings
) -> list[dict[str, Any]]:
    """The rows of a sequence, none where something is missing or broken; `findings` grows on the way."""
    path = folder.root / "motions" / f"{sequence.name}.pkl"
    if not path.is_file():
        findings.missing["motion"].append(sequence.name)
        return []
    try:
        motion = smpl_motion(*read_motion(path))
    except UserError as error:
        findings.broken.append({"file": path.name, "reason": _reason(error, path)})
        return []
    try:
        where = media.sound(sequence)
        if where is None:
            findings.missing["sound"].append(sequence.name)
            return []
        sound = media.read(where)
    except MediaError as error:
        broken = media.video(sequence) or media.files[sequence.music]
        findings.broken.append({"file": broken.name, "reason": _reason(error, broken)})
        return []
    rows = _segments(sequence, split, media.camera, folder.clip_id(sequence), motion, sound)
    if len(rows) != sequence.segments_by_beats:
        entry = {"sequence": sequence.name, "segments": len(rows), "by_beats": sequence.segments_by_beats}
        findings.other_length.append(entry)
    return rows


# ------------------------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True)
class _ClipJob:
    """One video to be cut, for one worker."""

    sequence: Sequence
    split: str
    clip_id: int
    video: Path
    keypoints: Path
    camera: str
    picture: tuple[int, int]
    max_height: int | None
    work: Path


def body_25_at_30_fps(
    keypoints: np.ndarray, n_poses: int, picture: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """COCO-17 keypoints at 60 fps as the dataset's poses.

    Args:
        keypoints: (N, 17, 3) in px of `picture`.
        n_poses: how many are wanted; the last keypoints stand for those past the end.
        picture, size: width and height in px of the pictures of the keypoints, and of those that the poses belong to.

    Returns:
        (n_poses, 1, 25, 3) float32.
    """
    every = FPS // schema.POSE_FPS
    chosen = np.array(keypoints[np.minimum(np.arange(n_poses) * every, len(keypoints) - 1)], np.float32)
    chosen[..., 0] *= np.float32(size[0] / picture[0])
    chosen[..., 1] *= np.float32(size[1] / picture[1])
    return to_body_25(chosen, COCO_17)[:, None]


def _make_clip(job: _ClipJob) -> ClipItem | str:
    """The clip of a video, cut now or earlier, or why there is none."""
    from tiktok_dm.media import probe
    from tiktok_dm.pipeline.music import MusicParams, music
    from tiktok_dm.pipeline.segment import SegmentParams, segment

    store = Store(job.work)

    def make(out: Path) -> dict[str, Any]:
        keypoints = read_keypoints2d(job.keypoints, job.camera)
        end_s = min(probe(job.video).duration_s, len(keypoints) / FPS)
        cut = segment(job.video, 0.0, end_s, SegmentParams(max_height=job.max_height), out)
        if not cut["has_audio"]:
            raise Filtered("the video has no sound")
        poses = body_25_at_30_fps(
            keypoints, max(1, round(cut["duration_s"] * schema.POSE_FPS)), job.picture, (cut["width"], cut["height"])
        )
        np.save(out / "poses.npy", poses)
        seen = poses[:, 0, :, 2] > 0
        if not seen.any():
            raise Filtered("no keypoints in it")
        return {
            "segment": cut,
            "music": music(out / "audio.flac", MusicParams(), out),
            "poses": {
                "n_frames": len(poses),
                "n_dancers": 1,
                "coverage": round(float(seen.any(axis=1).mean()), 4),
                "mean_confidence": round(float(poses[:, 0, :, 2][seen].mean(dtype=np.float64)), 4),
                "estimator": "AIST++ keypoints2d",
                "estimator_version": "1.0",
                "weights_sha256": "",
            },
        }

    try:
        sha256 = sha256_file(job.video)
        inputs = {"video": sha256, "keypoints": sha256_file(job.keypoints), "package": __version__}
        parameters = [job.camera, list(job.picture), job.max_height]
        key = content_key("aist_clip", VERSION, parameters, inputs)
        record = store.run("aist_clip", key, make)
    except DiskFull:
        raise
    except (UserError, Filtered) as error:
        return _reason(error, job.video)
    place = store.folder("aist_clip", key)
    return ClipItem(
        clip_id=job.clip_id,
        compilation_id=job.sequence.dancer,
        song_id=job.sequence.song_id,
        split=job.split,
        annotated_start_s=0.0,
        annotated_end_s=float(record["segment"]["end_s"]),
        segment=record["segment"],
        poses=record["poses"],
        music=record["music"],
        n_dancers_annotated=1,
        source=job.video.name,
        source_sha256=sha256,
        video=place / "clip.mp4",
        audio=place / "audio.flac",
        pose=place / "poses.npy",
    )


def _clip_items(jobs: list[_ClipJob], workers: int) -> Iterator[ClipItem | str]:
    """Results in the order of the jobs."""
    if workers <= 1 or len(jobs) <= 1:
        yield from map(_make_clip, jobs)
        return
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(_make_clip, jobs)


# ------------------------------------------------------------------------------------------------------------- files


def _write(
    place: Path,
    options: AistOptions,
    folder: AistFolder,
    media: _Media,
    key: str,
    store: Store,
    progress: Progress,
) -> None:
    findings = _Findings(options.camera)
    chosen: dict[str, list[Sequence]] = {}
    for split in SPLITS:
        listed = folder.splits[split]
        chosen[split] = [s for s in listed if not (options.skip_ignored and s.name in folder.ignored)]
        findings.ignored += [s.name for s in listed if s not in chosen[split]]
    jobs = [
        _ClipJob(
            sequence,
            split,
            folder.clip_id(sequence),
            video,
            folder.root / "keypoints2d" / f"{sequence.name}.pkl",
            options.camera,
            folder.picture_size(sequence, options.camera),
            options.max_height,
            store.root,
        )
        for split in SPLITS
        for sequence in chosen[split]
        if options.clips and (video := media.video(sequence)) is not None
    ]
    total, done = sum(map(len, chosen.values())) + len(jobs), 0
    items: list[ClipItem] = []
    for job, item in zip(jobs, _clip_items(jobs, options.workers), strict=True):
        if isinstance(item, str):
            findings.clips_left_out.append({"file": job.video.name, "reason": item})
        else:
            items.append(item)
        done += 1
        progress(done, total, job.video.name)
    infos: list[SplitInfo] = []
    songs: dict[str, set[int]] = {}
    for split in SPLITS:
        with (
            ShardWriter(place / DATA / "clips", "clips", split, SHARD_BYTES) as clips,
            ShardWriter(place / DATA / CONFIG, CONFIG, split, SHARD_BYTES, columns=SEGMENT_COLUMNS) as segments,
        ):
            for item in items:
                if item.split == split:
                    clips.add(clip_row(item, np.load(item.pose)))
            songs[split] = set()
            count = 0
            for sequence in chosen[split]:
                for row in _sequence_rows(sequence, split, folder, media, findings):
                    segments.add(row)
                    songs[split].add(sequence.song_id)
                    count += 1
                done += 1
                progress(done, total, sequence.name)
            infos += [info for info in (clips.finish(), segments.finish()) if info.num_examples]
        findings.splits[split] = {
            "sequences": len(folder.splits[split]),
            "segments": count,
            "by_beats": sum(sequence.segments_by_beats for sequence in folder.splits[split]),
            "published": PUBLISHED_SEGMENTS[split],
        }
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
    meta = DatasetMeta(
        name=NAME,
        title="AIST++ in two-second segments",
        license="other",
        homepage="https://google.github.io/aistplusplus_dataset/",
        citation="",
        description="",
        parameters={name: getattr(options, name) for name in ("camera", "skip_ignored", "clips", "max_height")},
        tools={"tiktok_dm": __version__, "numpy": np.__version__},
        ledger=(),
        plan_clips=sum(map(len, chosen.values())),
        plan_compilations=len({s.dancer for part in chosen.values() for s in part}),
    )
    (place / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (place / CARD).write_text(_card(meta, infos, counts, result), encoding="utf-8")
    write_manifest(place, {"export": key, "name": NAME, "counts": counts}, meta)


def _reason(error: Exception, path: Path) -> str:
    """What is wrong with a file, without the folder that it is in."""
    return str(error).replace(str(path), path.name)


def _examples(items: Several[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (", ..." if len(items) > _SHOWN else "")


_PROSE = """# {title}

AIST++ (Li et al., ICCV 2021) cut into two-second segments as in the D2M-GAN paper, by `tiktok-dm build --dataset
aist++`: the cross-modality split, camera {camera}. AIST++'s annotations are Google's, under CC BY 4.0; videos and
music are the AIST Dance Video Database's, under its own terms of use.

| split | segments | songs |
|---|---:|---:|
{splits}
{findings}
No song is in two splits; AIST++'s own validation list shares its songs with the test list and is not here.

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
        rows = (SEGMENT_COLUMNS if config == CONFIG else schema.CLIP_COLUMNS).items()
        lines = "".join(f"| `{name}` | {kind} | {text} |\n" for name, (kind, text) in rows)
        tables += f"\n## Columns of {config}\n\n| column | type | meaning |\n|---|---|---|\n{lines}"
    return front_matter(range(counts["segments"]), meta, infos) + _PROSE.format(
        title=meta.title,
        camera=result.report["camera"],
        splits="".join(splits),
        findings="".join(f"- {sentence}.\n" for sentence in result.sentences()),
        columns=tables,
    )
