"""The demo as files: rendered compilations, their annotations in the project's schema, and everything that is true.

`make_demo` writes `media/`, `annotations/` and `truth/`. Not for what is in a clip (`plan`, `performance`).
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.synthetic import figure
from tiktok_dm.synthetic.instruments import SAMPLE_RATE
from tiktok_dm.synthetic.music import make_song
from tiktok_dm.synthetic.performance import beats_of, joints_px, pictures, sound
from tiktok_dm.synthetic.plan import CompilationPlan, DemoParams, make_plan
from tiktok_dm.synthetic.scene import make_decoration, make_title_card

Progress = Callable[[int, int, str], None]
LICENSE = "cc0-1.0"
_FADE = 0.004  # s of fade at each cut of the sound, against clicks

_README = """# The demo's annotations

Rendered dancers and synthesised songs, made by `tiktok_dm.synthetic` with seed {seed}: nobody was filmed and no
recording was used. Every value below is exact, since it is what the rendering was told.

| column | provenance |
|---|---|
| compilation_id, clip_id, song_id | numbered in the order of making |
| title | invented |
| url | empty: the videos are made here, not fetched |
| file | video in `media/` |
| license | {license}: no rights reserved |
| sha256 | of the file as written |
| start_s, end_s | first instant of the clip's first frame, and of the frame after its last |
| n_dancers | dancers drawn |
| artist | the style and tempo of the synthesised song |
"""


def make_demo(
    out: Path, params: DemoParams | None = None, *, workers: int = 1, progress: Progress | None = None
) -> Path:
    """Write a demo.

    Args:
        out: folder; `media/compilation_<id>.mp4`, `annotations/` and `truth/` are written into it. For each compilation
            `truth/compilation_<id>.json` holds size, frame rate, cuts and clips (times, song, style, tempo, beats), and
            `truth/compilation_<id>.npz` the array `joints`, float32 (frames, dancers, 25, 2) in px, NaN where there is
            nobody; `truth/songs.json` holds the songs.
        params: size and seed.
        workers: processes; the files are the same for any number.
        progress: called with (clips done, clips in all, what was done).

    Returns:
        `out`.
    """
    params = params or DemoParams()
    out = Path(out)
    plans = make_plan(params)
    for folder in ("media", "annotations", "truth"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    tell = progress or (lambda done, total, what: None)
    sums: dict[int, str] = {}
    if workers <= 1 or len(plans) == 1:
        done = 0
        for plan in plans:

            def one_more(clip_id: int) -> None:
                nonlocal done
                done += 1
                tell(done, params.clips, f"clip {clip_id}")

            sums[plan.compilation_id] = _write_compilation(out, params, plan, one_more)
    else:
        done = 0
        with ProcessPoolExecutor(min(workers, len(plans)), mp_context=get_context("spawn")) as pool:
            jobs = {pool.submit(_write_compilation, out, params, plan): plan for plan in plans}
            for job in as_completed(jobs):
                plan = jobs[job]
                sums[plan.compilation_id] = job.result()
                done += len(plan.clips)
                tell(done, params.clips, f"compilation {plan.compilation_id}")
    write_demo_annotations(out / "annotations", params, sums)
    _write_json(out / "truth" / "songs.json", [_song_truth(params, k) for k in range(params.songs)])
    return out


def compilation_frames(
    params: DemoParams, plan: CompilationPlan, on_clip: Callable[[int], None] | None = None
) -> Iterator[np.ndarray]:
    """All pictures of a compilation, uint8 (height, width, 3): title card, clips, cross-fades between them."""
    decoration = None
    rng = np.random.default_rng([params.seed, 4, plan.compilation_id])
    if plan.window[2] < params.width:
        decoration = make_decoration(params.width, params.height, plan.window, plan.title, rng)
    if plan.title_frames:
        card = make_title_card(params.width, params.height, plan.title, rng)
        for _ in range(plan.title_frames):
            yield card
    fading: list[np.ndarray] = []
    for k, clip in enumerate(plan.clips):
        following = plan.clips[k + 1].first_frame if k + 1 < len(plan.clips) else plan.frames
        gap = following - clip.first_frame - clip.frames
        # A cross-fade shows the end of one clip running on and the next one's first picture.
        stream = pictures(params, clip, gap, decoration)
        for index, picture in enumerate(stream):
            if index == 0:
                for j, last in enumerate(fading):
                    mixed = np.empty_like(last)
                    figure.blend(last, picture, (j + 1) / (len(fading) + 1), mixed)
                    yield mixed
                fading = []
            if index < clip.frames:
                yield picture
            else:
                fading.append(picture)
        if on_clip is not None:
            on_clip(clip.clip_id)


def compilation_sound(params: DemoParams, plan: CompilationPlan) -> np.ndarray:
    """A compilation's sound, mono float32 at 44.1 kHz: silent under the title card, cut where the picture is cut."""
    line = np.zeros(round(plan.frames / params.fps * SAMPLE_RATE), np.float32)
    ramp = np.linspace(0, 1, int(_FADE * SAMPLE_RATE), dtype=np.float32)
    for clip in plan.clips:
        start = round(clip.first_frame / params.fps * SAMPLE_RATE)
        end = round((clip.first_frame + clip.frames) / params.fps * SAMPLE_RATE)
        part = sound(params, clip, end - start).copy()
        part[: len(ramp)] *= ramp
        part[-len(ramp) :] *= ramp[::-1]
        line[start:end] = part
    return line


