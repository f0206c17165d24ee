"""What the answers say: mean opinion scores, intervals, tests of pairs; as tables and as a plot.

Statistics, and why these:

- A system's mean opinion score is the mean of its ratings by the raters who are kept. Cells have equal votes (to within
  one, before exclusions), so that no item and no rater weighs more for one system than for another.
- Ratings of one rater are alike, and so are ratings of one item: the interval resamples raters *and* items, with
  replacement, and weighs each rating by the product of how often its rater and its item were drawn (the pigeonhole
  bootstrap: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 2007), seeded; 95 % percentiles. It errs on
  the wide side.
- No rater hears two versions of one item, so that systems are paired by item: the Wilcoxon signed-rank test, two-sided,
  on each item's two mean ratings; Holm's correction (1979) over all pairs of systems and hidden reference. The low
  anchor is there to show that the test works, and takes no part in the tests.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.errors import UserError
from tiktok_dm.listening.statistics import cluster_bootstrap, holm, interval, reasons, sessions_of, signed_rank
from tiktok_dm.listening.study import HIGHEST, LOWEST, ConditionKind, Key, Study

DRAWS = 5000
_METHOD = (
    "Means of the ratings by the raters who are kept. Intervals: 95 % percentiles of a two-way cluster (pigeonhole) "
    "bootstrap over raters and items, {draws} draws, seed {seed}. Tests: Wilcoxon signed-rank on the items' mean "
    "ratings, two-sided, corrected after Holm over all pairs of systems and hidden reference."
)


@dataclass(frozen=True)
class Score:
    """A condition's mean opinion score.

    Args:
        name, kind: of the condition.
        votes: ratings that count.
        mean, low, high: score and ends of its 95 % interval; nan without votes.
    """

    name: str
    kind: ConditionKind
    votes: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two conditions compared.

    Args:
        first, second: names.
        items: that both were rated on.
        difference: mean of first less mean of second.
        low, high: its 95 % interval.
        p: of the Wilcoxon signed-rank test on the items' means.
        p_holm: corrected.
    """

    first: str
    second: str
    items: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Report:
    """The results of a study.

    Args:
        protocol: its name.
        raters_begun, raters_finished, raters_kept: numbers of raters; kept ones gave at least one rating.
        votes: all ratings, of excluded raters too.
        fewest_votes, most_votes: over all cells, likewise.
        excluded: reasons by rater.
        rules: of exclusion, in words, as fixed when the study was made.
        scores: best first.
        pairs: of systems and hidden reference.
        method: how all this was computed, in words.
        notes: of the stimuli, and of what is doubtful.
        rows: the long-format table.
    """

    protocol: str
    raters_begun: int
    raters_finished: int
    raters_kept: int
    votes: int
    fewest_votes: int
    most_votes: int
    excluded: dict[str, list[str]]
    rules: list[str]
    scores: list[Score]
    pairs: list[Pair]
    method: str
    notes: list[str]
    rows: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """All but the rows, with None for what is not defined."""
        told = {k: v for k, v in asdict(self).items() if k != "rows"}
        for line in [*told["scores"], *told["pairs"]]:
            for name, value in line.items():
                if isinstance(value, float) and not math.isfinite(value):
                    line[name] = None
        return told


