"""Annotations as tasks of Label Studio, and corrected tasks read back.

One task a compilation, with one region of `TimelineLabels` a clip, and the clip's id, song and dancers as fields of the
region. Clips that nobody looked at yet are predictions (pre-annotations), with the program's confidence as score; what
a person wrote or confirmed is an annotation. `label_config.xml` is the labelling interface to paste into the project.

Label Studio counts frames from 1 and its ranges include their last frame: frame k is on screen from `(k - 1) / fps`, so
a clip from `start_s` to `end_s` is the range `round(start_s fps) + 1` to `round(end_s fps)`. The frame rate belongs to
the video and is part of the task (`fps`); a video with irregular frames has no such numbering, and Label Studio asks
for a constant rate itself.

Layout after Label Studio's documentation of the TimelineLabels, Number and Video tags and of its JSON format (1.20 and
later). Not for ELAN (`tiktok_dm.curate.exchange.elan`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tiktok_dm.annotations.tables import Annotations, decode_text
from tiktok_dm.curate.exchange.base import Film, Region, TimedClip, seconds, ticks
from tiktok_dm.errors import Problem, ProblemsError, UserError

LOCAL_FILES = "/data/local-files/?d="
TASKS, CONFIG = "tasks.json", "label_config.xml"
LABEL = "clip"
MODEL = "tiktok-dm propose"

LABEL_CONFIG = """\
<View>
  <Header value="$title"/>
  <Video name="video" value="$video" framerate="$fps" timelineHeight="120"/>
  <TimelineLabels name="clip" toName="video">
    <Label value="clip" background="#1f77b4"/>
  </TimelineLabels>
  <View visibleWhen="region-selected">
    <Header value="Clip id: leave empty for a new clip" size="5"/>
    <Number name="clip_id" toName="video" perRegion="true" min="0" step="1"/>
    <Header value="Song id" size="5"/>
    <Number name="song" toName="video" perRegion="true" required="true" min="0" step="1"/>
    <Header value="Dancers, 1 to 5" size="5"/>
    <Number name="dancers" toName="video" perRegion="true" min="1" max="5" step="1"/>
  </View>
