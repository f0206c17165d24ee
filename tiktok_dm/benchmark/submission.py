"""What a submission says of itself: `submission.yaml` as a schema, and `manifest.csv`, the list of its predictions.

Everything wrong with either is told at once, with its line. Not for the predictions (`submission_files`), not for
holding them against a dataset (`submission_check`), and never for scores: those are computed (`leaderboard`).
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import pydantic
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from tiktok_dm.errors import Problem, UserError

CARD = "submission.yaml"
MANIFEST = "manifest.csv"
FOLDER = "predictions"
COLUMNS = ("id", "seed", "sha256", "sample_rate", "samples")
MAIN_SEEDS = 3
"""A main-track submission has at least so many seeds."""
BLANK = "FILL IN"
"""What stands in a new skeleton where its author has to write something."""
NONE = "none"
"""What a link or a licence says where there is none."""

_MOST_CARD, _MOST_MANIFEST = 200_000, 50_000_000  # bytes
_TYPED_IN = ("score", "scores", "metric", "metrics", "result", "results", "evaluation")

# ------------------------------------------------------------------------------------------- kinds of values


def _text(value: str) -> str:
    if BLANK in value:
        raise ValueError("is not filled in yet: replace it")
    if not value.strip():
        raise ValueError("is empty: fill it in")
    if len(value) > 1000:
        raise ValueError(f"is {len(value)} characters long: 1,000 are enough")
    if any(ord(c) < 32 and c not in "\n\t" for c in value):
        raise ValueError("holds control characters: leave them out")
    return value.strip()


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?", value):
        raise ValueError(
            "is the name of a folder too: write up to 64 letters, digits, '.', '_' and '-', and a letter or digit at "
            "both ends"
        )
    return value


def _link(value: str) -> str:
    if value == NONE:
        return value
    try:
        parts = urlsplit(value)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f<>\"']", value):
        raise ValueError(f"must be a link that begins with https:// or http://, or {NONE}")
    return value


def _licence(value: str) -> str:
    if value == NONE:
        return value
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return canonicalize_license_expression(value)
    except InvalidLicenseExpression:
        raise ValueError(
            f"is {value!r}, which is no SPDX licence: write one such as MIT, Apache-2.0, CC-BY-4.0 or "
            f"LicenseRef-proprietary, or {NONE} where none is given"
        ) from None


def _commit(value: str) -> str:
    if value != NONE and not re.fullmatch(r"[0-9a-f]{7,64}", value):
        raise ValueError(f"must be a commit's 7 to 64 hexadecimal digits, or {NONE}")
    return value


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("must be a SHA-256 checksum, 64 lower-case hexadecimal digits")
    return value


def _subfolder(value: str) -> str:
    parts = Path(value).parts
    if not parts or Path(value).is_absolute() or ".." in parts:
        raise ValueError(f"must be a folder beside {CARD}, such as {FOLDER}")
    return value


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[str, AfterValidator(_text), AfterValidator(_name)]
Link = Annotated[str, AfterValidator(_text), AfterValidator(_link)]
Licence = Annotated[str, AfterValidator(_text), AfterValidator(_licence)]
Commit = Annotated[str, AfterValidator(_text), AfterValidator(_commit)]
Sha256 = Annotated[str, AfterValidator(_text), AfterValidator(_sha256)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# ------------------------------------------------------------------------------------------- the schema


class Code(_Part):
    """Where the system's code is; `none` for both where it is not public."""

    url: Link
    commit: Commit


class Licences(_Part):
    """SPDX licences of the code and of the predicted music."""

    code: Licence
    predictions: Licence


class Pretrained(_Part):
    """A part that was trained before, on other data: a codec, an encoder, a language model."""

    name: Text
    source: Link
    licence: Licence
    trained_on: Text


class TrainingSet(_Part):
    """Data that the system was trained on; `split: all` of a data set without splits."""

    name: Text
    split: Text


class TrainingData(_Part):
    """All of them, and the declaration of overlap with the test split, with how it was looked for."""

    sets: list[TrainingSet]
    overlap: Literal["none", "possible", "known"]
    overlap_note: Text


class Benchmark(_Part):
    """The benchmark: a dataset's name, the checksum of its manifest (`open_benchmark.identity`), what is scored."""

    dataset: Text
    manifest_sha256: Sha256
    split: Literal["test"]
    config: Literal["clips", "segments"]


