"""The leaderboard: every submission scored again from its predictions, beside the baselines of its dataset.

No score is ever taken from a submission. What was scored once is kept under a key of everything it depends on (the
files' checksums, the dataset, the metrics' version and options), so that an unchanged submission costs nothing.
Everything written is a function of the submissions, the dataset and the options. Not for how a submission is checked
(`submission_check`), nor for how the page looks (`leaderboard_page`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tiktok_dm.audio.landmark_fingerprint import VERSION as FINGERPRINT_VERSION
from tiktok_dm.benchmark.baseline_folders import make_baselines
from tiktok_dm.benchmark.baselines import RANDOM, TITLES
from tiktok_dm.benchmark.baselines import VERSION as BASELINES_VERSION
from tiktok_dm.benchmark.clip_features import FeatureCache, measure_all
from tiktok_dm.benchmark.codec_round_trip import CodecRoundTrip
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.evaluation import described, over_seeds, rounded
from tiktok_dm.benchmark.leaderboard import verdict
from tiktok_dm.benchmark.leaderboard.card import CardFile, read_card
from tiktok_dm.benchmark.leaderboard.check import Checked, check_files, check_sounds
from tiktok_dm.benchmark.leaderboard.open_benchmark import EDITED, OpenBenchmark, open_benchmark
from tiktok_dm.benchmark.leaderboard.page import PUBLISHED, WARNING
from tiktok_dm.benchmark.leaderboard.submission import CARD
from tiktok_dm.benchmark.metrics import intervals
from tiktok_dm.benchmark.metrics.definitions import METRICS, METRICS_VERSION, SETS
from tiktok_dm.errors import DiskFull, Problem, UserError
from tiktok_dm.files import clear_unfinished, sha256_file, write_atomic
from tiktok_dm.runtime.store import Store, content_key
from tiktok_dm.schema import SAMPLE_RATE

FORMAT = 2
"""Of `leaderboard.json`, and of what is kept between runs."""
LINES = {"ground_truth": "truth", "shuffled": "chance"}
"""Baselines that bound every scale: they are drawn as lines on it, and have no row."""
LARGEST_AUDIO = 1_500_000
"""Bytes; larger files are not copied beside the page."""
DATASET_MUSIC = ("ground_truth", "ground_truth_codec", "shuffled", "nearest_motion", "retrieval_aligned")
"""Baselines that sound like the dataset: they are only copied where its licence lets it be heard."""
RANDOM_SEEDS = 5
"""With which baselines are made that draw anything."""
FILES = ("leaderboard.json", "leaderboard.md", "index.html", "leaderboard.csv")


@dataclass(frozen=True)
class BoardOptions:
    """How a leaderboard is made.

    Args:
        config: `clips` or `segments` of the dataset's test split.
        codec: of the baseline `ground_truth_codec`; None leaves it out.
        embedder, weights: of the distribution metrics, see `embedders`.
        resamples, seed: of the intervals, and of the baselines.
        workers: processes that measure files.
        audio: copy the predictions that are small enough beside the page, to be heard there.
        reference_audio: copy the dataset's own music too.
        allow_private: fetch predictions from addresses that are not public, too.
    """

    config: str = "clips"
    codec: CodecRoundTrip | None = None
    embedder: str = "log-mel"
    weights: Path | None = None
    resamples: int = intervals.RESAMPLES
    seed: int = 0
    workers: int = 1
    audio: bool = False
    reference_audio: bool = False
    allow_private: bool = False


@dataclass
class Board:
    """What a build gave.

    Args:
        data: the content of `leaderboard.json`.
        refused: problems by `system/version`.
        other: `system/version` of those that are for another dataset or configuration.
        scored: of those that were scored now.
        kept: of those whose scores were known.
        notes: by `system/version`.
    """

    data: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, list[Problem]] = field(default_factory=dict)
    other: list[str] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)


Paths = Mapping[int, Mapping[str, Path]]


def build(
    submissions: Path,
    dataset: Path,
    out: Path,
    options: BoardOptions | None = None,
    *,
    work: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Board:
    """Score every submission for a dataset and write `leaderboard.json`, `leaderboard.md` and `index.html`.

    A submission with problems is refused: it has no row, and the tables say so. One that names another dataset or
    configuration is left to that one's leaderboard.

    Args:
        submissions: folder of `<system>/<version>/submission.yaml`.
        dataset: the benchmark.
        out: new, empty, or with an earlier leaderboard.
        options: see `BoardOptions`.
        work: what is fetched, made again and scored is kept here; beside `out` by default.
        progress: told what is being done.

    Raises:
        UserError: no such folders; `out` holds something else.
        DiskFull: no room.
    """
    options = options or BoardOptions()
    tell = progress or (lambda text: None)
    if not submissions.is_dir():
        raise UserError(f"there is no folder {submissions}: give the folder that holds SYSTEM/VERSION/{CARD}")
    # What a run was writing first when it was killed is no thing of somebody else's.
    others = [path for path in out.iterdir() if not path.name.startswith(f".{FILES[0]}.")] if out.is_dir() else []
    if out.exists() and (not out.is_dir() or (others and not (out / FILES[0]).is_file())):
        raise UserError(f"{out} exists and holds no leaderboard: choose another folder, or remove it first")
    work = work or out.absolute().with_name(out.name + ".work")
    benchmark = open_benchmark(dataset, options.config)
    scorer = _Scorer(benchmark, options, Store(work))
    board = Board()
    rows, audio, lines = [], {}, {}
    for name, record, files in scorer.baselines(tell):
        baseline = {"kind": "baseline", "name": name, "title": TITLES[name], **record}
        if name in LINES:
            lines[LINES[name]] = baseline
        else:
            rows.append(baseline)
        if options.audio and (options.reference_audio or name not in DATASET_MUSIC):
            audio[f"audio/baselines/{name}"] = files[min(files)]
    for folder in _folders(submissions):
        row, heard = _submission(folder, benchmark, scorer, board, work, tell)
        if row is not None:
            rows.append(row)
            if options.audio:
                audio[f"audio/submissions/{row['system']}/{row['version']}"] = heard
    board.data = _table(benchmark, options, rows, lines, scorer.halves(), board)
    _write(board, out, audio, benchmark)
    return board


def _folders(submissions: Path) -> list[Path]:
    """Every `<system>/<version>`, whether or not it is whole."""
    return [
        version
        for system in sorted(submissions.iterdir())
        if system.is_dir() and not system.name.startswith(".")
        for version in sorted(system.iterdir())
        if version.is_dir() and not version.name.startswith(".")
    ]


def _submission(
    folder: Path, benchmark: OpenBenchmark, scorer: _Scorer, board: Board, work: Path, tell: Callable[[str], None]
) -> tuple[dict[str, Any] | None, Mapping[str, Path]]:
    """Its row and the files of its first seed; None where it has none."""
    name = f"{folder.parent.name}/{folder.name}"
    tell(name)
    try:
        card = read_card(folder)
        if _elsewhere(card, benchmark):
            board.other.append(name)
            return None, {}
        checked, _ = check_files(
            folder, benchmark.dataset, work, benchmark, card=card, allow_private=scorer.options.allow_private
        )
        record, known = (None, False) if checked.problems else scorer.submission(checked)
    except DiskFull:
        raise
    except UserError as error:
        board.refused[name] = [Problem(name, None, None, str(error))]
        return None, {}
    except Exception as error:  # whatever is wrong with one submission is no trouble of the others
        message = f"it cannot be checked ({type(error).__name__}: {str(error)[:200]})"
        board.refused[name] = [Problem(name, None, None, message)]
        return None, {}
    if record is None:
        board.refused[name] = checked.problems
        return None, {}
    (board.kept if known else board.scored).append(name)
    if checked.notes:
        board.notes[name] = checked.notes
    submission = checked.submission
    assert submission is not None
    row = {
        "kind": "submission",
        "name": name,
        "title": f"{submission.system} {submission.version}",
        "system": submission.system,
        "version": submission.version,
        "baseline": submission.is_baseline,
        "card": submission.card(),
        **record,
    }
    return row, checked.files.paths[submission.seeds[0]]


def _elsewhere(card: CardFile, benchmark: OpenBenchmark) -> bool:
    if card.submission is None:
        return False
    target = card.submission.benchmark
    return target.dataset != benchmark.identity.name or target.config != benchmark.config


# ------------------------------------------------------------------------------------------- scoring


class _Scorer:
    """Scores sets of predictions, each once."""

    def __init__(self, benchmark: OpenBenchmark, options: BoardOptions, store: Store) -> None:
        self.benchmark, self.options, self.store = benchmark, options, store
        self.measured = FeatureCache()

    def baselines(self, tell: Callable[[str], None]) -> list[tuple[str, dict[str, Any], Paths]]:
        """Name, scores and files of each baseline of the dataset, in the order of tables."""
        options, benchmark = self.options, self.benchmark
        seeds = range(options.seed, options.seed + RANDOM_SEEDS)
        parameters = {
            "config": options.config,
            "seed": options.seed,
            "seeds": RANDOM_SEEDS,
            "codec": options.codec.name if options.codec else None,
        }
        key = content_key("baselines", BASELINES_VERSION, parameters, {"dataset": benchmark.identity.sha256})

        def make(folder: Path) -> dict[str, Any]:
            tell("making the baselines")
            names = {
                seed: make_baselines(
                    benchmark.dataset,
                    folder / f"music-{seed}",
                    config=options.config,
                    codec=options.codec,
                    seed=seed,
                    names=TITLES if seed == options.seed else RANDOM,
                )
                for seed in seeds
            }
            return {"names": names[options.seed]}

        names = self.store.run("baselines", key, make)["names"]
        folder = self.store.folder("baselines", key)
        found = []
        for name in names:
            tell(f"the baseline {name}")
            files: Paths = {
                seed: {item: folder / f"music-{seed}" / name / f"{item}.wav" for item in benchmark.reference.items}
                for seed in (seeds if name in RANDOM else seeds[:1])
            }
            digests = {seed: {item: sha256_file(path) for item, path in one.items()} for seed, one in files.items()}
            scores, _ = self._scored(files, digests)
            assert scores is not None
            found.append((name, scores, files))
        return found

    def halves(self) -> dict[str, float | None]:
        """The test music's halves against each other, see `verdict.halves`."""
        from tiktok_dm.benchmark.embedders.registry import get_embedder

        items = list(self.benchmark.reference.items.values())
        embedder = get_embedder(self.options.embedder, self.options.weights)
        parameters = {"config": self.options.config, "embedder": [embedder.name, embedder.version], "tools": _tools()}
        key = content_key("halves", FORMAT, parameters, {"dataset": self.benchmark.identity.sha256})

        def make(folder: Path) -> dict[str, Any]:
            measured = measure_all(
                [item.audio for item in items],
                embedder=self.options.embedder,
                weights=self.options.weights,
                workers=self.options.workers,
                cache=self.measured,
            )
            found = verdict.halves([features.rows for features in measured], [item.song_id for item in items])
            return {name: rounded(value) for name, value in found.items()}

        return self.store.run("halves", key, make)

    def submission(self, checked: Checked) -> tuple[dict[str, Any] | None, bool]:
        """Scores of a submission, and whether they were known; None where listening to it shows problems."""
        return self._scored(checked.files.paths, checked.files.digests, checked)

    def _scored(
        self, files: Paths, digests: Mapping[int, Mapping[str, str]], checked: Checked | None = None
    ) -> tuple[dict[str, Any] | None, bool]:
        key = self._key(digests, looked_for_copies=checked is not None)
        known = self.store.record("scores", key)
        if known is not None:
            return known, True
        if checked is not None:
            checked.problems += check_sounds(checked, self.benchmark)
            if checked.problems:
                return None, False
        return self.store.run("scores", key, lambda folder: self._score(files)), False

    def _key(self, digests: Mapping[int, Mapping[str, str]], *, looked_for_copies: bool) -> str:
        from tiktok_dm.benchmark.embedders.registry import get_embedder

        embedder = get_embedder(self.options.embedder, self.options.weights)
        parameters = {
            "metrics": METRICS_VERSION,
            "config": self.options.config,
            "resamples": self.options.resamples,
            "seed": self.options.seed,
            "embedder": [embedder.name, embedder.version],
            "copies": [looked_for_copies, FINGERPRINT_VERSION, EDITED],
            "tools": _tools(),
        }
        files = {str(seed): dict(one) for seed, one in digests.items()}
        return content_key("scores", FORMAT, parameters, {"dataset": self.benchmark.identity.sha256, "files": files})

    def _score(self, files: Paths) -> dict[str, Any]:
        options = EvaluateOptions(
            config=self.options.config,
            workers=self.options.workers,
            seed=self.options.seed,
            resamples=self.options.resamples,
            embedder=self.options.embedder,
            weights=self.options.weights,
            training=self.benchmark.dataset if self.benchmark.training else None,
        )
        found = {
            seed: evaluate(self.benchmark.reference, dict(files[seed]), options, cache=self.measured)
            for seed in sorted(files)
        }
        return over_seeds(found)


