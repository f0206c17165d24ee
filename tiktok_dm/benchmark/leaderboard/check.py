"""Is a submission fit to be scored? Its card, its manifest and its predictions held against a dataset, all at once.

In two steps, so that a submission whose files were looked at before need not be listened to again: `check_files` (card,
manifest, checksums) and `check_sounds` (format, length, finite, no copy). Not for scoring (`leaderboard`).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tiktok_dm.benchmark.leaderboard.card import CardFile, read_card
from tiktok_dm.benchmark.leaderboard.content import REFERENCE, VERSION, describe, differences, read_sketches
from tiktok_dm.benchmark.leaderboard.files import Files, obtain
from tiktok_dm.benchmark.leaderboard.open_benchmark import OpenBenchmark, open_benchmark
from tiktok_dm.benchmark.leaderboard.submission import CARD, Submission, label
from tiktok_dm.benchmark.leaderboard.tables import MANIFEST, Entry, read_manifest
from tiktok_dm.benchmark.pairs import SHORT_TOLERANCE_S
from tiktok_dm.errors import Problem, UserError
from tiktok_dm.schema import SAMPLE_RATE

EDITED_SHARE = 0.25
"""Share of a seed's files, at least two, that must resemble the dataset's music before it is called a copy."""
EDITED_BY_CHANCE = 0.05
"""Of excerpts of other songs of one generator, 10 of 200 among 100 songs; see `benchmarks.copies`."""
_MANY = 10
_TOLERANCE = round(SHORT_TOLERANCE_S * SAMPLE_RATE)


@dataclass
class Checked:
    """What came out.

    Args:
        folder: of the submission.
        submission: None where its card cannot be made sense of.
        entries: rows of its manifest that can be scored, by seed and id.
        files: the predictions.
        problems: all of them; none: fit to be scored.
        notes: what to know, a sentence each.
    """

    folder: Path
    submission: Submission | None
    entries: dict[tuple[int, str], Entry] = field(default_factory=dict)
    files: Files = field(default_factory=Files)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def check(folder: Path, dataset: Path, work: Path, *, allow_private: bool = False) -> Checked:
    """Everything about one submission; see `check_files` and `check_sounds`."""
    checked, benchmark = check_files(folder, dataset, work, allow_private=allow_private)
    checked.problems += check_sounds(checked, benchmark)
    return checked


def check_files(
    folder: Path,
    dataset: Path,
    work: Path,
    opened: OpenBenchmark | None = None,
    *,
    card: CardFile | None = None,
    allow_private: bool = False,
) -> tuple[Checked, OpenBenchmark]:
    """Card, manifest, and that each file is there once with the checksum that the manifest says.

    Args:
        folder: `submissions/<system>/<version>`.
        dataset: the benchmark.
        work: for what is fetched or made again.
        opened: the dataset, where it was opened before for the same configuration.
        card: of that folder, where it was read before.
        allow_private: fetch predictions from addresses that are not public, too.

    Raises:
        UserError: no such folder, no `submission.yaml` or `manifest.csv` in it; no dataset.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give submissions/SYSTEM/VERSION")
    folder = folder.absolute()
    for path in (folder / CARD, folder / MANIFEST, folder / REFERENCE):
        if path.is_symlink():
            raise UserError(f"{path} is a link: put the file itself there")
    card = card or read_card(folder)
    entries, bad_rows = read_manifest(folder)
    submission = card.submission
    if opened is None:
        config = submission.benchmark.config if submission is not None else None
        opened = open_benchmark(dataset, config, {entry.id for entry in entries})
    checked = Checked(folder, submission, problems=[*card.problems, *bad_rows])
    again = submission is not None and submission.is_baseline
    checked.problems += _target(card, opened, checked.notes)
    for problem in _rows(card, entries, opened, checked.entries):
        # What is made again is as long as this dataset's references, whatever build its manifest is of.
        if not (again and problem.column in ("samples", "sample_rate")):
            checked.problems.append(problem)
    checked.files = obtain(card, list(checked.entries.values()), opened, work, allow_private)
    checked.problems += checked.files.problems
    checked.notes += checked.files.notes
    return checked, opened


