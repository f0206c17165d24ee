"""Annotations as tasks of Label Studio, and corrected tasks back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pandas as pd
import pytest
from exchange_sets import in_memory, write_proposals_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tiktok_dm.annotations.tables import read_annotations, typed, write_annotations
from tiktok_dm.cli.main import app
from tiktok_dm.curate.exchange.base import Film, TimedClip
from tiktok_dm.curate.exchange.corrections import apply_regions, export_annotations, films_of, import_regions
from tiktok_dm.curate.exchange.label_studio import LABEL_CONFIG, read_label_studio, task_of
from tiktok_dm.curate.proposals import read_proposals
from tiktok_dm.errors import ProblemsError, UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_proposals_folder(tmp_path / "proposals")


def exported(folder: Path, out: Path, fps: float = 30.0) -> list[dict]:
    export_annotations(folder, "label-studio", out, fps=fps)
    return json.loads((out / "tasks.json").read_text(encoding="utf-8"))


def home(tasks: list[dict], folder: Path, out: Path, **options):
    file = out.with_suffix(".json")
    file.write_text(json.dumps(tasks), encoding="utf-8")
    return import_regions(lambda base: read_label_studio(file, base), folder, out, **options)


def of_clip(results: list[dict], clip: int) -> dict[str, dict]:
    return {result["from_name"]: result for result in results if result["id"] == f"clip_{clip}"}


# ------------------------------------------------------------------------------------------- out


def test_a_task_is_laid_out_as_label_studio_documents_it(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    assert [task["data"] for task in tasks] == [
        {
            "video": "/data/local-files/?d=best%20of.mp4",
            "fps": 30.0,
            "fps_rational": "30/1",
            "compilation_id": 0,
            "title": "Best dances <1> & more",
        },
        {
            "video": "https://example.org/watch?v=3",
            "fps": 30.0,
            "fps_rational": "30/1",
            "compilation_id": 3,
            "title": "compilation 3",
        },
    ]
    # Clip 0 (accepted) and clip 2 (mended) were reviewed, clip 1 was not.
    ((annotation,), (prediction,)) = tasks[0]["annotations"], tasks[0]["predictions"]
    assert {result["id"] for result in annotation["result"]} == {"clip_0", "clip_2"}
    assert {result["id"] for result in prediction["result"]} == {"clip_1"}
    assert prediction["score"] == 0.6  # the least of 0.97, 0.6, 0.75 and 0.9
    assert prediction["model_version"] == "tiktok-dm propose"
    # 9.5 s and 21.2504 s at 30 fps: frames 286 (from 1) to 637.512 -> 638, the last one included.
    span = [{"start": 286, "end": 638}]
    assert of_clip(prediction["result"], 1) == {
        "clip": {
            "id": "clip_1",
            "from_name": "clip",
            "to_name": "video",
            "type": "timelinelabels",
            "origin": "prediction",
            "value": {"ranges": span, "timelinelabels": ["clip"]},
            "score": 0.6,
            "meta": {"text": ["start: hard cut; end: cross-fade of 0.4 s; song: sounds alone"]},
        },
        "clip_id": number("clip_id", span, 1),
        "song": number("song", span, 7) | {"score": 0.75},
        "dancers": number("dancers", span, 2) | {"score": 0.9},
    }
    assert tasks[1]["annotations"] == []
    assert tasks[1]["predictions"][0]["score"] == 0.4


def number(name: str, span: list[dict], value: int) -> dict:
    value = {"ranges": span, "number": value}
    kinds = {"from_name": name, "to_name": "video", "type": "number", "origin": "prediction", "value": value}
    return {"id": "clip_1", **kinds}


def test_the_labelling_interface_names_what_the_results_name(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    config = ElementTree.fromstring((tmp_path / "out" / "label_config.xml").read_text(encoding="utf-8"))
    controls = {node.get("name"): node for node in config.iter() if node.get("toName")}
    assert {name: node.tag for name, node in controls.items()} == {
        "clip": "TimelineLabels",
        "clip_id": "Number",
        "song": "Number",
        "dancers": "Number",
    }
    assert all(node.get("toName") == "video" for node in controls.values())
    assert [label.get("value") for label in controls["clip"]] == ["clip"]
    assert all(controls[name].get("perRegion") == "true" for name in ("clip_id", "song", "dancers"))
    (video,) = config.iter("Video")
    assert (video.get("name"), video.get("value"), video.get("framerate")) == ("video", "$video", "$fps")
    used = {node.get(key)[1:] for node in config.iter() for key in ("value", "framerate") if "$" in node.get(key, "")}
    assert used <= set(tasks[0]["data"])


def test_label_studios_own_parser_accepts_config_and_tasks(folder, tmp_path):
    sdk = pytest.importorskip("label_studio_sdk.label_interface", reason="label-studio-sdk is not installed")
    interface = sdk.LabelInterface(LABEL_CONFIG)
    interface.validate()
    for task in exported(folder, tmp_path / "out"):
        assert all(interface.validate_annotation(annotation) for annotation in task["annotations"])
        assert [interface.validate_prediction(p, return_errors=True) for p in task["predictions"]] in ([], [[]])


def test_a_folder_without_proposals_is_what_people_wrote(tmp_path):
    folder = write_proposals_folder(tmp_path / "plain", proposals=False)
    tasks = exported(folder, tmp_path / "out")
    assert [len(task["predictions"]) for task in tasks] == [0, 0]
    assert {result["id"] for result in tasks[0]["annotations"][0]["result"]} == {"clip_0", "clip_1", "clip_2"}
    assert not any("score" in result for result in tasks[0]["annotations"][0]["result"])
    assert not (tmp_path / "plain.work").exists()


def test_every_prefix_makes_an_address(folder):
    films, _ = films_of(folder, fps=25)
    assert task_of(films[0], "https://media.example.org/d2m/")["data"]["video"] == (
        "https://media.example.org/d2m/best%20of.mp4"
    )


@pytest.mark.parametrize(
    ("fps", "start_s", "end_s", "span"),
    [
        ("30", 0.0, 9.0, (1, 270)),
        ("30000/1001", 9.009, 18.018, (271, 540)),  # 270 and 540 frames of 1001/30000 s
        ("25", 1.0, 1.01, (26, 26)),  # shorter than a frame: the one it is in
    ],
)
def test_frames_are_counted_from_one_and_the_last_is_included(fps, start_s, end_s, span):
    film = Film(0, "", "a.mp4", "", None, Fraction(fps), (TimedClip(4, 2, start_s, end_s),))
    value = task_of(film)["annotations"][0]["result"][0]["value"]
    assert value["ranges"] == [{"start": span[0], "end": span[1]}]


def test_what_is_left_out_or_missing_is_said(folder, tmp_path):
    done = export_annotations(folder, "label-studio", tmp_path / "out", fps=30)
    assert done.clips == 4
    assert done.notes == ("1 of 5 clips have no start or no end and were left out: 6",)
    before = {path: path.read_bytes() for path in done.files}
    with pytest.raises(UserError, match=r"already holds tasks.json, label_config.xml: .*say --overwrite"):
        export_annotations(folder, "label-studio", tmp_path / "out", fps=25)
    assert {path: path.read_bytes() for path in done.files} == before
    export_annotations(folder, "label-studio", tmp_path / "out", fps=25, overwrite=True)
    assert (tmp_path / "out" / "tasks.json").read_bytes() != before[tmp_path / "out" / "tasks.json"]
    with pytest.raises(UserError, match=r"frame rate of compilation 0, 3 is not known: give --media .*, or --fps"):
        export_annotations(folder, "label-studio", tmp_path / "other")
    with pytest.raises(UserError, match="there is no format 'vgg': give label-studio or elan"):
        export_annotations(folder, "vgg", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_folder_without_times_has_nothing_to_export(folder, tmp_path):
    plain = read_annotations(folder, with_splits=False)
    empty = typed("clips", plain.clips.assign(start_s=pd.NA, end_s=pd.NA))
    write_annotations(replace(plain, clips=empty), tmp_path / "x")
    with pytest.raises(UserError, match=r"no clip of .* has a start and an end, so nothing can be exported"):
        export_annotations(tmp_path / "x", "elan", tmp_path / "out")


# ------------------------------------------------------------------------------------------- home


def test_what_was_not_touched_comes_home_as_it_was(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    told = home(tasks, folder, tmp_path / "home")
    assert (told.changed, told.added, told.removed, told.notes) == ((), (), (), ())
    for name in ("clips.csv", "compilations.csv", "songs.csv", "proposals.csv"):
        assert read_table_of(tmp_path / "home", name).equals(read_table_of(folder, name)), name


def read_table_of(folder: Path, name: str) -> pd.DataFrame:
    found = read_proposals(folder)
    return found.table(name.removesuffix(".csv"))


def test_corrected_times_songs_and_dancers_are_taken_over(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    # As Label Studio hands it back when a person started from the prediction and submitted.
    results = tasks[0]["annotations"][0]["result"] + tasks[0]["predictions"][0]["result"]
    first = of_clip(results, 1)
    for result in first.values():
        result["value"]["ranges"] = [{"start": 289, "end": 638}]  # three frames later: 9.6 s
    first["song"]["value"]["number"] = 12
    first["dancers"]["value"]["number"] = 3
    span = [{"start": 1201, "end": 1320}]
    results.append(
        {
            "id": "xYz",
            "from_name": "clip",
            "to_name": "video",
            "type": "timelinelabels",
            "value": {"ranges": span, "timelinelabels": ["clip"]},
        }
    )
    results.append(number("song", span, 0) | {"id": "xYz"})
    submitted = {"id": 8, "result": results, "parent_prediction": 5, "was_cancelled": False}
    tasks[0] |= {"id": 31, "annotations": [submitted]}
    told = home(tasks, folder, tmp_path / "home")
    assert (told.changed, told.added, told.removed) == ((1,), (7,), ())
    assert told.notes == ("song 12 is new: songs.csv has a line for it without title",)
    made = read_proposals(tmp_path / "home")
    rows = made.clips.set_index("clip_id")
    # The end was not touched: it keeps what 30 frames a second cannot say.
    assert rows.loc[1, ["start_s", "end_s", "song_id", "n_dancers", "released_segments"]].tolist() == [
        9.6,
        21.2504,
        12,
        3,
        5,
    ]
    assert rows.loc[7, ["compilation_id", "song_id", "start_s", "end_s"]].tolist() == [0, 0, 40.0, 44.0]
    assert pd.isna(rows.loc[7, "n_dancers"])
    assert rows.loc[0, "notes"] == "keep me"
    reviews = made.proposals.set_index("clip_id").review
    assert reviews[[0, 1, 2, 7]].tolist() == ["accepted", "mended", "mended", "mended"]
    assert pd.isna(reviews[5])  # of the task that nobody opened


def test_submitted_without_a_change_is_accepted(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    tasks[1]["annotations"] = [{"result": tasks[1]["predictions"][0]["result"], "parent_prediction": 1}]
    told = home(tasks, folder, tmp_path / "home")
    assert told.changed == ()
    made = read_proposals(tmp_path / "home")
    assert made.proposals.set_index("clip_id").review[5] == "accepted"
    assert made.clips.equals(read_proposals(folder).clips)


def test_a_region_that_was_deleted_goes_only_when_told(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    kept = [r for r in tasks[0]["annotations"][0]["result"] if r["id"] == "clip_0"]
    tasks[0] |= {"annotations": [{"result": kept, "parent_prediction": 1}], "predictions": []}
    stays = home(tasks, folder, tmp_path / "stays")
    assert stays.notes == ("clip 1, 2 did not come back and stays as it was: say --drop-missing where it should go",)
    assert read_proposals(tmp_path / "stays").clips.clip_id.tolist() == [0, 1, 2, 5, 6]
    gone = home(tasks, folder, tmp_path / "gone", drop_missing=True)
    assert gone.removed == (1, 2)
    # Clip 6 has no times and was never exported: it stays.
    assert read_proposals(tmp_path / "gone").clips.clip_id.tolist() == [0, 5, 6]


def test_a_stretch_cut_in_two_keeps_its_id_on_the_longer_part(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    whole = tasks[1]["predictions"][0]["result"]
    parts = []
    for name, span in (("left", {"start": 61, "end": 120}), ("right", {"start": 121, "end": 375})):
        for result in whole:
            parts.append({**result, "id": name, "value": {**result["value"], "ranges": [span]}})
    tasks[1]["annotations"] = [{"result": parts, "parent_prediction": 1}]
    told = home(tasks, folder, tmp_path / "home")
    assert (told.changed, told.added) == ((5,), (7,))
    rows = read_proposals(tmp_path / "home").clips.set_index("clip_id")
    assert rows.loc[5, ["start_s", "end_s"]].tolist() == [4.0, 12.5]
    assert rows.loc[7, ["start_s", "end_s", "song_id", "n_dancers"]].tolist() == [2.0, 4.0, 0, 3]


def test_the_newest_annotation_counts_and_skipped_ones_do_not(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    good = tasks[1]["predictions"][0]["result"]
    bad = json.loads(json.dumps(good))
    bad[0]["value"]["ranges"] = [{"start": 1, "end": 30}]
    tasks[1] |= {
        "id": 9,
        "annotations": [
            {"result": bad, "updated_at": "2026-01-01T00:00:00Z", "parent_prediction": 1},
            {"result": good, "updated_at": "2026-02-01T00:00:00Z", "parent_prediction": 1},
            {"result": bad, "updated_at": "2026-03-01T00:00:00Z", "was_cancelled": True},
        ],
    }
    told = home(tasks, folder, tmp_path / "home")
    assert told.changed == ()
    assert told.notes == ("home.json, task 9 has 2 annotations: the newest counts",)


def test_everything_that_cannot_be_taken_over_is_named(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    results = tasks[0]["annotations"][0]["result"]
    of_clip(results, 2)["clip_id"]["value"]["number"] = 5  # of compilation 3
    results.remove(of_clip(results, 0)["clip_id"])
    results.remove(of_clip(results, 0)["song"])
    with pytest.raises(ProblemsError) as caught:
        home(tasks, folder, tmp_path / "home")
    assert [problem.message for problem in caught.value.problems] == [
        "clip 5 belongs to compilation 3, not here",
        "the new clip at 0 s has no song: write its id",
    ]
    assert not (tmp_path / "home").exists()


def test_a_result_that_breaks_a_rule_is_not_written(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    of_clip(tasks[0]["predictions"][0]["result"], 1)["clip"]["value"]["ranges"] = [{"start": 200, "end": 638}]
    with pytest.raises(ProblemsError, match=r"nothing was written:\n.*clips may touch but not overlap"):
        home(tasks, folder, tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON export of Label Studio .* not JSON-MIN"),
        ('[{"data": {}}]', "task 1: its data names no compilation_id of the annotations"),
        ('[{"data": {"compilation_id": 0}}]', "its data has no fps"),
        (
            '[{"id": 4, "data": {"compilation_id": 0, "fps": 30}, "annotations": [{"result": [{"id": "a", "type": '
            '"timelinelabels", "value": {"timelinelabels": ["clip"], "ranges": [{"begin": 3}]}}]}]}]',
            "task 4: is not laid out as expected",
        ),
        ('[{"data": []}]', "task 1: is not laid out as expected"),
        ('[{"data": {"compilation_id": 0, "fps": "1/0"}}]', "task 1: is not laid out as expected"),
        (
            '[{"data": {"compilation_id": 0, "fps": 30}, "annotations": [{"result": ["clip"]}]}]',
            "task 1: is not laid out as expected",
        ),
    ],
)
def test_another_file_is_refused_in_words(folder, tmp_path, text, message):
    (tmp_path / "in.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        import_regions(lambda base: read_label_studio(tmp_path / "in.json", base), folder, tmp_path / "home")


def test_nothing_is_overwritten_unasked(folder, tmp_path):
    tasks = exported(folder, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    of_clip(tasks[1]["predictions"][0]["result"], 5)["dancers"]["value"]["number"] = 4
    file = tmp_path / "in.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    with pytest.raises(UserError, match="already holds annotations: give another folder, or say --overwrite"):
        import_regions(lambda base: read_label_studio(file, base), folder, folder)
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before
    told = import_regions(lambda base: read_label_studio(file, base), folder, folder, overwrite=True)
    assert told.changed == (5,)
    assert read_proposals(folder).clips.set_index("clip_id").n_dancers[5] == 4
    assert (folder / "rejected.csv").read_bytes() == before["rejected.csv"]


def test_the_commands_export_and_import(folder, tmp_path):
    run = CliRunner().invoke
    words = ["annotations", "export", str(folder), "--format", "label-studio", "--fps", "25", "--out"]
    done = run(app, [*words, str(tmp_path / "out"), "--video-prefix", "s3://bucket/", "--json"])
    told = json.loads(done.output)
    assert (told["clips"], told["compilations"]) == (4, 2)
    assert told["notes"] == ["1 of 5 clips have no start or no end and were left out: 6"]
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_text(encoding="utf-8"))
    assert tasks[0]["data"]["video"] == "s3://bucket/best%20of.mp4"
    assert isinstance(run(app, [*words, str(tmp_path / "out")]).exception, UserError)
    file, out = str(tmp_path / "out" / "tasks.json"), str(tmp_path / "home")
    assert "say with --base which annotations" in str(run(app, ["annotations", "import", file, "--out", out]).exception)
    done = run(app, ["annotations", "import", file, "--base", str(folder), "--out", out])
    assert done.output == f"nothing differs from before\nwritten: {out}\n"
    assert read_proposals(out).clips.equals(read_proposals(folder).clips)


_RATES = st.sampled_from([Fraction(24), Fraction(25), Fraction(30), Fraction(30000, 1001), Fraction(60), Fraction(10)])


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.floats(0.3, 20), min_size=1, max_size=8),
    gaps=st.lists(st.floats(0, 5), min_size=8, max_size=8),
    rate=_RATES,
    moved=st.integers(0, 7),
    frames=st.integers(-4, 4),
)
def test_only_what_was_moved_changes_and_by_whole_frames(tmp_path_factory, lengths, gaps, rate, moved, frames):
    clips, now = [], 0.0
    for k, (length, gap) in enumerate(zip(lengths, gaps, strict=False)):
        clips.append(TimedClip(k, k % 3, now + gap, now + gap + length))
        now = clips[-1].end_s
    base, moved = in_memory(clips), moved % len(clips)
    task = task_of(Film(0, "", "a.mp4", "", None, rate, tuple(clips)))
    span = of_clip(task["annotations"][0]["result"], moved)["clip"]["value"]["ranges"][0]
    was = dict(span)
    span["end"] = max(span["start"], span["end"] + frames)
    file = tmp_path_factory.getbasetemp() / "round.json"
    file.write_text(json.dumps([task]), encoding="utf-8")
    regions, notes = read_label_studio(file, base.annotations)
    made, told = apply_regions(base, regions)
    assert notes == []
    assert told.changed == ((moved,) if span != was else ())
    assert (told.added, told.removed, told.notes) == ((), (), ())
    pd.testing.assert_frame_equal(made.clips.drop(index=moved), base.clips.drop(index=moved))
    assert made.clips.start_s[moved] == base.clips.start_s[moved]
    wanted = base.clips.end_s[moved] if span == was else span["end"] / rate
    assert made.clips.end_s[moved] == pytest.approx(float(wanted), abs=1e-6)
