"""Which ids are still free: a clip or song that is gone keeps its id for good.

Tables alone don't tell: a merged clip is in none of them, so that a review writes down which ids it gave away. Not for
what the ids mean.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tiktok_dm.curate.proposals import Proposals, work_folder

RETIRED = re.compile(r"was clip (\d+) with song (\d+)(?: and (\d) dancers?)?")
"""In the reason of a stretch that a person rejected: clip, song and dancers of the clip that it was."""


@dataclass(frozen=True)
class Ids:
    """The least ids that are still free, whatever the tables say: ids of merged and rejected clips are not in them."""

    clip: int = 0
    song: int = 0


def kept_ids(folder: Path | str) -> Ids:
    """The ids that the reviews of a folder have given away, merged clips' too; none where it was never reviewed."""
    try:
        return Ids(**json.loads((work_folder(folder) / "review" / "ids.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Ids()


def next_ids(proposals: Proposals, least: Ids | None = None) -> Ids:
    """The next free ids: above all in the tables, all that rejected stretches speak of, and `least`."""
    clips = [*map(int, proposals.clips.clip_id), *map(int, proposals.rejected.clip_id.dropna())]
    songs = [*map(int, proposals.clips.song_id), *map(int, proposals.annotations.songs.song_id)]
    for reason in proposals.rejected.reason.dropna():
        if found := RETIRED.search(reason):
            clips.append(int(found[1]))
            songs.append(int(found[2]))
    least = least or Ids()
    return Ids(max([least.clip, *(k + 1 for k in clips)]), max([least.song, *(k + 1 for k in songs)]))
