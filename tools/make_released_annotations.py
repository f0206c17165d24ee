"""Make `annotations/tiktok_dm/*.csv` and `splits/tiktok_dm.csv` from the facts of the published segment lists.

    python tools/make_released_annotations.py FACTS.csv [--root FOLDER]

FACTS.csv has one row a clip: `video_id,compilation_id,song_id,split,n_segments_2s`, counted from the authors' released
lists of 2-s segments. What it does not hold (links, times, dancers, titles) stays empty. `README.md` and `dataset.yaml`
of the folder are written by hand and left as they are.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from tiktok_dm.annotations.splits import audit_splits
from tiktok_dm.annotations.tables import Annotations, DatasetMeta, songs_of, typed, write_annotations, write_splits
from tiktok_dm.errors import UserError

FACTS = ["video_id", "compilation_id", "song_id", "split", "n_segments_2s"]


def make(facts: Path, root: Path) -> None:
    """Write the annotation tables and the splits below `root`."""
    if not facts.is_file():
        raise UserError(f"{facts} is missing: give the CSV file of the released clips.")
    table = pd.read_csv(facts)
    if list(table.columns) != FACTS:
        raise UserError(f"{facts} has the columns {', '.join(table.columns)}: it should have {', '.join(FACTS)}.")
    table = table.rename(columns={"video_id": "clip_id", "n_segments_2s": "released_segments"}).sort_values("clip_id")
    clips = typed("clips", table.drop(columns="split"))
    compilations = typed("compilations", pd.DataFrame({"compilation_id": sorted(clips.compilation_id.unique())}))
    splits = table[["song_id", "split"]].drop_duplicates()
    if errors := [finding for finding in audit_splits(clips, splits) if finding.severity == "error"]:
        raise UserError(f"{facts} has splits that leak: {errors[0].message}.")
    annotations = Annotations("tiktok_dm", root, DatasetMeta(), compilations, clips, songs_of(clips))
    write_annotations(annotations, root / "annotations" / "tiktok_dm")
    write_splits(typed("splits", splits), root / "splits" / "tiktok_dm.csv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", type=Path)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1], help="the repository")
    options = parser.parse_args()
    try:
        make(options.facts, options.root)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