def _tools() -> dict[str, str]:
    import importlib.metadata

    return {name: importlib.metadata.version(name) for name in ("librosa", "mir_eval", "numpy", "scipy", "soxr")}


# ------------------------------------------------------------------------------------------- the table


def _table(
    benchmark: OpenBenchmark,
    options: BoardOptions,
    rows: list[dict[str, Any]],
    lines: dict[str, dict[str, Any]],
    halves: Mapping[str, float | None],
    board: Board,
) -> dict[str, Any]:
    """`leaderboard.json`."""
    everyone = [*lines.values(), *rows]
    names = [name for name in (*METRICS, *SETS) if name in rows[0]["metrics"]]
    notes = list(dict.fromkeys(note for row in everyone for note in row.pop("notes")))
    embeddings = [row.pop("embedding") for row in everyone]
    items = list(benchmark.reference.items.values())
    noise = next(row["metrics"]["kad"]["value"] for row in rows if row["name"] == "noise")
    levels = verdict.Levels(halves["kad"], halves["coverage"], noise if noise is not None else math.inf)
    ranked = _judge(rows, levels, {item.id: item.song_id for item in items}, options)
    return {
        "format": FORMAT,
        "benchmark": {
            "dataset": benchmark.identity.name,
            "content": benchmark.content,
            "manifest_sha256": benchmark.identity.sha256,
            "split": "test",
            "config": benchmark.config,
            "reference": f"{len(items)} {benchmark.config} of the test split of {benchmark.identity.name}",
            "clips": len(items),
            "songs": len({item.song_id for item in items}),
            "seconds": round(sum(benchmark.samples.values()) / SAMPLE_RATE, 1),
        },
        "metrics_version": METRICS_VERSION,
        "parameters": {
            "resamples": options.resamples,
            "seed": options.seed,
            "level": intervals.LEVEL,
            "embedding": embeddings[0],
            "tools": _tools(),
        },
        "metrics": {name: _described(name) for name in names},
        "gate": {
            "kad_limit": rounded(levels.kad_limit),
            "coverage_floor": rounded(levels.coverage_floor),
            "ranked_by": verdict.PRIMARY,
            "alpha": verdict.ALPHA,
        },
        "levels": {**{name: row["metrics"] for name, row in lines.items()}, "halves": dict(halves)},
        "rows": ranked,
        "refused": {name: [str(problem) for problem in found] for name, found in sorted(board.refused.items())},
        "notes": notes,
        "published": {"warning": WARNING, "tables": [asdict(table) for table in PUBLISHED]},
    }


