"""A report as tables: every rating in a line, or the results in words for a terminal. Not for the plot (`plot`)."""

from __future__ import annotations

import csv
import io

from tiktok_dm.listening.report import Report

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
