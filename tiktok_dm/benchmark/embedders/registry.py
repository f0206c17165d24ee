"""Embedders by name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tiktok_dm.benchmark.embedders.base import Embedder
from tiktok_dm.errors import UserError
from tiktok_dm.plugins import added, load
from tiktok_dm.schema import nearest_name

EMBEDDERS = ("log-mel", "vggish", "panns", "clap")


def get_embedder(name: str = "log-mel", weights: Path | None = None) -> Embedder:
    """An embedder by its name.

    Args:
        name: one of `EMBEDDERS`, or what another package adds (`plugins`).
        weights: file of its weights (`vggish`, `panns`) or folder of its model (`clap`); none for `log-mel`.

    Raises:
        UserError: no such embedder, weights missing or not of that model, or a package it needs is missing.
    """
    if name not in EMBEDDERS:
        known = (*EMBEDDERS, *added("embedders"))
        if name in known:
            return load("embedders", name)(weights)
        near = nearest_name(name, known)
        hint = f"did you mean {near}?" if near else f"choose one of {', '.join(known)}"
        raise UserError(f"there is no embedder {name!r}: {hint}")
    if name == "log-mel":
        if weights is not None:
            raise UserError("the log-mel embedder has no weights: leave them out, or choose vggish, panns or clap")
        from tiktok_dm.benchmark.embedders.log_mel import LogMelEmbedder

        return LogMelEmbedder()
    if weights is None:
        kind = "folder of its model" if name == "clap" else "file of its public PyTorch weights"
        raise UserError(f"the {name} embedder needs the {kind}, which is not shipped: give its path")
    if not weights.exists():
        raise UserError(
            f"the weights {weights} of the {name} embedder do not exist: give the path of the {name} weights"
        )
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"the {name} embedder needs PyTorch: run pip install 'tiktok-dm[model]'")
    if name == "vggish":
        from tiktok_dm.benchmark.embedders.vggish import VGGishEmbedder

        return VGGishEmbedder(weights)
    if name == "panns":
        from tiktok_dm.benchmark.embedders.panns import PANNsEmbedder

        return PANNsEmbedder(weights)
    from tiktok_dm.benchmark.embedders.clap import CLAPEmbedder

    return CLAPEmbedder(weights)