def _judge(
    rows: list[dict[str, Any]], levels: verdict.Levels, songs: Mapping[str, Any], options: BoardOptions
) -> list[dict[str, Any]]:
    """The rows in their order: those that pass the gate by rank range, then the others; each with its `verdict`."""
    for row in rows:
        kad, coverage = (row["metrics"].get(name, {}).get("value") for name in ("kad", "coverage"))
        row["verdict"] = {"failures": verdict.failures(kad, coverage, levels), "ranks": None}
    passed = [row for row in rows if not row["verdict"]["failures"]]
    scores = [{clip: one.get(verdict.PRIMARY) for clip, one in row["clips"].items()} for row in passed]
    ranges = verdict.rank_ranges(scores, songs, resamples=options.resamples, seed=options.seed)
    for row, ranks in zip(passed, ranges, strict=True):
        row["verdict"]["ranks"] = list(ranks)
    return sorted(rows, key=_order)


def _order(row: Mapping[str, Any]) -> tuple:
    """By rank range, then by the primary metric; what failed the gate comes after, by that metric too."""
    value = row["metrics"].get(verdict.PRIMARY, {}).get("value")
    ranks = row["verdict"]["ranks"]
    return (ranks is None, ranks or [], value is None, -(value or 0.0), row["title"], row["name"])