class Predictions(_Part):
    """Where the predictions are: in a folder, in an archive at a URL, or made again by a command of this program."""

    folder: Annotated[str, AfterValidator(_text), AfterValidator(_subfolder)] | None = None
    url: Link | None = None
    sha256: Sha256 | None = None
    generate: Text | None = None
    baseline: Text | None = None

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> Predictions:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"folder"}, {"url", "sha256"}, {"generate", "baseline"}):
            raise ValueError(
                "must name one place: `folder`, or `url` with `sha256`, or `generate` with `baseline`; it has "
                + (" and ".join(sorted(given)) or "nothing")
            )
        if self.url == NONE:
            raise ValueError("needs the link of an archive under `url`")
        if self.generate is not None:
            _ = self.codec
        return self

    @property
    def codec(self) -> str:
        """Codec of the command under `generate`, as `tiktok-dm baselines --codec` takes it.

        Raises:
            ValueError: another command than the one that is allowed.
        """
        words = shlex.split(self.generate or "")
        options = dict(zip(words[3::2], words[4::2], strict=False))
        codec = options.get("--codec", NONE)
        allowed = {"--out": "OUT", "--seed": "SEED", "--codec": codec}
        if (
            words[:3] != ["tiktok-dm", "baselines", "DATASET"]
            or len(words) % 2 == 0
            or any(allowed.get(name) != value for name, value in options.items())
            or not re.fullmatch(r"none|aac:[0-9]{1,3}", codec)
        ):
            raise ValueError(
                "can only be made again by `tiktok-dm baselines DATASET --out OUT --seed SEED` (and `--codec aac:32`), "
                "with these very words in capitals; no other command of a submission is run"
            )
        return codec


class Submission(_Part):
    """One version of one system; see `submissions/README.md` for what each field is about."""

    system: Name
    version: Name
    authors: Annotated[list[Text], Field(min_length=1)]
    paper: Link
    code: Code
    licence: Licences
    track: Literal["closed", "open"]
    standing: Literal["main", "deterministic", "secondary"]
    pretrained: list[Pretrained]
    training_data: TrainingData
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    parameters: Annotated[int, Field(ge=0)]
    hardware: Text
    real_time_factor: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    post_processing: list[Text]
    benchmark: Benchmark
    predictions: Predictions

    @property
    def is_baseline(self) -> bool:
        """Whether its predictions are one of this program's own baselines."""
        return self.predictions.generate is not None

    def card(self) -> dict[str, Any]:
        """Everything it says, as plain JSON types."""
        return self.model_dump(mode="json", exclude_none=True)


# ------------------------------------------------------------------------------------------- submission.yaml

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class CardFile:
    """`submission.yaml` of a folder.

    Args:
        folder: that it lies in.
        submission: what it says; None where it cannot be made sense of.
        problems: everything wrong with it, in the order of its lines.
        lines: line of each key.
    """

    folder: Path
    submission: Submission | None
    problems: list[Problem]
    lines: Mapping[Place, int]

    @property
    def label(self) -> str:
        """What messages call the submission."""
        return label(self.folder)

    def problem(self, place: Place, message: str) -> Problem:
        """A problem with one of its fields."""
        return Problem(f"{self.label}/{CARD}", _line(self.lines, place), None, message)


def label(folder: Path) -> str:
    """`<system>/<version>`."""
    return f"{folder.parent.name}/{folder.name}"


def read_card(folder: Path) -> CardFile:
    """`submission.yaml` of a folder, and everything wrong with it.

    Raises:
        UserError: there is no such file.
    """
    path = folder / CARD
    name = f"{label(folder)}/{CARD}"
    try:
        data, lines, problems = _load_yaml(path, name)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): `tiktok-dm submit new` makes one"
        ) from error
    submission = None
    if data is not None:
        try:
            submission = Submission.model_validate(data)
            problems += [Problem(name, _line(lines, place), None, text) for place, text in _rules(submission, folder)]
        except pydantic.ValidationError as error:
            problems += [_problem(dict(one), lines, name) for one in error.errors()]
    problems = sorted(set(problems), key=lambda problem: (problem.row or 0, problem.message))
    return CardFile(folder, submission, problems, lines)


