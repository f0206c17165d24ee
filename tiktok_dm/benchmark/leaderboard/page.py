"""The leaderboard as one page that opens offline, with published numbers apart as "not comparable".

They stand beside the leaderboard in a section of their own and are not comparable with it: other data, other code, no
intervals, and one name for two metrics. What was looked for and not found has no row: D2M-GAN's own scores on the
TikTok Dance-Music dataset, its genre accuracy, and its mean opinion scores.

The page is in `templates/leaderboard.html.j2`, with its style and its script inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARNING = "not comparable"


@dataclass(frozen=True)
class PublishedScore:
    """One system's scores in one table.

    Args:
        system: its name.
        scores: by column of its table, per cent.
        source: where the numbers were read.
        remark: what to bear in mind; `` for nothing.
    """

    system: str
    scores: tuple[float, ...]
    source: str
    remark: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """Scores on one benchmark by one definition.

    Args:
        title: the benchmark.
        columns: name here of each metric.
        meaning: what was measured, on what.
        rows: in the order of their source.
    """

    title: str
    columns: tuple[str, ...]
    meaning: str
    rows: tuple[PublishedScore, ...]


_UNIMUMO = "UniMuMo's Table 2 (arXiv 2410.04534), as transcribed in a public results file: look it up before citing"

PUBLISHED = (
    PublishedTable(
        "AIST++",
        ("beat_coverage_d2m", "beat_hit_d2m"),
        "86 test segments of 2 s; coverage is a count ratio; per cent",
        (
            PublishedScore("Ground truth", (100.0, 100.0), _UNIMUMO),
            PublishedScore("Dance2Music", (83.5, 82.4), _UNIMUMO),
            PublishedScore("Foley Music", (74.1, 69.4), _UNIMUMO),
            PublishedScore("CMT", (85.5, 83.5), _UNIMUMO),
            PublishedScore("D2M-GAN", (88.2, 84.7), _UNIMUMO),
            PublishedScore("CDCD", (93.9, 90.7), _UNIMUMO),
            PublishedScore("UniMuMo", (93.0, 88.4), _UNIMUMO),
            PublishedScore(
                "UniMuMo, run again",
                (84.3, 80.8),
                "the same public results file",
                "an independent re-run of its released weights",
            ),
        ),
    ),
    PublishedTable(
        "TikTok Dance-Music",
        ("beat_precision_loris", "beat_recall_loris", "f1_loris"),
        "the precision and recall that LORIS prints under the names of coverage and hit; per cent",
        (
            PublishedScore(
                "LORIS", (88.83, 82.66, 85.71), "a second-hand note, not to be cited; the paper is arXiv 2305.01319"
            ),
            PublishedScore("PN-Diffusion", (92.68, 88.56, 90.56), "a second-hand note, not to be cited"),
            PublishedScore(
                "GACA-DiT",
                (91.55, 91.73, 91.21),
                "a second-hand note, not to be cited; the paper is arXiv 2510.26818",
                "its F1 does not follow from its own precision and recall",
            ),
        ),
    ),
)

HEADLINE = ("beat_f_70ms", "beat_amlt", "beat_align_motion_aistpp", "kad", "training_copied")
"""Of the first table: a beat, a metre, the dance, the sound, and what was copied."""
LINES = ("truth", "chance")
"""Levels that are drawn on every scale: the true music, and music of other dances."""
_TEMPLATES = Path(__file__).parent / "templates"
_MARKDOWN = {ord(c): "\\" + c for c in "\\`*_{}[]<>#|!~"} | {ord("\n"): " ", ord("\r"): " ", ord("&"): "&amp;"}

ABOUT = {
    "published": "The field's own scores, for comparison with papers. They saturate, and a metronome wins them: never "
    "read them alone.",
    "tracked": "Where beats fall, within 70 ms. A tracker finds beats in any steady pulse, so these say nothing of "
    "whether there is music.",
    "dance": "How near the dancers' own beats are to the music's. The shuffled level is chance.",
    "memorisation": "Whether the music was heard before: the training split is searched for it.",
    "distributions": "How far all generated music together lies from the reference music, in an embedding.",
    "genre": "Whether a classifier hears the same genre.",
}
"""By the first word of a group of metrics."""


@dataclass(frozen=True)
class Cell:
    """A score as it is drawn.

    Args:
        text: the number, or a dash.
        interval: its limits in words; `` where there is none.
        sort: the number for sorting; `` where there is none.
        dot: place of the value on the column's scale, per cent; None where there is none.
        left, width: place of the interval, per cent; None where there is none.
        more: what else there is to say.
    """

    text: str
    interval: str
    sort: str
    dot: float | None
    left: float | None
    width: float | None
    more: str


def number(value: float | None) -> str:
    """Three decimals below 10, one above; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def scale(scores: Iterable[Mapping[str, Any]]) -> tuple[float, float]:
    """The range of a column: from 0 (or a least value below it) to 1, or to the greatest value where that is more."""
    ends = [one[part] for one in scores for part in ("value", "low", "high") if one[part] is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    return (-_round_up(-low) if low < 0 else 0.0), (1.0 if high <= 1 else _round_up(high))


def _round_up(value: float) -> float:
    """The next of 1, 1.5, 2, 3, 5 and 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 8, 10) if step * power >= value * (1 - 1e-9))


def place(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies on a scale, per cent of its length."""
    return round(100 * (min(max(value, ends[0]), ends[1]) - ends[0]) / (ends[1] - ends[0]), 2)


def cell(score: Mapping[str, Any] | None, ends: tuple[float, float], seeds: int = 1) -> Cell:
    """A score on its column's scale."""
    if score is None or score["value"] is None:
        return Cell("–", "", "", None, None, None, "")

    low, high = score["low"], score["high"]
    drawn = low is not None and high is not None
    more = f"± {number(score['seed_sd'])} over {seeds} seeds" if score.get("seed_sd") is not None else ""
    return Cell(
        number(score["value"]),
        f"{number(low)} to {number(high)}" if drawn else "",
        repr(score["value"]),
        place(score["value"], ends),
        place(low, ends) if drawn else None,
        round(place(high, ends) - place(low, ends), 2) if drawn else None,
        more,
    )


def rank(row: Mapping[str, Any]) -> str:
    """Where a row stands: `2` or `2–4`; a dash for what passes no gate."""
    ranks = row["verdict"]["ranks"]
    if ranks is None:
        return "–"
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]}–{ranks[1]}"


