"""What a submission says of itself: the schema of its card, `submission.yaml`.

Not for reading a card and naming what is wrong with it (`submission_card`), and never for scores: those are computed
(`leaderboard`).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

CARD = "submission.yaml"
FOLDER = "predictions"
MAIN_SEEDS = 3
"""A main-track submission has at least so many seeds."""
BLANK = "FILL IN"
"""What stands in a new skeleton where its author has to write something."""
NONE = "none"
"""What a link or a licence says where there is none."""


def label(folder: Path) -> str:
    """`<system>/<version>`."""
    return f"{folder.parent.name}/{folder.name}"


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


def _content(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,3}:[0-9a-f]{64}", value):
        raise ValueError(
            "must be a version and a SHA-256 checksum, such as 1:9f86d0... with 64 lower-case hexadecimal digits; "
            "`tiktok-dm submit new` writes it, and `tiktok-dm stats` prints it"
        )
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
Content = Annotated[str, AfterValidator(_text), AfterValidator(_content)]
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
    """The benchmark: a dataset's name, the identity of its content (`content.content_identity`), what is scored."""

    dataset: Text
    content: Content
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