def compilation_joints(params: DemoParams, plan: CompilationPlan) -> np.ndarray:
    """True joints of every frame, float32 (frames, dancers, 25, 2) in px; NaN where there is nobody."""
    most = max(len(clip.dancers) for clip in plan.clips)
    joints = np.full((plan.frames, most, 25, 2), np.nan, np.float32)
    for clip in plan.clips:
        times = np.arange(clip.frames) / params.fps
        joints[clip.first_frame : clip.first_frame + clip.frames, : len(clip.dancers)] = joints_px(params, clip, times)
    return joints


def _write_compilation(
    out: Path, params: DemoParams, plan: CompilationPlan, on_clip: Callable[[int], None] | None = None
) -> str:
    from tiktok_dm.media import write_video

    path = out / "media" / f"compilation_{plan.compilation_id}.mp4"
    write_video(
        path,
        compilation_frames(params, plan, on_clip),
        params.fps,
        audio=compilation_sound(params, plan),
        sample_rate=SAMPLE_RATE,
    )
    truth = out / "truth" / f"compilation_{plan.compilation_id}"
    np.savez_compressed(truth.with_suffix(".npz"), joints=compilation_joints(params, plan))
    _write_json(truth.with_suffix(".json"), _compilation_truth(params, plan))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _seconds(params: DemoParams, frame: int) -> float:
    return round(frame / params.fps, 6)


def _compilation_truth(params: DemoParams, plan: CompilationPlan) -> dict[str, Any]:
    clips: list[dict[str, Any]] = []
    for clip in plan.clips:
        song = make_song(params.seed, clip.song_id)
        clips.append(
            {
                "clip_id": clip.clip_id,
                "song_id": clip.song_id,
                "start_s": _seconds(params, clip.first_frame),
                "end_s": _seconds(params, clip.first_frame + clip.frames),
                "first_frame": clip.first_frame,
                "frames": clip.frames,
                "n_dancers": len(clip.dancers),
                "style": song.style.name,
                "tempo_bpm": song.tempo_bpm,
                "song_offset_s": clip.song_offset_s,
                "beats_s": [round(float(beat), 6) for beat in beats_of(params, clip)],
                "room": clip.room,
            }
        )
    cuts = sorted(
        {t for clip in clips for t in (clip["start_s"], clip["end_s"])} - {0.0, _seconds(params, plan.frames)}
    )
    return {
        "compilation_id": plan.compilation_id,
        "fps": params.fps,
        "width": params.width,
        "height": params.height,
        "content_box": list(plan.window),
        "frames": plan.frames,
        "cuts_s": cuts,
        "clips": clips,
    }


def _song_truth(params: DemoParams, song_id: int) -> dict[str, Any]:
    song = make_song(params.seed, song_id)
    return {
        "song_id": song_id,
        "title": song.title,
        "style": song.style.name,
        "tempo_bpm": song.tempo_bpm,
        "key_midi": song.key,
        "minor": song.style.minor,
        "progression": list(song.progression),
        "energy": [round(e, 3) for e in song.energy],
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_demo_annotations(folder: Path, params: DemoParams, sums: dict[int, str] | None = None) -> None:
    """Write the demo's annotations into an existing folder; nothing is rendered.

    Args:
        folder: for `compilations.csv`, `clips.csv`, `songs.csv`, `dataset.yaml` and `README.md`.
        params: size and seed.
        sums: SHA-256 of each compilation's video; the column stays empty where there is no video yet.
    """
    plans = make_plan(params)
    numbers = [plan.compilation_id for plan in plans]
    _write_csv(
        folder / "compilations.csv",
        ["compilation_id", "title", "url", "file", "license", "sha256"],
        [[k, plans[k].title, "", f"compilation_{k}.mp4", LICENSE, (sums or {}).get(k, "")] for k in numbers],
    )
    _write_csv(
        folder / "clips.csv",
        ["clip_id", "compilation_id", "song_id", "start_s", "end_s", "n_dancers"],
        [
            [
                clip.clip_id,
                clip.compilation_id,
                clip.song_id,
                f"{clip.first_frame / params.fps:.6f}",
                f"{(clip.first_frame + clip.frames) / params.fps:.6f}",
                len(clip.dancers),
            ]
            for plan in plans
            for clip in plan.clips
        ],
    )
    songs = [make_song(params.seed, k) for k in range(params.songs)]
    _write_csv(
        folder / "songs.csv",
        ["song_id", "title", "artist"],
        [[s.song_id, s.title, f"synthesised {s.style.name} at {s.tempo_bpm:g} bpm"] for s in songs],
    )
    (folder / "dataset.yaml").write_text(
        "name: demo\n"
        "title: Demo of rendered dancers and synthesised songs\n"
        f"license: {LICENSE}\n"
        "description: Rendered dancers whose poses land on the beats of synthesised songs, with all truth known.\n",
        encoding="utf-8",
    )
    (folder / "README.md").write_text(_README.format(seed=params.seed, license=LICENSE), encoding="utf-8")
