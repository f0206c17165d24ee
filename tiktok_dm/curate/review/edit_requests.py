"""What the page posts, checked and turned into the edit that it asks for.

Not for making the edit (`edits`) or saving it (`sitting`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tiktok_dm.curate.proposals import Proposals
from tiktok_dm.curate.review import edits
from tiktok_dm.curate.review.assets import Assets
from tiktok_dm.curate.review.draft import Edit, Refused
from tiktok_dm.curate.review.frame_times import FrameTimes
from tiktok_dm.curate.review.ids import Ids
from tiktok_dm.errors import UserError


class Malformed(Exception):
    """A request that the page never makes."""


def _whole(body: Mapping[str, Any], name: str, low: int = 0) -> int:
    value = body.get(name)
    if type(value) is not int or not low <= value <= 999_999_999:
        raise Malformed(name)
    return value


def _one_of(body: Mapping[str, Any], name: str, *known: str) -> str:
    value = body.get(name)
    if value not in known:
        raise Malformed(name)
    return str(value)


def _number(body: Mapping[str, Any], name: str) -> float:
    value = body.get(name)
    if type(value) not in (int, float):
        raise Malformed(name)
    return float(value)  # type: ignore[arg-type]


def edit_asked(body: Mapping[str, Any], assets: Assets) -> Callable[[Proposals, Ids], Edit]:
    """The edit that a request asks for.

    Raises:
        Malformed: it asks for none.
    """
    action = body.get("action")
    if action == "restore":
        return _restore(body, assets)
    if action == "answer":
        pair = _whole(body, "a"), _whole(body, "b")
        answer, move = _one_of(body, "answer", "same", "different"), body.get("move")
        if move is not None and not (isinstance(move, list) and all(type(k) is int for k in move)):
            raise Malformed("move")
        return lambda p, ids: edits.answer_pair(p, *pair, answer, ids, move)
    clip = _whole(body, "clip")

    def frames(p: Proposals) -> FrameTimes:
        found = p.clips.compilation_id[p.clips.clip_id == clip]
        if not len(found):
            raise Refused(f"There is no clip {clip} any more: choose one of the list")
        try:
            return assets.frame_times(int(found.iloc[0]))
        except UserError as error:
            raise Refused(str(error)) from error

    if action in ("move", "nudge"):
        edge, alone = _one_of(body, "edge", "start", "end"), bool(body.get("alone"))
        if action == "move":
            index = _whole(body, "frame")
            return lambda p, ids: edits.move(p, clip, edge, index, frames(p), alone=alone)
        by = _whole(body, "by", -1000)
        return lambda p, ids: edits.nudge(p, clip, edge, by, frames(p), alone=alone)
    if action == "cut":
        at = _whole(body, "frame")
        return lambda p, ids: edits.cut(p, clip, at, frames(p), ids)
    if action == "merge":
        other = _whole(body, "other")
        return lambda p, ids: edits.merge(p, clip, other)
    if action == "song":
        song = None if body.get("song") is None else _whole(body, "song")
        return lambda p, ids: edits.set_song(p, clip, song, ids)
    if action == "dancers":
        n = _whole(body, "n")
        return lambda p, ids: edits.set_dancers(p, clip, n)
    if action == "accept":
        return lambda p, ids: edits.accept(p, clip)
    if action == "reject":
        return lambda p, ids: edits.reject(p, clip)
    raise Malformed("action")


def _restore(body: Mapping[str, Any], assets: Assets) -> Callable[[Proposals, Ids], Edit]:
    compilation, start, end = _whole(body, "compilation"), _number(body, "start"), _number(body, "end")

    def change(p: Proposals, ids: Ids) -> Edit:
        try:
            frames = assets.frame_times(compilation)
        except UserError:
            frames = None
        return edits.restore(p, compilation, start, end, ids, frames)

    return change
