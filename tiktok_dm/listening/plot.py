"""A report as a picture: mean opinion scores with their intervals. Not for tables (`tables`)."""

from __future__ import annotations

import os
from pathlib import Path

from tiktok_dm.errors import UserError
from tiktok_dm.listening.report import Report
from tiktok_dm.listening.study import HIGHEST, LOWEST, Study


def plot(report: Report, study: Study, out: Path) -> None:
    """Mean opinion scores with their intervals, as a picture in the format that the file's name says.

    Raises:
        UserError: nothing to draw, no matplotlib, or a format that it does not write.
    """
    scores = [score for score in report.scores if score.votes]
    if not scores:
        raise UserError("no rating counts so far: there is nothing to plot")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise UserError("the plot needs matplotlib: run pip install matplotlib") from error
    figure = Figure(figsize=(7.5, 1.5 + 0.46 * len(scores)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for y, score in enumerate(reversed(scores)):
        colour = "#0d6e6e" if score.kind == "system" else "#8a857b"
        axes.plot([score.low, score.high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt", zorder=2)
        axes.plot(
            score.mean, y, "o" if score.kind == "system" else "D", color=colour, markersize=7.5, zorder=3, clip_on=False
        )
        axes.text(HIGHEST + 0.12, y, f"{score.mean:.2f}", va="center", ha="left", fontsize=10, color="#1d1c1a")
    labels = [s.name if s.kind == "system" else f"{s.name} (hidden)" if s.kind == "reference" else f"{s.name} (low)"
              for s in reversed(scores)]  # fmt: skip
    axes.set_yticks(range(len(scores)), labels)
    for text, score in zip(axes.get_yticklabels(), reversed(scores), strict=True):
        text.set_color("#1d1c1a" if score.kind == "system" else "#6b675f")
    axes.set_ylim(-0.6, len(scores) - 0.4)
    axes.set_xlim(LOWEST, HIGHEST)
    axes.set_xticks(
        range(LOWEST, HIGHEST + 1), [f"{k + LOWEST}\n{label}" for k, label in enumerate(study.protocol.labels)]
    )
    axes.grid(axis="x", color="#e3dfd7", linewidth=0.9, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(
        f"{study.protocol.title}: mean opinion score and 95 % interval\n", loc="left", fontsize=11.5, fontweight="bold"
    )
    axes.text(
        0,
        1.02,
        f"{report.raters_kept} raters, {sum(s.votes for s in scores)} ratings; clustered by rater and item",
        transform=axes.transAxes,
        fontsize=9,
        color="#6b675f",
    )
    partial = out.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        figure.savefig(partial, dpi=160)
        os.replace(partial, out)
    except ValueError as error:
        raise UserError(
            f"a plot cannot be written as {out.suffix or 'a file without ending'}: name a .png or .svg"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