</View>
"""
_FIELDS = ("clip_id", "song", "dancers")


def label_studio_files(films: Sequence[Film], prefix: str = LOCAL_FILES) -> tuple[dict[str, str], list[str]]:
    """`tasks.json` and `label_config.xml` as texts by name, and sentences about them.

    Args:
        prefix: put before a video's file name to make its address; a compilation without a known file keeps its link.

    Raises:
        UserError: a frame rate is not known.
    """
    unknown = [film.compilation_id for film in films if film.fps is None]
    if unknown:
        raise UserError(
            f"Label Studio counts frames, and the frame rate of compilation {', '.join(map(str, unknown))} is not "
            "known: give --media with the files, or --fps"
        )
    notes = []
    tasks = []
    for film in films:
        if not film.file and not film.url:
            notes.append(
                f"compilation {film.compilation_id} has neither a file nor a link: its task names "
                f"{film.compilation_id}.mp4, which must be put there"
            )
        tasks.append(task_of(film, prefix))
    return {TASKS: json.dumps(tasks, indent=1, ensure_ascii=False) + "\n", CONFIG: LABEL_CONFIG}, notes


def task_of(film: Film, prefix: str = LOCAL_FILES) -> dict[str, Any]:
    """One compilation as a task; `film.fps` is known."""
    assert film.fps is not None
    address = film.url
    if film.file or not film.url:
        address = prefix + quote(film.file or f"{film.compilation_id}.mp4")
    data = {
        "video": address,
        "fps": float(film.fps),
        "fps_rational": f"{film.fps.numerator}/{film.fps.denominator}",
        "compilation_id": film.compilation_id,
        "title": film.title or film.file or f"compilation {film.compilation_id}",
    }
    task: dict[str, Any] = {"data": data, "annotations": [], "predictions": []}
    done = [clip for clip in film.clips if clip.reviewed]
    open_ = [clip for clip in film.clips if not clip.reviewed]
    if done:
        results = [result for clip in done for result in _results(clip, film.fps)]
        task["annotations"].append({"result": results, "was_cancelled": False, "ground_truth": False})
    if open_:
        results = [result for clip in open_ for result in _results(clip, film.fps)]
        scores = [result["score"] for result in results if "score" in result]
        prediction: dict[str, Any] = {"model_version": MODEL, "result": results}
        if scores:
            prediction["score"] = min(scores)  # so that a list ordered by score starts with the most doubtful
        task["predictions"].append(prediction)
    return task


def _results(clip: TimedClip, fps: Fraction) -> list[dict[str, Any]]:
    """The region of a clip and its fields: results that share an id."""
    first, last = ticks(clip.start_s, fps) + 1, ticks(clip.end_s, fps)
    ranges = [{"start": first, "end": max(first, last)}]
    edges = [clip.confidence[value] for value in ("start", "end") if value in clip.confidence]
    region: dict[str, Any] = _result(clip.clip_id, "clip", "timelinelabels", ranges, [LABEL], clip.reviewed)
    if edges:
        region["score"] = min(edges)
    if note := clip.reasons():
        region["meta"] = {"text": [note]}
    found = [region]
    for name, value in (("clip_id", clip.clip_id), ("song", clip.song_id), ("dancers", clip.n_dancers)):
        if value is not None:
            field = _result(clip.clip_id, name, "number", ranges, value, clip.reviewed)
            if name in clip.confidence:
                field["score"] = clip.confidence[name]
            found.append(field)
    return found


def _result(
    clip_id: int, control: str, kind: str, ranges: list[dict[str, int]], value: Any, manual: bool
) -> dict[str, Any]:
    return {
        "id": f"clip_{clip_id}",
        "from_name": control,
        "to_name": "video",
        "type": kind,
        "origin": "manual" if manual else "prediction",
        "value": {"ranges": [dict(span) for span in ranges], kind: value},
    }


# ------------------------------------------------------------------------------------------- home


def read_label_studio(path: Path | str, base: Annotations) -> tuple[list[Region], list[str]]:
    """The clips in a JSON export of Label Studio (format `JSON`), and sentences about them.

    Of a task's annotations the newest that was not skipped counts. Predictions count where there is no annotation, and
    stand for clips that the annotation does not name, as they went out; nobody has seen them.

    Args:
        base: the annotations that were exported.

    Raises:
        UserError: the file is no JSON export of Label Studio.
        ProblemsError: tasks or regions that cannot be understood, all of them.
    """
    name = Path(path).name
    try:
        tasks = json.loads(decode_text(Path(path)))
    except ValueError as error:
        raise UserError(f"{name} is not JSON ({error}): export from Label Studio in the format JSON") from None
    except UserError as error:
        raise UserError(f"{name} {error}") from None
    if isinstance(tasks, dict):
        tasks = [tasks]
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise UserError(
            f"{name} is not a JSON export of Label Studio (a list of tasks with `data`): choose the format JSON there, "
            "not JSON-MIN"
        )
    regions: list[Region] = []
    notes: list[str] = []
    problems: list[Problem] = []
    known = {int(number) for number in base.compilations.compilation_id}
    for k, task in enumerate(tasks, 1):
        where = f"{name}, task {task.get('id', k)}"
        try:
            number, fps = _source(task["data"], known)
            chosen, unseen, said = _chosen(task, where)
            notes += said
            mine = _regions(chosen, number, fps, where, seen=bool(task.get("annotations")))
            have = {region.clip_id for region in mine}
            rest = [r for r in _regions(unseen, number, fps, where, seen=False) if r.clip_id not in have]
            regions += [*mine, *rest]
        except (UserError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            message = str(error) if isinstance(error, UserError) else f"is not laid out as expected ({error!r})"
            problems.append(Problem(where, None, None, message))
    if problems:
        raise ProblemsError(problems)
    return regions, notes


def _source(data: dict[str, Any], known: set[int]) -> tuple[int, Fraction]:
    if not isinstance(data.get("compilation_id"), int) or data["compilation_id"] not in known:
        raise UserError("its data names no compilation_id of the annotations: export the tasks that were imported")
    fps = Fraction(str(data.get("fps_rational") or data.get("fps") or 0))
    if fps <= 0:
        raise UserError("its data has no fps: export the tasks that were imported")
    return data["compilation_id"], fps


def _chosen(task: dict[str, Any], where: str) -> tuple[list, list, list[str]]:
    """(results that count, results of predictions, sentences) of one task."""
    given = [a for a in task.get("annotations") or [] if isinstance(a, dict)]
    valid = [annotation for annotation in given if not annotation.get("was_cancelled")]
    notes = []
    if given and not valid:
        notes.append(f"{where} was skipped, and counts as not looked at")
    # A list of ids stands for predictions where the export was made without them.
    predictions = [p for p in task.get("predictions") or [] if isinstance(p, dict)]
    latest = max(predictions, key=lambda p: str(p.get("created_at") or ""), default=None)
    guessed = list(latest.get("result") or []) if latest else []
    if not valid:
        return [], guessed, notes
    newest = max(valid, key=lambda a: str(a.get("updated_at") or a.get("created_at") or ""))
    if len(valid) > 1:
        notes.append(f"{where} has {len(valid)} annotations: the newest counts")
    # Whoever started from the prediction saw all of its regions: what is gone was taken away.
    return list(newest["result"]), [] if newest.get("parent_prediction") else guessed, notes


def _regions(results: list[dict[str, Any]], number: int, fps: Fraction, where: str, seen: bool) -> list[Region]:
    spans: dict[str, dict[str, Any]] = {}
    for result in results:
        if result.get("type") == "timelinelabels" and LABEL in result["value"].get("timelinelabels", []):
            spans[str(result["id"])] = {"range": result["value"]["ranges"]}
    for result in results:
        if str(result.get("id")) in spans and result.get("type") == "number" and result.get("from_name") in _FIELDS:
            spans[str(result["id"])][result["from_name"]] = result["value"]["number"]
    found = []
    for span in spans.values():
        if len(span["range"]) != 1:
            raise UserError(f"a region has {len(span['range'])} ranges: a clip has one")
        first, last = int(span["range"][0]["start"]), int(span["range"][0]["end"])
        numbers = [_whole(span.get(name), name) for name in _FIELDS]
        found.append(
            Region(
                compilation_id=number,
                clip_id=numbers[0],
                # A region drawn to the very left may say frame 0.
                start_s=seconds(max(0, first - 1), fps),
                end_s=seconds(last, fps),
                song_id=numbers[1],
                n_dancers=numbers[2],
                rate=fps,
                where=where,
                seen=seen,
            )
        )
    return found


def _whole(value: Any, name: str) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or float(value) != int(value) or int(value) < 0:
        raise UserError(f"{name} is {value}: write a whole number from 0")
    return int(value)