def _rules(submission: Submission, folder: Path) -> Iterator[tuple[Place, str]]:
    """What no single field can be asked for."""
    if folder.name != submission.version:
        yield (
            ("version",),
            f"`version` is {submission.version!r} and the folder is {folder.name!r}: make them the same",
        )
    if folder.parent.name != submission.system:
        yield (
            ("system",),
            f"`system` is {submission.system!r} and the folder above is {folder.parent.name!r}: make them the same",
        )
    seeds = submission.seeds
    if len(set(seeds)) != len(seeds):
        yield ("seeds",), "`seeds` names a seed twice: name each once"
    if submission.standing == "main" and len(set(seeds)) < MAIN_SEEDS:
        yield (
            ("seeds",),
            f"`seeds` has {len(set(seeds))} and the main track wants at least {MAIN_SEEDS}: add some, or write "
            "`standing: secondary` (or `deterministic`, for a system that has no randomness)",
        )
    if submission.standing == "deterministic" and len(seeds) != 1:
        yield ("seeds",), f"`seeds` has {len(seeds)}, but a deterministic system has one result: name one seed"
    if submission.track == "closed":
        others = [
            f"{one.name} {one.split}"
            for one in submission.training_data.sets
            if (one.name, one.split) != (submission.benchmark.dataset, "train")
        ]
        if submission.pretrained or others:
            what = ", ".join([*(part.name for part in submission.pretrained), *others])
            yield (
                ("track",),
                f"`track` is closed, which means the train split of {submission.benchmark.dataset} and nothing else, "
                f"but there is also {what}: write `track: open`",
            )
    if submission.is_baseline:
        from tiktok_dm.benchmark.baselines import TITLES

        if submission.predictions.baseline not in TITLES:
            yield (
                ("predictions", "baseline"),
                f"`predictions.baseline` is {submission.predictions.baseline!r}: take one of {', '.join(TITLES)}",
            )


def _load_yaml(path: Path, name: str) -> tuple[Any, dict[Place, int], list[Problem]]:
    """The file's data (None where it cannot be parsed), the line of each of its keys, and keys that come twice."""
    with open(path, "rb") as file:
        raw = file.read(_MOST_CARD + 1)
    if len(raw) > _MOST_CARD:
        return None, {}, [Problem(name, None, None, f"it is larger than {_MOST_CARD:,} bytes: it is a short card")]
    lines: dict[Place, int] = {}
    twice: list[Problem] = []

    def walk(node: yaml.Node, place: Place) -> None:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                word = str(key.value)
                if word in seen:
                    message = f"`{_dotted((*place, word))}` comes twice: leave one of them"
                    twice.append(Problem(name, key.start_mark.line + 1, None, message))
                seen.add(word)
                lines[(*place, word)] = key.start_mark.line + 1
                walk(value, (*place, word))
        elif isinstance(node, yaml.SequenceNode):
            for k, value in enumerate(node.value):
                lines[(*place, k)] = value.start_mark.line + 1
                walk(value, (*place, k))

    try:
        text = raw.decode("utf-8-sig")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            return None, {}, [Problem(name, None, None, "it uses YAML aliases (*name): write each value out")]
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                return (
                    None,
                    {},
                    [Problem(name, 1, None, "it is no list of `key: value` lines: see submissions/README.md")],
                )
            walk(node, ())
            return loader.construct_document(node), lines, twice
        finally:
            loader.dispose()
    except UnicodeDecodeError:
        return None, {}, [Problem(name, None, None, "it is not UTF-8 text: save it as UTF-8")]
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error) or "nested too deeply"
        return (
            None,
            {},
            [Problem(name, mark.line + 1 if mark else None, None, f"it is not valid YAML ({what}): mend this line")],
        )


_KINDS = {
    "string_type": "text (put it in quotes if it looks like a number or a date)",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list ([] for none)",
    "model_type": "a group of `key: value` lines",
    "model_attributes_type": "a group of `key: value` lines",
    "dict_type": "a group of `key: value` lines",
}


def _problem(error: Mapping[str, Any], lines: Mapping[Place, int], name: str) -> Problem:
    place: Place = tuple(error["loc"])
    where = f"`{_dotted(place)}`"
    kind, context = error["type"], error.get("ctx") or {}
    if error.get("input") == BLANK and kind != "missing":
        message = f"{where} is not filled in yet: replace it"
    elif kind == "missing":
        message = f"{where} is missing: every field is filled in"
    elif kind == "extra_forbidden":
        message = _unknown(place)
    elif kind in _KINDS:
        given = error.get("input")
        shown = "empty" if given is None else repr(given)[:60]
        message = f"{where} is {shown} and must be {_KINDS[kind]}"
    elif kind == "literal_error":
        message = f"{where} is {repr(error.get('input'))[:60]}: take {context['expected'].replace(chr(39), '')}"
    elif kind == "greater_than_equal":
        message = f"{where} is {error.get('input')} and must be at least {context['ge']}"
    elif kind == "too_short":
        message = f"{where} is an empty list: it needs at least {context['min_length']} entry"
    elif kind == "value_error":
        message = f"{where} {context['error']}"
    else:
        message = f"{where} is not usable: {str(error['msg'])[:1].lower()}{str(error['msg'])[1:]}"
    return Problem(name, _line(lines, place), None, message)


