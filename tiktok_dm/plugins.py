"""What other packages add to this one: pose estimators, extractors, embedders, codecs, metrics, beat detectors.

A package names what it adds under an entry point group `tiktok_dm.KIND`; it is then found by its name wherever one of
this project's own is. `CONTRIBUTING.md` has a line on each kind, the contracts are docstrings:

| kind | what the entry point is | contract |
|---|---|---|
| `estimators` | called with `Options` or nothing | `tiktok_dm.pose.base.Estimator` |
| `extractors` | called with (flow, size, source) | `tiktok_dm.visual.base.Extractor` |
| `embedders` | called with a path of weights, or None | `tiktok_dm.benchmark.embedders.base.Embedder` |
| `codecs` | called with an argument, or nothing | `tiktok_dm.benchmark.codec_round_trip.CodecRoundTrip` |
| `metrics` | a `ClipMetric` | `tiktok_dm.benchmark.metrics.definitions.ClipMetric` |
| `detectors` | called with (sound (samples,), sample rate) | gives beats in s, ascending, and beats a minute or None |
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from tiktok_dm.errors import UserError

Kind = Literal["estimators", "extractors", "embedders", "codecs", "metrics", "detectors"]


@cache
def added(kind: Kind) -> dict[str, EntryPoint]:
    """What installed packages add of a kind, by name; of two of one name the first that Python finds."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=f"tiktok_dm.{kind}"):
        found.setdefault(point.name, point)
    return dict(sorted(found.items()))


def load(kind: Kind, name: str) -> Any:
    """The object behind a name of `added`.

    Raises:
        UserError: it cannot be imported.
    """
    point = added(kind)[name]
    try:
        return point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{name}, which the package {point.dist.name if point.dist else point.value} adds to {kind}, cannot be "
            f"imported ({error}): install that package again"
        ) from error
