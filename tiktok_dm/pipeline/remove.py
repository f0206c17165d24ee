"""`tiktok-dm remove`: take a source, a clip or a song out of a dataset on request, and keep it out.

A tombstone stays in the dataset, so that no later build of this folder brings the item back. Not for curation: what
does not belong in a dataset from the start is left out of its annotations.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tiktok_dm.dataset.export import export
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic
from tiktok_dm.pipeline.acquire import VERSION
from tiktok_dm.pipeline.lock import dataset_meta, items_from_dataset
from tiktok_dm.pipeline.run import LEDGER, LOCK, PLAN, TOMBSTONES, read_tombstones
from tiktok_dm.runtime.store import Entry, Ledger, Store, canonical_json, content_key

KINDS = ("compilation", "clip", "song")


def remove(out: Path, kind: str, number: int, reason: str) -> list[int]:
    """Take an item out; returns the ids of the clips that went.

    The dataset's files are renewed as a build with that tombstone would make them, and the item's cuts, poses and
    features are deleted from the work folder, if it is there.

    Args:
        kind: `compilation`, `clip` or `song`.

    Raises:
        UserError: no dataset there, no such item in it, no reason given, or nothing would be left.
    """
    if not (out / PLAN).exists() or not (out / LOCK).exists():
        raise UserError(f"{out} holds no finished dataset: give the folder that `tiktok-dm build --out` wrote")
    if not reason.strip():
        raise UserError("give a --reason in a few words: it stays in the dataset as the item's tombstone")
    tombstones = read_tombstones(out)
    if any(t["kind"] == kind and t["id"] == number for t in tombstones):
        raise UserError(f"{kind} {number} was taken out of {out} before: nothing to do")

    rows = [json.loads(line) for line in (out / PLAN).read_text(encoding="utf-8").splitlines()]
    field = {"compilation": "compilation_id", "song": "song_id", "clip": "item"}[kind]
    wanted = f"clip:{number}" if kind == "clip" else number
    hit = [row for row in rows if row.get("item", "").startswith("clip:") and row[field] == wanted]
    if not hit:
        raise UserError(f"{out} has no {kind} {number}: look up the ids in its report or with `tiktok-dm stats {out}`")

    note = f"removed on request: {reason.strip()}"
    for row in hit:
        row["excluded"] = row["excluded"] or note
    lock = json.loads((out / LOCK).read_text(encoding="utf-8"))
    ledger = Ledger.read(out / LEDGER)
    removed = [int(row["item"].split(":")[1]) for row in hit]
    keys: list[dict[str, str]] = []
    for row in hit:
        ledger.set(Entry(row["item"], "plan", "filtered", row["excluded"]))
        found = lock["clips"].pop(row["item"].split(":")[1], None)
        if found is not None:
            keys.append(found["keys"])
    alive = {r["compilation_id"] for r in rows if r.get("item", "").startswith("clip:") and not r["excluded"]}
    for row in rows:
        if row.get("item", "").startswith("compilation:") and int(row["item"].split(":")[1]) not in alive:
            ledger.set(Entry(row["item"], "plan", "filtered", "none of its clips is to be built"))
    used = {str(found["compilation_id"]) for found in lock["clips"].values()}
    lock["sources"] = {key: value for key, value in lock["sources"].items() if key in used}
    if not lock["clips"]:
        raise UserError(f"nothing would be left of {out} without {kind} {number}: delete the folder instead")

    tombstones.append({"kind": kind, "id": number, "reason": reason.strip()})
    plan_lines = "".join(canonical_json(row) + "\n" for row in rows)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        items = items_from_dataset(out, lock, Path(scratch))
        # The tombstone first: stopped after it, the next build of this folder finishes the removal.
        write_atomic(out / TOMBSTONES, "".join(canonical_json(t) + "\n" for t in tombstones))
        write_atomic(out / PLAN, plan_lines)
        ledger.write(out / LEDGER)
        write_atomic(out / LOCK, json.dumps(lock, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        export(items, out, dataset_meta(lock, plan_lines, ledger, tombstones))
    _forget(out.with_name(out.name + ".work"), keys, number if kind == "compilation" else None, rows)
    return removed


def _forget(work: Path, keys: list[dict[str, str]], compilation_id: int | None, rows: list[dict[str, Any]]) -> None:
    """Delete what the work folder still has of removed clips, and a removed compilation's download."""
    if not work.is_dir():
        return
    store = Store(work)
    for of_clip in keys:
        for stage, key in of_clip.items():
            store.drop(stage, key)
    if compilation_id is not None:
        source = next(row["source"] for row in rows if row.get("item") == f"compilation:{compilation_id}")
        height = rows[0]["parameters"]["max_height"]
        store.drop("acquire", content_key("acquire", VERSION, {"max_height": height}, {"url": source}))
    shutil.rmtree(work / "tmp", ignore_errors=True)
    (work / "finished.json").unlink(missing_ok=True)