def _unknown(place: Place) -> str:
    """An unknown key, with the nearest one that there is."""
    word = str(place[-1])
    if len(place) == 1 and (word in _TYPED_IN or word in _metrics()):
        return f"`{word}` is not taken from a submission: the leaderboard computes every score itself; remove it"
    known = list(_model(place[:-1]).model_fields)
    near = difflib.get_close_matches(word, known, 1, 0.5)
    advice = f"the nearest is `{near[0]}`" if near else f"there are {', '.join(known)}"
    return f"there is no key `{_dotted(place)}`: {advice}"


def _metrics() -> set[str]:
    from tiktok_dm.benchmark.definitions import METRICS, SETS

    return {*METRICS, *SETS}


def _model(place: Place) -> type[BaseModel]:
    """The part of the schema at a place."""
    model: type[BaseModel] = Submission
    for word in place:
        if isinstance(word, int):
            continue
        kind: Any = model.model_fields[word].annotation
        inner = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)]
        if inner:
            model = inner[0]
    return model


def _dotted(place: Sequence[str | int]) -> str:
    text = ""
    for word in place:
        text += f"[{word}]" if isinstance(word, int) else f".{word}" if text else word
    return text


def _line(lines: Mapping[Place, int], place: Place) -> int | None:
    while place:
        if place in lines:
            return lines[place]
        place = place[:-1]
    return 1


# ------------------------------------------------------------------------------------------- manifest.csv


@dataclass(frozen=True)
class Entry:
    """One predicted file.

    Args:
        line: of `manifest.csv`, the header being 1.
        id: of the test split.
        seed: with which the system made it.
        sha256: of the file's bytes.
        sample_rate: Hz.
        samples: in the file.
    """

    line: int
    id: str
    seed: int
    sha256: str
    sample_rate: int
    samples: int


def read_manifest(folder: Path) -> tuple[list[Entry], list[Problem]]:
    """`manifest.csv` of a submission, and every row that cannot be read.

    Raises:
        UserError: there is no such file.
    """
    path = folder / MANIFEST
    name = f"{label(folder)}/{MANIFEST}"
    try:
        with open(path, "rb") as file:
            raw = file.read(_MOST_MANIFEST + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or error}): `tiktok-dm submit new` makes one"
        ) from error
    if len(raw) > _MOST_MANIFEST:
        return [], [Problem(name, None, None, f"it is larger than {_MOST_MANIFEST:,} bytes")]
    try:
        reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError:
        return [], [Problem(name, None, None, "it is not UTF-8 text: save it as UTF-8")]
    except csv.Error as error:
        return [], [Problem(name, reader.line_num, None, f"it is not valid CSV ({error}): mend this line")]
    if not rows or tuple(rows[0][1]) != COLUMNS:
        return [], [Problem(name, 1, None, f"its first line must be {','.join(COLUMNS)}")]
    entries: list[Entry] = []
    problems: list[Problem] = []
    for line, row in rows[1:]:
        if len(row) != len(COLUMNS):
            problems.append(Problem(name, line, None, f"it has {len(row)} fields and needs {len(COLUMNS)}"))
            continue
        cells = dict(zip(COLUMNS, row, strict=True))
        wrong = [
            (column, f"{cells[column]!r} is no whole number")
            for column in ("seed", "sample_rate", "samples")
            if not re.fullmatch(r"[0-9]{1,12}", cells[column])
        ]
        if not re.fullmatch(r"[0-9a-f]{64}", cells["sha256"]):
            wrong.append(("sha256", f"{cells['sha256'][:70]!r} is no SHA-256 checksum in lower case"))
        problems += [Problem(name, line, column, message) for column, message in wrong]
        if not wrong:
            entries.append(
                Entry(
                    line,
                    cells["id"],
                    int(cells["seed"]),
                    cells["sha256"],
                    int(cells["sample_rate"]),
                    int(cells["samples"]),
                )
            )
    return entries, problems


def manifest_text(entries: Sequence[Entry]) -> str:
    """`manifest.csv` of some entries, in the order of seed and id."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in sorted(entries, key=lambda entry: (entry.seed, entry.id)):
        writer.writerow([getattr(entry, column) for column in COLUMNS])
    return file.getvalue()