def groups(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """Metrics by group, in the order of tables."""
    found: dict[str, list[str]] = {}
    for name, about in data["metrics"].items():
        found.setdefault(about["group"], []).append(name)
    return found


def is_grey(row: Mapping[str, Any]) -> bool:
    """Whether a row is a baseline: this program's own, or one that was submitted."""
    return row["kind"] == "baseline" or bool(row.get("baseline"))


def newest(data: Mapping[str, Any]) -> set[str]:
    """Names of the rows that are no older version of a system: the last of its versions by number, then by name."""

    def age(row: Mapping[str, Any]) -> list[tuple[bool, int, str]]:
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in row["version"].split(".")]

    last: dict[str, Mapping[str, Any]] = {}
    for row in data["rows"]:
        if row["kind"] == "submission" and (row["system"] not in last or age(row) > age(last[row["system"]])):
            last[row["system"]] = row
    return {row["name"] for row in data["rows"] if row["kind"] == "baseline"} | {row["name"] for row in last.values()}


def verdict(data: Mapping[str, Any]) -> str:
    """Who is best and how sure that is, in one or two sentences."""
    systems = [row for row in data["rows"] if not is_grey(row)]
    ranked = [row for row in systems if row["verdict"]["ranks"]]
    watching = [row for row in data["rows"] if is_grey(row) and row["verdict"]["ranks"]]
    if not ranked:
        return (
            "No system that sounds like the test music has been submitted yet."
            if not systems
            else ("None of the systems sounds like the test music, so none is ranked.")
        )
    first = ranked[0]
    told = f"{first['title']} follows the dance best among the systems that sound like the test music"
    told += f" (rank {rank(first)})."
    sure = first["verdict"]["ranks"][1] < min((row["verdict"]["ranks"][0] for row in ranked[1:]), default=math.inf)
    if len(ranked) > 1:
        told += " It is surely before the others." if sure else " The data do not tell it surely from all the others."
    better = [row["title"] for row in watching if row["verdict"]["ranks"][1] < first["verdict"]["ranks"][0]]
    if better:
        told += f" It is surely behind the baseline{'s' if len(better) > 1 else ''} {', '.join(better)}."
    return told


def csv_text(data: Mapping[str, Any]) -> str:
    """`leaderboard.csv`: a line a row and metric, for spreadsheets and plots."""
    import csv
    import io

    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["kind", "name", "title", "rank_best", "rank_worst", "seeds", "metric", "value", "low", "high", "n"])
    for row in data["rows"]:
        best, worst = row["verdict"]["ranks"] or ("", "")
        for name, score in row["metrics"].items():
            numbers = ["" if score[part] is None else score[part] for part in ("value", "low", "high")]
            # A name that begins as a formula does is text for a spreadsheet too.
            words = [text if text[:1].isalnum() else f"'{text}" for text in (row["name"], row["title"])]
            lines.writerow([row["kind"], *words, best, worst, len(row["seeds"]), name, *numbers, score["n"]])
    return file.getvalue()


