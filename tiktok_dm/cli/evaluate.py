"""The verbs `tiktok-dm evaluate` and `tiktok-dm metronome-check`. Thin; see `evaluate` and `metronome`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from tiktok_dm.cli.options import Json, Workers
from tiktok_dm.errors import UserError
from tiktok_dm.machine import cores

if TYPE_CHECKING:
    from rich.console import Console

    from tiktok_dm.benchmark.evaluation import Evaluation
    from tiktok_dm.benchmark.metrics.intervals import Difference, Score

_BREAKDOWN = ("beat_hit_d2m", "beat_f_70ms", "beat_cmlt", "beat_align_motion_aistpp")
_MANY = 40


class OptionalFile(TyperCommand):
    """A command whose `--json` may be followed by a file to write to; alone it prints, as with the other verbs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--json FILE` becomes `--json-file FILE`; the command takes no arguments that FILE could be mistaken for."""
        given = []
        for word, following in zip(args, [*args, ""][1:], strict=True):
            given.append("--json-file" if word == "--json" and following and not following.startswith("-") else word)
        return super().parse_args(ctx, given)


def register(app: typer.Typer) -> None:
    """Give the `tiktok-dm` command its verbs."""
    app.command("evaluate", cls=OptionalFile)(evaluate)
    app.command("metronome-check", cls=OptionalFile)(metronome_check)
    app.command("baselines")(baselines)


JsonHere = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output; followed by a file name: write it there.")
]
JsonFile = Annotated[Path | None, typer.Option("--json-file", hidden=True)]


def evaluate(
    reference: Annotated[
        Path, typer.Option(help="Folder of sound files, or a built dataset (then also dance metrics).", metavar="DIR")
    ],
    generated: Annotated[Path, typer.Option(help="Folder of the system's sound files, named by id.", metavar="DIR")],
    against: Annotated[
        Path | None, typer.Option(help="Another system's folder: the paired difference is printed too.", metavar="DIR")
    ] = None,
    split: Annotated[str, typer.Option(help="Of a dataset: test, train, validation or all.")] = "test",
    config: Annotated[
        str | None, typer.Option(help="Of a dataset: clips or segments; else what the ids look like.")
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Score what is there when files are missing or unusable.")
    ] = False,
    embedder: Annotated[
        str, typer.Option(help="Embedding of the distribution metrics: log-mel, vggish, panns, clap or none.")
    ] = "log-mel",
    weights: Annotated[Path | None, typer.Option(help="The embedder's weights, where it needs any.")] = None,
    detector: Annotated[
        str | None, typer.Option(help="A detector of beats that an installed package adds, instead of the own tracker.")
    ] = None,
    training: Annotated[
        Path | None, typer.Option(help="A dataset: look the music up in its train split.", metavar="DIR")
    ] = None,
    genres: Annotated[
        Path | None, typer.Option(help="csv with song_id and genre of training songs: genre agreement.", metavar="FILE")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Swaps of the tests that compare systems.", min=100)] = 2000,
    seed: Annotated[int, typer.Option(help="Of resampled songs and shuffled pairs.", min=0)] = 0,
    workers: Workers = None,
    per_clip: Annotated[Path | None, typer.Option(help="Write each clip's scores to this csv file.")] = None,
    as_json: JsonHere = False,
    json_file: JsonFile = None,
) -> None:
    """Score generated music against its references: beats, dance, distributions, with intervals over songs."""
    from tiktok_dm.benchmark import evaluate as scoring
    from tiktok_dm.benchmark.clip_features import FeatureCache
    from tiktok_dm.benchmark.evaluation import compare

    for path in (per_clip, json_file):
        if path is not None and not path.absolute().parent.is_dir():
            raise UserError(f"{path} cannot be written: there is no folder {path.absolute().parent}")
    if genres is not None and training is None:
        raise UserError("--genres names songs of a train split: give that dataset with --training")
    options = scoring.EvaluateOptions(
        split=split,
        config=config,
        partial=partial,
        workers=workers or cores(),
        seed=seed,
        resamples=resamples,
        detector=detector,
        embedder=None if embedder == "none" else embedder,
        weights=weights,
        training=training,
        genres=genres,
    )
    cache = FeatureCache()
    with _progress(quiet=as_json) as tell:
        result = scoring.evaluate(reference, generated, options, cache=cache, progress=tell)
        other = scoring.evaluate(reference, against, options, cache=cache, progress=tell) if against else None
    differences = compare(result, other, seed=seed, resamples=resamples) if other is not None else {}
    table = {"generated": generated.name, **result.as_dict()}
    if other is not None and against is not None:
        table["against"] = {
            "generated": against.name,
            "metrics": {name: other.as_dict()["metrics"][name] for name in other.metrics},
            "differences": {name: _plain(found) for name, found in differences.items()},
        }
    if per_clip is not None:
        _write(per_clip, result.per_clip.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    if json_file is not None:
        _write(json_file, json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
    else:
        show(result, generated.name)
        if against is not None:
            show_differences(differences, generated.name, against.name)


def metronome_check(
    songs: Annotated[int, typer.Option(help="Songs of the embedded demo.", min=2)] = 12,
    seed: Annotated[int, typer.Option(help="Of the demo.", min=0)] = 0,
    workers: Workers = None,
    as_json: JsonHere = False,
    json_file: JsonFile = None,
) -> None:
    """Show that a 2 Hz click track wins the published beat scores, and not the others."""
    from tiktok_dm.benchmark import metronome

    with _progress(quiet=as_json) as tell:
        found = metronome.metronome_check(songs, seed=seed, workers=workers or cores(), progress=tell)
    table = {row: result.as_dict() for row, result in found.items()}
    if json_file is not None:
        _write(json_file, json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    if as_json:
        print(json.dumps(table, indent=1, ensure_ascii=False))
        return
    first = next(iter(found.values()))
    cells = [
        (
            heading,
            [" ".join(filter(None, (name, unit(name)))), *(_value(result.metrics[name]) for result in found.values())],
        )
        for heading, name in _headed(first)
        if not name.endswith(("_all",))
    ]
    _table(["metric", *found], cells)
    print(f"\nReference: {first.reference}. What a metronome wins is no measure of music made for a dance.")


# ------------------------------------------------------------------------------------------- showing


def show(result: Evaluation, name: str) -> None:
    """Print an evaluation: problems, table, breakdowns, notes."""
    from tiktok_dm.benchmark.metrics.definitions import METRICS_VERSION

    for problem in result.problems[:_MANY]:
        print(problem, file=sys.stderr)
    if len(result.problems) > _MANY:
        rest = len(result.problems) - _MANY
        print(f"and {rest} more problems: --json names them all", file=sys.stderr)
    counts = result.counts
    songs = f"{counts['songs']} songs" if counts["songs"] else "songs unknown"
    print(f"{name} on {result.reference}: {counts['clips']} of {counts['references']} scored, {songs}")
    print(
        f"metrics {METRICS_VERSION}; 95 % intervals over {result.parameters['resampled']}, "
        f"seed {result.parameters['seed']}\n"
    )
    rows = []
    for heading, metric in _headed(result):
        score = result.metrics[metric]
        name_and_unit = " ".join(filter(None, (metric, unit(metric))))
        rows.append((heading, [name_and_unit, _value(score), _interval(score), str(score.n), _beside(result, metric)]))
    _table(["metric", "value", "95 % interval", "n", "beside it"], rows)
    embedding = result.parameters.get("embedding")
    if embedding:
        print(
            f"\nembedding {embedding['embedder']} {embedding['version']}: {embedding['generated_rows']} generated rows "
            f"against {embedding['reference_rows']} of {embedding['reference_set']}; intervals leave songs out"
        )
    for kind, parts in result.breakdowns.items():
        shown = [metric for metric in _BREAKDOWN if metric in result.metrics]
        print(f"\nby {kind}")
        lines = [
            (
                "",
                [
                    label,
                    *(f"{_value(scores[m])} {_interval(scores[m])}".strip() for m in shown),
                    str(scores[shown[0]].n),
                ],
            )
            for label, scores in parts.items()
        ]
        _table(["", *shown, "n"], lines)
    for note in result.notes:
        print(f"note: {note}")


def show_differences(differences: Mapping[str, Difference], name: str, other: str) -> None:
    """Print one system less another."""
    print(f"\n{name} less {other}, paired clip by clip")
    rows = [
        ("", [metric, _number(d.value), _bounds(d.low, d.high), _number(d.p_value, "{:.4f}"), str(d.n)])
        for metric, d in differences.items()
    ]
    _table(["metric", "difference", "95 % interval", "p", "n"], rows)


def _headed(result: Evaluation) -> Iterator[tuple[str, str]]:
    """(heading where a new group begins, metric) in the order of the result."""
    from tiktok_dm.benchmark.metrics.definitions import METRICS

    before = ""
    for name in result.metrics:
        group = METRICS[name].group if name in METRICS else "distributions"
        yield ("" if group == before else group), name
        before = group


def unit(metric: str) -> str:
    """Unit of a metric, `` for shares and ratios."""
    from tiktok_dm.benchmark.metrics.definitions import METRICS

    return METRICS[metric].unit if metric in METRICS else ""


def _beside(result: Evaluation, metric: str) -> str:
    words = []
    for suffix, word in (("_shuffled", "shuffled"), ("_reference", "reference music")):
        if metric + suffix in result.beside:
            words.append(f"{word} {_value(result.beside[metric + suffix])}")
    if metric in result.p_values:
        words.append(f"p = {_number(result.p_values[metric])}")
    if metric in result.undefined:
        words.append(f"{result.undefined[metric]} undefined")
    return ", ".join(words)


def _number(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None or value != value else form.format(value)


def _value(score: Score) -> str:
    return _number(score.value)


def _interval(score: Score) -> str:
    return _bounds(score.low, score.high)


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def _table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """Rows (heading or "", cells) under a head: drawn on a terminal, aligned with spaces elsewhere."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        _drawn(console, head, rows)
        return
    cells = [list(head), *(list(row) for _, row in rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(head))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    print(line(head))
    for heading, row in rows:
        if heading:
            print(f"-- {heading}")
        print(line(row))


def _drawn(console: Console, head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for k, name in enumerate(head):
        table.add_column(name, no_wrap=k == 0)
    for heading, row in rows:
        if heading:
            table.add_row(Text(heading, style="bold"))
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


# ------------------------------------------------------------------------------------------- small things


def _plain(found: Difference) -> dict[str, Any]:
    return {key: round(value, 9) if isinstance(value, float) else value for key, value in asdict(found).items()}


def _write(path: Path, text: str) -> None:
    from tiktok_dm.files import write_atomic

    try:
        write_atomic(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    from rich.console import Console

    from tiktok_dm.runtime.progress import BuildProgress

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with BuildProgress(console=console) as bars:
        shown = 0

        def tell(done: int, total: int) -> None:
            nonlocal shown
            if done < shown:
                shown = 0
            bars.expect("measure", total)
            while shown < done:
                shown += 1
                bars.advance("measure", "")

        yield tell


def baselines(
    dataset: Annotated[Path, typer.Argument(help="A dataset folder that `tiktok-dm build` wrote.")],
    out: Annotated[Path, typer.Option("--out", help="New folder for a folder of wav files per baseline.")],
    split: Annotated[str, typer.Option(help="Whose ids get music: test, train, validation or all.")] = "test",
    config: Annotated[str, typer.Option(help="clips (whole dances) or segments (2 s).")] = "clips",
    codec: Annotated[
        str,
        typer.Option(
            help="Of the row 'ground truth through a codec': aac:KBITS, none, a registered codec such as d2m:FOLDER, "
            "or package.module:function:ARGUMENT.",
            metavar="NAME[:ARGUMENT]",
        ),
    ] = "aac:32",
    seed: Annotated[int, typer.Option(help="Of shuffling, phases and noise.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Make what every table carries: ground truth, codec, shuffled, metronomes, silence, noise, nearest by motion."""
    from tiktok_dm.benchmark.baseline_folders import DESCRIPTION, make_baselines
    from tiktok_dm.benchmark.baselines import TITLES
    from tiktok_dm.benchmark.codec_round_trip import open_codec

    shown = -1

    def progress(done: int, total: int) -> None:
        nonlocal shown
        if not as_json and sys.stderr.isatty() and 100 * done // total != shown:
            shown = 100 * done // total
            print(f"\r{done} of {total} files", end="\n" if done == total else "", file=sys.stderr, flush=True)

    names = make_baselines(
        dataset, out, split=split, config=config, codec=open_codec(codec), seed=seed, progress=progress
    )
    about = {name: json.loads((out / name / DESCRIPTION).read_text(encoding="utf-8")) for name in names}
    if as_json:
        told = {name: {"n": one["n"], "title": one["title"], "notes": one["notes"]} for name, one in about.items()}
        print(json.dumps({"out": str(out), "baselines": told}))
        return
    for name in names:
        print(f"{out / name}: {TITLES[name]}, {about[name]['n']} files")
        for note in about[name]["notes"]:
            print(f"  note: {note}")