def _described(name: str) -> dict[str, str]:
    told = described(name)
    if name.endswith("_2s"):
        told["group"] += ", each two seconds alone"
    return told


# ------------------------------------------------------------------------------------------- files


def _write(board: Board, out: Path, audio: Mapping[str, Mapping[str, Path]], benchmark: OpenBenchmark) -> None:
    """The four files and the audio; audio of an earlier leaderboard that is no more in this one goes."""
    from tiktok_dm.benchmark.leaderboard.page import csv_text, markdown, page

    before = _audio_of(out)
    copies: dict[str, Path] = {}
    board.data["audio"] = {}
    try:
        for folder, files in sorted(audio.items()):
            small = [name for name in benchmark.reference.items if files[name].stat().st_size <= LARGEST_AUDIO]
            board.data["audio"][folder] = {name: f"{folder}/{name}.wav" for name in small}
            copies |= {f"{folder}/{name}.wav": files[name] for name in small}
        text = json.dumps(board.data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        # First, since a folder with this file is known for a leaderboard, also when the rest is never written.
        write_atomic(out / FILES[0], text)
        for place, path in copies.items():
            _copy(path, out / place)
        for place in before - set(copies):
            _remove(out, place)
        write_atomic(out / FILES[1], markdown(board.data))
        write_atomic(out / FILES[2], page(board.data))
        write_atomic(out / FILES[3], csv_text(board.data))
        for place_of in {out, *((out / place).parent for place in copies)}:
            clear_unfinished(place_of)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error


def _copy(path: Path, to: Path) -> None:
    if not to.is_file() or sha256_file(to) != sha256_file(path):
        write_atomic(to, path.read_bytes())


def _audio_of(out: Path) -> set[str]:
    """Audio files that an earlier leaderboard in this folder names."""
    try:
        told = json.loads((out / FILES[0]).read_text(encoding="utf-8"))["audio"]
        places = {str(place) for files in told.values() for place in files.values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {place for place in places if place.startswith("audio/") and ".." not in Path(place).parts}


def _remove(out: Path, place: str) -> None:
    path = out / place
    path.unlink(missing_ok=True)
    for folder in path.relative_to(out).parents:
        if folder.parts and (out / folder).is_dir() and not any((out / folder).iterdir()):
            (out / folder).rmdir()