def _target(card: CardFile, opened: OpenBenchmark, notes: list[str]) -> list[Problem]:
    """Whether the dataset at hand is the one that the submission is for, by name and content."""
    if card.submission is None:
        return []
    target = card.submission.benchmark
    if target.dataset != opened.identity.name:
        message = f"`benchmark.dataset` is {target.dataset!r}, and the dataset given is {opened.identity.name!r}"
        return [card.problem(("benchmark", "dataset"), message)]
    if target.content == opened.content:
        return []
    theirs, given = (f"{identity[:14]}..." for identity in (target.content, opened.content))
    if card.submission.is_baseline:
        notes.append(
            f"its manifest was made for another build of {target.dataset} ({theirs}); the one given is {given}, for "
            "which its predictions are made again"
        )
        return []
    version = target.content.partition(":")[0]
    if version != str(VERSION):
        message = (
            f"`benchmark.content` is of version {version} of the identity, and this program computes version "
            f"{VERSION}: run this program's `tiktok-dm submit new` again"
        )
        return [card.problem(("benchmark", "content"), message)]
    problems = _other_build(card, opened, f"another build of {target.dataset} ({theirs}; the one given is {given})")
    if not problems:
        notes.append(
            "the dataset at hand is another build of it with the same content within tolerance: this one is "
            f"{given}, and it was made for {theirs}"
        )
    return problems


def _other_build(card: CardFile, opened: OpenBenchmark, which: str) -> list[Problem]:
    """What keeps the dataset at hand from having the content that a submission's `reference.csv` says.

    Nothing vouches for that file, and nothing has to: one that was made up can only get music let in that was made for
    other content, and all scores are computed from the dataset at hand.
    """
    path = card.folder / REFERENCE
    if not path.exists():
        message = (
            f"it was made for {which}, and without {REFERENCE} beside the card nobody can tell whether both hold the "
            "same: run `tiktok-dm submit new` again with the dataset that it was made for, which writes that file"
        )
        return [card.problem(("benchmark", "content"), message)]
    try:
        sketches, problems = read_sketches(path, f"{card.label}/{REFERENCE}")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    if problems:
        return problems
    found = differences(sketches, opened.reference.items)
    if found:
        message = (
            f"it was made for {which}, and the one given holds something else: {describe(found)}; let the system make "
            "its music for this one, and submit that"
        )
        return [card.problem(("benchmark", "content"), message)]
    return []


def _rows(
    card: CardFile, entries: Sequence[Entry], opened: OpenBenchmark, good: dict[tuple[int, str], Entry]
) -> list[Problem]:
    """Each test id exactly once a seed, at the right rate and length; rows worth a look go into `good`."""
    name = f"{card.label}/{MANIFEST}"
    samples = opened.samples
    declared = sorted(set(card.submission.seeds)) if card.submission else sorted({entry.seed for entry in entries})
    problems = []
    for entry in entries:
        if entry.id not in samples:
            near = difflib.get_close_matches(entry.id, samples, 1)
            advice = f"the nearest is {near[0]}" if near else f"ids look like {next(iter(samples))}"
            message = f"{entry.id!r} is no id of the test split: {advice}"
            problems.append(Problem(name, entry.line, "id", message))
        elif entry.seed not in declared:
            message = f"seed {entry.seed} is not among the `seeds` of the card ({', '.join(map(str, declared))})"
            problems.append(Problem(name, entry.line, "seed", message))
        elif (entry.seed, entry.id) in good:
            before = good[entry.seed, entry.id].line
            message = f"{entry.id} of seed {entry.seed} is on line {before} already: leave one of them"
            problems.append(Problem(name, entry.line, "id", message))
        else:
            good[entry.seed, entry.id] = entry
            if entry.sample_rate != SAMPLE_RATE:
                problems.append(Problem(name, entry.line, "sample_rate", _rate(entry.sample_rate)))
            wrong = _length(entry.samples, samples[entry.id])
            if wrong is not None:
                problems.append(Problem(name, entry.line, "samples", wrong))
    for seed in declared:
        missing = [key for key in samples if (seed, key) not in good]
        if missing:
            shown = ", ".join(missing[:_MANY]) + (f" and {len(missing) - _MANY} more" if len(missing) > _MANY else "")
            message = f"seed {seed} has no row for {len(missing)} of {len(samples)} test ids: {shown}"
            problems.append(Problem(name, None, None, message))
    return problems