def axes(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """The plot of both axes: places in per cent from left and bottom; None where either metric is missing.

    To the right is nearer to the test music: KAD on a square-root scale from noise to the halves' own, since it spans
    decades and may fall below 0. Upwards follows the dance.
    """
    by, limit = data["gate"]["ranked_by"], data["gate"]["kad_limit"]
    known = [
        row for row in data["rows"] if all(row["metrics"].get(n, {}).get("value") is not None for n in (by, "kad"))
    ]
    if not known:
        return None
    most = max(1.0, *(row["metrics"]["kad"]["value"] for row in known), limit or 0.0)

    def right(kad: float) -> float:
        return round(100 * (1 - math.sqrt(max(0.0, kad) / most)), 2)

    points = [
        {
            "title": row["title"],
            "name": row["name"],
            "x": right(row["metrics"]["kad"]["value"]),
            "y": round(100 * row["metrics"][by]["value"], 2),
            "grey": is_grey(row),
            "passed": not row["verdict"]["failures"],
        }
        for row in known
    ]
    lines = [
        {"line": line, "y": round(100 * data["levels"][line][by]["value"], 2)}
        for line in LINES
        if data["levels"][line].get(by, {}).get("value") is not None
    ]
    return {"points": points, "gate": None if limit is None else right(limit), "lines": lines, "by": by}


# ------------------------------------------------------------------------------------------- Markdown


def markdown(data: Mapping[str, Any]) -> str:
    """`leaderboard.md`."""
    target = data["benchmark"]
    lines = [
        f"# Leaderboard: {_md(target['dataset'])}",
        "",
        f"Scored here from the predictions, on {_md(target['reference'])} ({target['songs']} songs, "
        f"{target['seconds']} s), with metrics {data['metrics_version']}. In brackets: 95 % intervals over "
        f"songs. Rows in *italics* are baselines. Content `{target['content']}`.",
        "",
        f"Ranks are ranges by {_md(data['gate']['ranked_by'])}: of two systems one stands before the other only where "
        "a paired test over songs, corrected for all pairs, says so. A row without a rank does not sound like the test "
        "music and is not ranked, however well it follows the dance.",
    ]
    for title, names in [("Overview", [n for n in HEADLINE if n in data["metrics"]]), *groups(data).items()]:
        lines += ["", f"## {title[:1].upper()}{title[1:]}", ""]
        lines += _table(
            ["rank", "system", "track", "standing", "seeds", *(_heading(name, data) for name in names)],
            [_row(row, names) for row in data["rows"]],
        )
    lines += ["", f"## Published elsewhere: {data['published']['warning']}", ""]
    lines += [
        "Second-hand numbers from papers: other data, other code, no intervals, and one name for two metrics. They are "
        f"{data['published']['warning']} with anything above."
    ]
    for table in data["published"]["tables"]:
        lines += ["", f"### {_md(table['title'])} ({data['published']['warning']})", "", _md(table["meaning"]), ""]
        rows = [
            [_md(one["system"]), *(percent(score, table) for score in one["scores"]), _md(_joined(one))]
            for one in table["rows"]
        ]
        lines += _table(["system", *map(_md, table["columns"]), "source"], rows)
    failed = [row for row in data["rows"] if row["verdict"]["failures"]]
    if failed:
        lines += ["", "## Not ranked", ""]
        lines += [f"- {_md(row['title'])}: {_md(' '.join(row['verdict']['failures']))}" for row in failed]
    if data["refused"]:
        lines += ["", "## Refused", ""]
        lines += [f"- {_md(name)}: {_md(problem)}" for name, found in data["refused"].items() for problem in found]
    lines += ["", "## Notes", "", *(f"- {_md(note)}" for note in data["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def _heading(name: str, data: Mapping[str, Any]) -> str:
    about = data["metrics"][name]
    arrow = {"higher": " ↑", "lower": " ↓"}.get(about["better"], "")
    return _md(name) + (f" {about['unit']}" if about["unit"] else "") + arrow


def _row(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    card = row.get("card", {})
    title = f"*{_md(row['title'])}*" if is_grey(row) else _md(row["title"])
    scores = []
    for name in names:
        shown = cell(row["metrics"].get(name), (0.0, 1.0))
        scores.append(shown.text + (f" [{shown.interval.replace(' to ', ', ')}]" if shown.interval else ""))
    return [
        rank(row),
        title,
        card.get("track", "baseline"),
        card.get("standing", "baseline"),
        str(len(row["seeds"])),
        *scores,
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def percent(score: float, table: Mapping[str, Any]) -> str:
    """A published score with as many decimals as its table has anywhere."""
    most = max(len(f"{value:g}".partition(".")[2]) for row in table["rows"] for value in row["scores"])
    return f"{score:.{most}f}"


def _joined(row: Mapping[str, Any]) -> str:
    return row["source"] + (f"; {row['remark']}" if row["remark"] else "")


def _md(text: Any) -> str:
    return str(text).translate(_MARKDOWN)


# ------------------------------------------------------------------------------------------- the page


def page(data: Mapping[str, Any]) -> str:
    """`index.html`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    # The style and the script are this project's own, and hold no text of anybody else.
    raw = {name: (_TEMPLATES / f"leaderboard.{name}").read_text(encoding="utf-8") for name in ("css", "js")}
    headline = [name for name in HEADLINE if name in data["metrics"]]
    tables = [_view(data, "overview", "Overview", "", headline)]
    tables += [
        _view(data, f"group-{k}", group[:1].upper() + group[1:], ABOUT.get(group.split()[0], ""), names)
        for k, (group, names) in enumerate(groups(data).items())
    ]
    text = environment.get_template("leaderboard.html.j2").render(
        data=data,
        target=data["benchmark"],
        tables=tables,
        listen=_listen(data),
        cards=[row for row in data["rows"] if row["kind"] == "submission"],
        systems=sum(not is_grey(row) for row in data["rows"]),
        grey=sum(is_grey(row) for row in data["rows"]),
        published=data["published"],
        css=raw["css"],
        js=raw["js"],
        number=number,
        percent=percent,
        rank=rank,
        verdict=verdict(data),
        newest=newest(data),
        axes=axes(data),
        tracks=sorted({row["card"]["track"] for row in data["rows"] if row["kind"] == "submission"}),
        failed=[row for row in data["rows"] if row["verdict"]["failures"]],
        is_grey=is_grey,
    )
    return text


def _view(data: Mapping[str, Any], key: str, title: str, about: str, names: Sequence[str]) -> dict[str, Any]:
    """One sortable table."""
    columns = []
    for name in names:
        known = [level[name] for level in (data["levels"][line] for line in LINES) if name in level]
        ends = scale([*(row["metrics"][name] for row in data["rows"] if name in row["metrics"]), *known])
        lines = [
            {"line": line, "place": place(data["levels"][line][name]["value"], ends)}
            for line in LINES
            if data["levels"][line].get(name, {}).get("value") is not None
        ]
        columns.append(
            {
                "name": name,
                "ends": ends,
                "shown": [f"{end:g}" for end in ends],
                "lines": lines,
                **data["metrics"][name],
            }
        )
    rows = [
        {
            "row": row,
            "grey": is_grey(row),
            "cells": [
                cell(row["metrics"].get(column["name"]), column["ends"], len(row["seeds"])) for column in columns
            ],
            "beside": [_beside(row, column["name"]) for column in columns],
        }
        for row in data["rows"]
    ]
    return {"key": key, "title": title, "about": about, "columns": columns, "rows": rows}


def _beside(row: Mapping[str, Any], name: str) -> str:
    """Levels to read a score by."""
    words = []
    for suffix, word in (("_shuffled", "shuffled"), ("_reference", "true music")):
        score = row["beside"].get(name + suffix)
        if score is not None and score["value"] is not None:
            words.append(f"{word} {number(score['value'])}")
    p_value = row["p_values"].get(name)
    if p_value is not None:
        words.append(f"p = {p_value:.3f}")
    return ", ".join(words)


def _listen(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By clip: rows with a sound."""
    heard = data["audio"]
    clips: dict[str, list[dict[str, Any]]] = {}
    for row in data["rows"]:
        folder = f"audio/baselines/{row['name']}" if row["kind"] == "baseline" else f"audio/submissions/{row['name']}"
        for clip, place in heard.get(folder, {}).items():
            clips.setdefault(clip, []).append(
                {"title": row["title"], "grey": is_grey(row), "place": place, "scores": row["clips"].get(clip, {})}
            )
    return [{"clip": clip, "rows": rows} for clip, rows in sorted(clips.items())]
