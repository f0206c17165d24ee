"""The register of pose estimators: how one is asked for by name and options, and what may be published of that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

from tiktok_dm.errors import UserError
from tiktok_dm.plugins import added, load
from tiktok_dm.pose.base import Estimator, Options
from tiktok_dm.schema import nearest_name

# Facts of a machine: they change no joint by more than rounding, and what they point to is identified by its checksum.
_OF_THE_MACHINE = ("weights", "detector", "device", "batch", "models")


def parse_request(request: str) -> tuple[str, Options]:
    """`NAME` or `NAME:key=value,key=value` -> name and options. A value can hold no comma.

    Raises:
        UserError: not of that form, no such option, or a value that it can't have.
    """
    name, _, rest = request.partition(":")
    known = {field.name: field for field in fields(Options)}
    chosen: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = (text.strip() for text in part.partition("="))
        if key not in known:
            near = nearest_name(key, known)
            hint = f"did you mean '{near}'?" if near else f"choose from: {', '.join(known)}."
            raise UserError(f"A pose estimator has no option '{key}': {hint}")
        if key in chosen or not equals or not value:
            raise UserError(f"The pose estimator's option '{key}' needs one value: write {key}=VALUE, once.")
        if key in ("flip", "half"):
            if value not in ("yes", "no"):
                raise UserError(f"The pose estimator's option {key}={value} must be yes or no.")
            chosen[key] = value == "yes"
        elif key == "batch":
            if not value.isdecimal() or not 1 <= int(value) <= 4096:
                raise UserError(f"The pose estimator's option batch={value} must be a whole number from 1 to 4096.")
            chosen[key] = int(value)
        else:
            chosen[key] = value
    return name, Options(**chosen)


def portable_request(request: str) -> str:
    """A request without what is true of one machine only: what a published dataset may say of how it was made.

    Weights and detector are left out too: they are identified by `Estimator.weights_sha256`.
    """
    name, _, rest = request.partition(":")
    kept = [part for part in rest.split(",") if part and part.partition("=")[0].strip() not in _OF_THE_MACHINE]
    return ":".join([name, ",".join(kept)]) if kept else name


def _mediapipe(options: Options = Options()) -> Estimator:
    from tiktok_dm.pose.mediapipe import BlazePose

    return BlazePose(options)


def _mmpose(options: Options = Options()) -> Estimator:
    from tiktok_dm.pose.install_mmpose import check

    check("mmpose")
    from tiktok_dm.pose.mmpose import RTMPose

    return RTMPose(options)


def _vitpose(options: Options = Options()) -> Estimator:
    from tiktok_dm.pose.install_mmpose import check

    check("vitpose")
    from tiktok_dm.pose.vitpose import ViTPose

    return ViTPose(options)


ESTIMATORS: dict[str, Callable[..., Estimator]] = {"mediapipe": _mediapipe, "mmpose": _mmpose, "vitpose": _vitpose}
"""Name -> maker. A maker imports what it needs itself, so that asking for one estimator never loads another. It is
called with `Options` where the request has any, and with nothing otherwise. Other packages add theirs:
see `plugins`."""

_OF_NETWORKS = frozenset({"model", "weights", "detector", "flip", "half", "device", "batch"})
_OPTIONS = {"mediapipe": frozenset({"models"}), "mmpose": _OF_NETWORKS, "vitpose": _OF_NETWORKS}


@cache
def get_estimator(name: str) -> Estimator:
    """The estimator of that name; one instance a process, since loading a model costs time and memory.

    Args:
        name: as in `ESTIMATORS`, and options if wanted: see `Options`.

    Raises:
        UserError: no such estimator (the nearest name is offered), no such option, or its models are not installed.
    """
    short, options = parse_request(name)
    known = {*ESTIMATORS, *added("estimators")}
    if short not in known:
        near = nearest_name(short, known)
        hint = f"did you mean '{near}'?" if near else f"choose one of: {', '.join(sorted(known))}."
        raise UserError(f"There is no pose estimator called '{short}': {hint}")
    make = ESTIMATORS.get(short) or load("estimators", short)
    if options == Options():
        return make()
    if short not in ESTIMATORS:
        return make(options)
    taken = _OPTIONS.get(short, frozenset())
    unknown = [f.name for f in fields(Options) if getattr(options, f.name) != f.default and f.name not in taken]
    if unknown:
        may = f"it takes {', '.join(sorted(taken))}" if taken else f"ask for it as '{short}'"
        raise UserError(f"The pose estimator {short} has no option '{unknown[0]}': {may}.")
    return make(options)