def _rate(rate: int) -> str:
    return (
        f"the rate is {rate} Hz and must be {SAMPLE_RATE}: resample the music yourself, and say so in `post_processing`"
    )


def _length(samples: int, wanted: int) -> str | None:
    if abs(samples - wanted) <= _TOLERANCE:
        return None
    how = "shorter" if samples < wanted else "longer"
    return (
        f"{samples} samples are {abs(samples - wanted) / SAMPLE_RATE:.2f} s {how} than the reference's {wanted}, and "
        f"{SHORT_TOLERANCE_S:g} s are allowed"
    )


# ------------------------------------------------------------------------------------------- listening


def check_sounds(checked: Checked, benchmark: OpenBenchmark) -> list[Problem]:
    """Each file a mono 16-bit, 24-bit or float wav of 22,050 Hz, as long as said, finite, and no copy."""
    name = f"{label(checked.folder)}/{MANIFEST}"
    again = checked.submission is not None and checked.submission.is_baseline
    problems = []
    silent: Counter[int] = Counter()
    items = benchmark.reference.items
    for seed, paths in checked.files.paths.items():
        sounds: dict[str, np.ndarray] = {}
        for key, path in paths.items():
            entry = checked.entries[seed, key]
            heard = _heard(path, None if again else entry, benchmark.samples[key])
            wrong = None
            if isinstance(heard, tuple):
                wrong = heard
            else:
                silent[seed] += not heard.any()
                copied = benchmark.known.find(heard, items[key])
                wrong = None if copied is None else ("id", copied)
                if copied is None:
                    sounds[key] = heard
            if wrong is not None:
                column, message = wrong
                problems.append(Problem(name, entry.line, column, f"{seed}/{key}.wav: {message}"))
        edited = {} if again else benchmark.known.find_edited(sounds, items)
        if len(edited) >= max(min(2, len(paths)), EDITED_SHARE * len(paths)):
            for key, message in edited.items():
                line = checked.entries[seed, key].line
                problems.append(Problem(name, line, "id", f"{seed}/{key}.wav: {message}"))
        elif edited:
            checked.notes.append(
                f"seed {seed}: {len(edited)} of {len(paths)} files resemble the dataset's music, which is no more than "
                f"other music of its kind does (about {EDITED_BY_CHANCE:.0%}); they are scored"
            )
    checked.notes += [
        f"seed {seed}: {count} of {len(checked.files.paths[seed])} files are silent; they are scored"
        for seed, count in sorted(silent.items())
        if count
    ]
    return problems + _same_seeds(checked.files.digests, name)


def _heard(path: Path, entry: Entry | None, wanted: int) -> np.ndarray | tuple[str, str]:
    """The samples, or the column and what is wrong."""
    import soundfile

    try:
        info = soundfile.info(path)
        if info.format not in ("WAV", "WAVEX"):
            return "id", f"it is {info.format} inside: write a wav file"
        if info.channels != 1:
            return "id", f"it has {info.channels} channels: mix it down to one yourself"
        if info.samplerate != SAMPLE_RATE:
            return "sample_rate", _rate(info.samplerate)
        if entry is not None and info.frames != entry.samples:
            return "samples", f"it holds {info.frames} samples and the manifest says {entry.samples}"
        message = _length(info.frames, wanted)
        if message:
            return "samples", message
        sound, _ = soundfile.read(path, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        return "id", f"it cannot be read as sound ({error})"
    bad = int((~np.isfinite(sound)).sum())
    if bad:
        return "id", f"{bad} of its {len(sound)} samples are NaN or infinite"
    return sound


def _same_seeds(digests: Mapping[int, Mapping[str, str]], name: str) -> list[Problem]:
    """Seeds whose files are all alike."""
    seeds = sorted(digests)
    problems = []
    for k, seed in enumerate(seeds):
        before = next((one for one in seeds[:k] if digests[one] == digests[seed]), None)
        if before is not None:
            message = (
                f"seeds {before} and {seed} have the very same files: a system without randomness is submitted with "
                "one seed and `standing: deterministic`"
            )
            problems.append(Problem(name, None, "seed", message))
    return problems
