"""The register of extractors of visual features: how a build asks for one."""

from __future__ import annotations

from functools import cache

from tiktok_dm.errors import UserError
from tiktok_dm.plugins import added, load
from tiktok_dm.schema import nearest_name
from tiktok_dm.visual.base import Extractor, VisualSource


def get_extractor(name: str, flow: str, size: int, source: VisualSource) -> Extractor:
    """The extractor of that name; one instance a process for the same weights.

    Args:
        name: `i3d`, what another package adds (`plugins`), or the hub id of a video model (`MCG-NJU/videomae-base`).
        flow: of `tiktok_dm.visual.flow.FLOWS`, for extractors that look at optical flow.
        size: px of the square that I3D looks at; hub models have their own.
        source: weights and device.

    Raises:
        UserError: no such extractor or flow (the nearest name is offered), or no weights.
    """
    return _extractor(name, flow, size, source, str(source.state()))


@cache
def _extractor(name: str, flow: str, size: int, source: VisualSource, state: str) -> Extractor:
    if "/" in name:
        from tiktok_dm.visual.video_backbone import VideoBackbone

        return VideoBackbone(name, source)
    if name in added("extractors"):
        return load("extractors", name)(flow, size, source)
    if name != "i3d":
        near = nearest_name(name, ["i3d", *added("extractors")])
        hint = f"did you mean '{near}'?" if near else "give i3d, or a video model's hub id such as facebook/NAME."
        raise UserError(f"There is no extractor of visual features called '{name}': {hint}")
    from tiktok_dm.visual.i3d import TwoStreamI3D

    return TwoStreamI3D(source, flow, size)
