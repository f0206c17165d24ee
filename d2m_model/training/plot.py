"""Every loss of a run against steps, like the appendix's Figure 1. Not for metrics of the music."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from d2m_model.training.losses import WEIGHTS, validation_weights
from d2m_model.training.run_folder import LOSSES_FILE, TRAINING_FILE, read_losses, read_training
from tiktok_dm.errors import UserError

_TITLES = {
    "discriminator": "discriminator (hinge)",
    "hinge": "adversarial (hinge)",
    "feature_matching": "feature matching",
    "latent": "latent L1",
    "commitment": "code-book commitment L1",
    "waveform": "waveform L1",
    "mel": "log-mel L1",
    "total": "weighted total of the L1 terms",
}


def plot(run: Path, out: Path) -> Path:
    """Draw a run's losses.

    One panel a loss: training thin with a running mean on top, validation as points, and the level of the true audio
    through the codec, which is what a perfect prediction of the latent gets, as a dashed line. The total of each is
    that of the same terms, the ones that validation has: no adversarial ones.

    Args:
        run: a folder of `d2m train`.
        out: picture to write (png, svg or pdf by its name).

    Raises:
        UserError: no run there, a run without losses yet, or a picture that cannot be written.
    """
    from matplotlib.figure import Figure

    rows = read_losses(run / LOSSES_FILE)
    facts = read_training(run / "last") if (run / "last" / TRAINING_FILE).is_file() else {}
    weights = validation_weights(facts.get("config", {}).get("losses", {}))
    levels: dict[str, float] = dict(facts.get("codec_level", {}))
    for values in (*rows, levels):
        values.pop("total", None)
        if facts and weights.keys() <= values.keys():
            values["total"] = sum(weight * values[name] for name, weight in weights.items())
    names = [
        name
        for name in ("discriminator", *WEIGHTS, "total")
        if any(name in row or f"validation/{name}" in row for row in rows)
    ]
    if not names:
        raise UserError(f"{run} holds no losses yet; plot it after its first logged steps.")
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        _panel(axis, name, rows, levels.get(name))
    for axis in axes[len(names) :]:
        axis.set_visible(False)
    for axis in axes[max(0, len(names) - columns) : len(names)]:
        axis.set_xlabel("step")
    handles: dict[str, Any] = {}
    for axis in axes[: len(names)]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, fontsize=9, frameon=False)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise UserError(f"The plot cannot be written to {out}: {error}.") from error
    return out


def _panel(axis: Any, name: str, rows: list[dict[str, float]], level: float | None) -> None:
    steps, values = _series(rows, name)
    if len(values):
        axis.plot(steps, values, color="tab:blue", alpha=0.35, linewidth=0.8)
        axis.plot(steps, running_mean(values), color="tab:blue", linewidth=1.6, label="training")
    held_steps, held = _series(rows, f"validation/{name}")
    if len(held):
        axis.plot(held_steps, held, color="tab:orange", marker="o", markersize=3, linewidth=1, label="validation")
    if level is not None:
        axis.axhline(level, color="black", linestyle="--", linewidth=1, label="true audio through the codec")
    # The first steps are far off and would press all others onto one line.
    settled = [*values[len(values) // 20 :], *held, *([] if level is None else [level])]
    low, high = min(settled), max(settled)
    margin = 0.05 * (high - low) or 1.0
    axis.set_ylim(low - margin, high + margin)
    axis.set_title(_TITLES.get(name, name), fontsize=10)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)


def _series(rows: list[dict[str, float]], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["step"], row[name]) for row in rows if name in row]
    return np.array([step for step, _ in pairs]), np.array([value for _, value in pairs])


def running_mean(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Centred mean over about `share` of the series, shorter at its ends, same length."""
    half = int(len(values) * share / 2)
    sums = np.concatenate(([0.0], np.cumsum(values)))
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)
