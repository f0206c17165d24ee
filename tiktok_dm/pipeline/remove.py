"""`tiktok-dm remove`: take a source, a clip or a song out of a dataset on request, and keep it out.

A tombstone stays in the dataset, so that no later build of this folder brings the item back. All of the dataset
changes in one step, and what the work folder has of the item is deleted before: killed at any moment, the dataset is
the old one or the new one, and the same command finishes. Not for curation: what does not belong in a dataset from the
start is left out of its annotations.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tiktok_dm.dataset.export import LEDGER, LOCK, PLAN, export, read_tombstones
from tiktok_dm.dataset.verify import tombstone_findings
from tiktok_dm.errors import UserError
from tiktok_dm.pipeline.acquire import VERSION
from tiktok_dm.pipeline.lock import dataset_meta, dataset_texts, items_from_dataset
from tiktok_dm.runtime.publish import locked, scratch
from tiktok_dm.runtime.store import Entry, Ledger, Store, canonical_json, content_key

KINDS = ("compilation", "clip", "song")


def remove(out: Path, kind: str, number: int, reason: str) -> list[int]:
    """Take an item out; returns the ids of the clips that went.

    The dataset is published anew as a build with that tombstone would make it. Of the work folder, if it is there, only
    what the remaining clips are made of stays.

    Args:
        kind: `compilation`, `clip` or `song`.

    Raises:
        UserError: no dataset there, no such item in it, no reason given, nothing would be left, or another program is
            writing it.
    """
    if not reason.strip():
        raise UserError("give a --reason in a few words: it stays in the dataset as the item's tombstone")
    if not out.parent.is_dir():
        raise UserError(f"{out} holds no finished dataset: give the folder that `tiktok-dm build --out` wrote")
    with locked(out):
        return _remove(out, kind, number, reason.strip())


def _remove(out: Path, kind: str, number: int, reason: str) -> list[int]:
    if not (out / PLAN).exists() or not (out / LOCK).exists():
        raise UserError(f"{out} holds no finished dataset: give the folder that `tiktok-dm build --out` wrote")
    tombstones = read_tombstones(out)
    known = any(t["kind"] == kind and t["id"] == number for t in tombstones)
    if known and not tombstone_findings(out):
        raise UserError(f"{kind} {number} was taken out of {out} before: nothing to do")
    head, *rows = [json.loads(line) for line in (out / PLAN).read_text(encoding="utf-8").splitlines()]
    field = {"compilation": "compilation_id", "song": "song_id", "clip": "item"}[kind]
    wanted = f"clip:{number}" if kind == "clip" else number
    clips = [row for row in rows if row["item"].startswith("clip:")]
    hit = [row for row in clips if row[field] == wanted]
    if not hit:
        raise UserError(f"{out} has no {kind} {number}: look up the ids in its report or with `tiktok-dm stats {out}`")
    if not known:
        tombstones.append({"kind": kind, "id": number, "reason": reason})

    lock = json.loads((out / LOCK).read_text(encoding="utf-8"))
    ledger = Ledger.read(out / LEDGER)
    for row in hit:
        row["excluded"] = row["excluded"] or f"removed on request: {reason}"
        ledger.set(Entry(row["item"], "plan", "filtered", row["excluded"]))
        lock["clips"].pop(_number(row), None)
    alive = {row["compilation_id"] for row in clips if not row["excluded"]}
    for row in rows:
        if row["item"].startswith("compilation:") and int(_number(row)) not in alive:
            ledger.set(Entry(row["item"], "plan", "filtered", "none of its clips is to be built"))
    used = {str(found["compilation_id"]) for found in lock["clips"].values()}
    lock["sources"] = {key: value for key, value in lock["sources"].items() if key in used}
    if not lock["clips"]:
        raise UserError(f"nothing would be left of {out} without {kind} {number}: delete the folder instead")

    plan_lines = "".join(canonical_json(row) + "\n" for row in (head, *rows))
    gone = [row for row in rows if row["item"].startswith("compilation:") and int(_number(row)) not in alive]
    _forget(out.with_name(out.name + ".work"), lock["clips"].values(), gone, head["parameters"]["max_height"])
    with scratch(out) as folder:
        items = items_from_dataset(out, lock, folder)
        meta = dataset_meta(lock, plan_lines, ledger, tombstones)
        export(items, out, meta, files=dataset_texts(plan_lines, lock, ledger, tombstones))
    return [int(_number(row)) for row in hit]


def _number(row: Mapping[str, Any]) -> str:
    return str(row["item"].split(":")[1])


def _forget(work: Path, left: Iterable[Mapping[str, Any]], sources: Iterable[Mapping[str, Any]], height: int) -> None:
    """Keep of the work folder's outputs only what the clips `left` are made of, and drop the downloads of `sources`.

    A removed clip's outputs may lie there under keys of earlier parameters too, which nothing names any more.
    """
    if not work.is_dir():
        return
    (work / "finished.json").unlink(missing_ok=True)
    store = Store(work)
    keys = {(stage, key) for found in left for stage, key in found["keys"].items()}
    for stage in ("segment", "poses", "music", "visual"):
        for key in store.keys(stage):
            if (stage, key) not in keys:
                store.drop(stage, key)
    for source in sources:
        store.drop("acquire", content_key("acquire", VERSION, {"max_height": height}, {"url": source["source"]}))
    shutil.rmtree(work / "tmp", ignore_errors=True)