def _item_means(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    gathered: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        gathered[row["system"]][row["item"]].append(row["rating"])
    return {system: {item: float(np.mean(v)) for item, v in of.items()} for system, of in gathered.items()}


def analyse(
    study: Study,
    key: Key,
    raters: Sequence[Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    *,
    draws: int = DRAWS,
    design_changed: bool = False,
) -> Report:
    """The results of a study.

    Args:
        study, key: of it.
        raters, trials: as `Store.everything` gives them.
        draws: of the bootstrap.
        design_changed: say that study.json is not what it was when the first rater came.
    """
    sessions = sessions_of(raters, trials)
    short = {rater["number"]: bool(rater["cut_short"]) for rater in raters}
    excluded: dict[str, list[str]] = {}
    rows: list[dict[str, Any]] = []
    for number, session in sessions.items():
        why = reasons(study, key, session, short[number])
        name = f"r{number:03d}"
        if why:
            excluded[name] = why
        for position, trial in enumerate(sorted(session.ratings, key=lambda t: t["answered_at"]), 1):
            item, condition = divmod(trial["cell"], study.n_conditions)
            rows.append(
                {
                    "rater": name,
                    "item": key.items[item],
                    "system": key.conditions[condition].name,
                    "kind": key.conditions[condition].kind,
                    "position": position,
                    "rating": trial["answer"],
                    "seconds": round(trial["answered_at"] - trial["handed_at"], 3),
                    "plays": trial["plays"],
                    "original_plays": trial["original_plays"],
                    "checks": f"{sum(session.checks)}/{len(session.checks)}",
                    "headphones": f"{sum(session.headphones)}/{len(session.headphones)}",
                    "excluded": int(bool(why)),
                    "reasons": "; ".join(why),
                }
            )
    kept = [row for row in rows if not row["excluded"]]
    scores, pairs = _compare(study, key, kept, draws)
    cells = Counter((row["item"], row["system"]) for row in rows)
    counts = [cells[item, condition.name] for item in key.items for condition in key.conditions]
    notes = list(key.notes)
    if design_changed:
        notes.insert(
            0, "study.json was changed after the first rater came: the rules below are not the ones fixed then"
        )
    return Report(
        protocol=study.protocol.name,
        raters_begun=len(raters),
        raters_finished=sum(rater["ended_at"] is not None for rater in raters),
        raters_kept=len({row["rater"] for row in kept}),
        votes=len(rows),
        fewest_votes=min(counts),
        most_votes=max(counts),
        excluded=excluded,
        rules=study.exclusion.in_words(),
        scores=scores,
        pairs=pairs,
        method=_METHOD.format(draws=draws, seed=study.seed),
        notes=notes,
        rows=rows,
    )


def _compare(study: Study, key: Key, kept: Sequence[Mapping[str, Any]], draws: int) -> tuple[list[Score], list[Pair]]:
    names = [condition.name for condition in key.conditions]
    if not kept:
        return [Score(c.name, c.kind, 0, math.nan, math.nan, math.nan) for c in key.conditions], []
    values = np.array([row["rating"] for row in kept], np.float64)
    conditions = np.array([names.index(row["system"]) for row in kept])
    raters = np.unique([row["rater"] for row in kept], return_inverse=True)[1]
    items = np.array([key.items.index(row["item"]) for row in kept])
    drawn = np.full((draws, len(names)), np.nan)
    some = cluster_bootstrap(values, raters, items, conditions, draws=draws, seed=study.seed)
    drawn[:, : some.shape[1]] = some
    scores = []
    for k, condition in enumerate(key.conditions):
        own = values[conditions == k]
        mean = float(own.mean()) if len(own) else math.nan
        scores.append(Score(condition.name, condition.kind, len(own), mean, *interval(drawn[:, k])))
    by_item = _item_means(kept)
    compared = [k for k, c in enumerate(key.conditions) if c.kind != "anchor" and c.name in by_item]
    compared.sort(key=lambda k: (key.conditions[k].kind == "reference", names[k]))
    raw = []
    for a, b in combinations(compared, 2):
        first, second = by_item[names[a]], by_item[names[b]]
        both = sorted(first.keys() & second.keys())
        p = signed_rank(np.array([first[i] for i in both]), np.array([second[i] for i in both]))
        raw.append((a, b, len(both), p))
    pairs = [
        Pair(
            names[a],
            names[b],
            n,
            scores[a].mean - scores[b].mean,
            *interval(drawn[:, a] - drawn[:, b]),
            p,
            corrected,
        )
        for (a, b, n, p), corrected in zip(raw, holm([line[3] for line in raw]), strict=True)
    ]
    scores.sort(key=lambda score: (math.isnan(score.mean), -score.mean, score.name))
    return scores, pairs


COLUMNS = (
    "rater",
    "item",
    "system",
    "kind",
    "position",
    "rating",
    "seconds",
    "plays",
    "original_plays",
    "checks",
    "headphones",
    "excluded",
    "reasons",
)
"""Of the long-format table: one row a rating. `position` counts a rater's ratings from 1, `seconds` are from the clip's
handing out to the answer, `checks` and `headphones` are right answers of all (`2/2`)."""


def long_table(report: Report) -> str:
    """The long-format table as CSV (RFC 4180 with plain line ends)."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(report.rows)
    return text.getvalue()


def in_words(report: Report) -> str:
    """The results as a table for a terminal."""
    lines = [
        f"{report.protocol}: {report.raters_finished} raters finished, {report.raters_begun} began, "
        f"{report.raters_kept} kept; {report.votes} votes, {report.fewest_votes} to {report.most_votes} a cell",
        "",
        f"{'system':<24} {'MOS':>5}  {'95 % interval':<14} votes",
    ]
    for score in report.scores:
        name = score.name if score.kind == "system" else f"({score.name})"
        if score.votes:
            lines.append(f"{name:<24} {score.mean:5.2f}  {score.low:5.2f} - {score.high:4.2f}   {score.votes:5d}")
        else:
            lines.append(f"{name:<24}     -  -                  0")
    if report.pairs:
        lines += ["", f"{'pair':<32} {'diff':>6}  {'95 % interval':<16} {'p':>7} {'p Holm':>7}"]
        for pair in report.pairs:
            name = f"{pair.first} - {pair.second}"
            lines.append(
                f"{name:<32} {pair.difference:+6.2f}  {pair.low:+5.2f} to {pair.high:+5.2f}   {pair.p:7.4f} "
                f"{pair.p_holm:7.4f}"
            )
    lines += ["", "Left out: " + ("nobody" if not report.excluded else "")]
    lines += [f"  {name}: {'; '.join(why)}" for name, why in report.excluded.items()]
    lines += ["Rules of exclusion, fixed when the study was made: a rater who", *(f"  - {r}" for r in report.rules)]
    lines += [*(f"Note: {note}" for note in report.notes), "", report.method]
    return "\n".join(lines)


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
