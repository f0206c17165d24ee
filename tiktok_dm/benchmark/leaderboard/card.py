"""A submission's card read: `submission.yaml` held against its schema, and everything wrong with it at once, by line.

Not for what a card may say (`submission`), not for holding it against a dataset (`submission_check`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pydantic
import yaml
from pydantic import BaseModel

from tiktok_dm.benchmark.leaderboard.submission import BLANK, CARD, MAIN_SEEDS, Submission, label
from tiktok_dm.errors import Problem, UserError

_MOST = 200_000  # bytes
_DEEPEST = 20
_TOKENS = 20_000
_TYPED_IN = ("score", "scores", "metric", "metrics", "result", "results", "evaluation")

Place = tuple[str | int, ...]

_REPLACED = {("benchmark", "manifest_sha256"): ("benchmark", "content")}
"""Keys of older cards, and what stands in their place."""


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
            submission = _validated(data)
            problems += [Problem(name, _line(lines, place), None, text) for place, text in _rules(submission, folder)]
        except pydantic.ValidationError as error:
            # Whoever has the older key is told once, by that key.
            instead = {new for old, new in _REPLACED.items() if old in lines}
            errors = [dict(one) for one in error.errors() if one["type"] != "missing" or one["loc"] not in instead]
            problems += [_problem(one, lines, name) for one in errors]
    problems = sorted(set(problems), key=lambda problem: (problem.row or 0, problem.message))
    return CardFile(folder, submission, problems, lines)


def _validated(data: Any) -> Submission:
    """`data` against the schema; a value that Python itself stumbles over is text that is not usable."""
    try:
        return Submission.model_validate(data)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        if isinstance(error, pydantic.ValidationError):
            raise
        return Submission.model_validate({})


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
        raw = file.read(_MOST + 1)
    if len(raw) > _MOST:
        return None, {}, [Problem(name, None, None, f"it is larger than {_MOST:,} bytes: it is a short card")]
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
        if (refused := _refused(text)) is not None:
            return None, {}, [Problem(name, *refused)]
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
        what = " ".join((getattr(error, "problem", None) or str(error) or "nested too deeply").split())
        return (
            None,
            {},
            [Problem(name, mark.line + 1 if mark else None, None, f"it is not valid YAML ({what}): mend this line")],
        )


_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


def _refused(text: str) -> tuple[int, None, str] | None:
    """Line and reason where a card is more than a card, seen token by token before anything is built of it."""
    depth = 0
    for count, token in enumerate(yaml.scan(text, Loader=yaml.SafeLoader)):
        line = token.start_mark.line + 1
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            return line, None, "it uses YAML aliases (*name, &name): write each value out"
        if isinstance(token, yaml.TagToken | yaml.DirectiveToken):
            return line, None, "it uses YAML tags or directives (!name, %NAME): write plain values"
        if depth > _DEEPEST:
            return line, None, f"it is nested more than {_DEEPEST} levels deep: it is a short card"
        if count > _TOKENS:
            return line, None, f"it holds more than {_TOKENS:,} words: it is a short card"
    return None


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
    if place in _REPLACED:
        return (
            f"`{_dotted(place)}` was replaced by `{_dotted(_REPLACED[place])}`, which holds for every build with the "
            "same content: `tiktok-dm submit new` writes it"
        )
    known = list(_model(place[:-1]).model_fields)
    near = difflib.get_close_matches(word, known, 1, 0.5)
    advice = f"the nearest is `{near[0]}`" if near else f"there are {', '.join(known)}"
    return f"there is no key `{_dotted(place)}`: {advice}"


def _metrics() -> set[str]:
    from tiktok_dm.benchmark.metrics.definitions import METRICS, SETS

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
