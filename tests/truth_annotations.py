"""Annotations made from the truth files of the real compilations, for tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

NAMES = ("compilation_a", "compilation_b")


def read_truth(shared_data: Path) -> list[dict[str, Any]]:
    """The truth of each compilation, in the order of `NAMES`."""
    folder = shared_data / "compilations"
    return [json.loads((folder / f"{name}.truth.json").read_text(encoding="utf-8")) for name in NAMES]


def song_ids(truth: list[dict[str, Any]]) -> dict[str, int]:
    """Slug to song id: the slugs in alphabetical order."""
    return {slug: i for i, slug in enumerate(sorted({clip["song"] for film in truth for clip in film["clips"]}))}


def write_annotations(shared_data: Path, out: Path) -> list[dict[str, Any]]:
    """Write annotations of all compilations; returns the clips with `clip_id`, `compilation_id`, `song_id` added."""
    truth = read_truth(shared_data)
    songs = song_ids(truth)
    out.mkdir(parents=True)
    _table(
        out / "compilations.csv",
        ["compilation_id", "title", "url", "file", "license", "sha256"],
        [[i, film["file"], "", film["file"], "", ""] for i, film in enumerate(truth)],
    )
    _table(out / "songs.csv", ["song_id", "title", "artist"], [[i, slug, ""] for slug, i in songs.items()])
    clips = []
    for i, film in enumerate(truth):
        for clip in film["clips"]:
            known = {"clip_id": len(clips), "compilation_id": i, "song_id": songs[clip["song"]], "fps": film["fps"]}
            clips.append(clip | known | {"size": film["size"]})
    columns = ["clip_id", "compilation_id", "song_id", "start_s", "end_s", "n_dancers"]
    _table(out / "clips.csv", columns, [[clip[name] for name in columns] for clip in clips])
    return clips


def _table(path: Path, columns: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
