"""Reference and generated music, paired by id, with every problem named. Never by the order of files.

A reference is a folder of sound files (an id is a file's name without its ending) or a built dataset, whose rows bring
song, poses, beats and the rest along: of its configuration `clips` the ids are `clip_000012`, of `segments` the
published segment ids. Generated music is a folder of sound files named by these ids; for clips a bare clip id (`12`)
also does.

Not for what a dataset's rows bring along (`reference`), nor for measuring sounds (`clip_features`): problems that only
decoding shows are added there and in `evaluate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tiktok_dm.benchmark.clip_features import Audio
from tiktok_dm.benchmark.reference import Item, Reference, clip_name, read_dataset
from tiktok_dm.errors import Problem, ProblemsError, UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff")
"""Files with another ending are no music and are left alone."""
SHORT_TOLERANCE_S = 0.05
"""Music that ends this much before its reference is not called short: codecs make whole hops."""

FATAL = ("missing", "unreadable", "empty", "non-finite", "ambiguous")
"""Problems with which there is no score for an id; the others are told of and scored."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with one id.

    Args:
        kind: `missing`, `extra`, `ambiguous`, `short`, `silent`, `empty`, `unreadable`, `non-finite`.
        id: which.
        message: what it is and what follows, in words.
    """

    kind: str
    id: str
    message: str

    @property
    def fatal(self) -> bool:
        """Whether the id has no score."""
        return self.kind in FATAL

    def __str__(self) -> str:
        return f"{self.id}: {self.kind}: {self.message}"


# ------------------------------------------------------------------------------------------- folders


def sound_files(folder: Path) -> tuple[dict[str, Path], list[Finding]]:
    """The sound files of a folder (not of its subfolders) by id, and the ids that two files share.

    Raises:
        UserError: no such folder, or no sound file in it.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give the folder that holds the sound files")
    paths = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    paths = [path for path in paths if path.is_file()]
    if not paths:
        raise UserError(f"{folder} holds no sound file ({', '.join(SUFFIXES)}): give the folder that holds the music")
    found: dict[str, Path] = {}
    findings = []
    for path in paths:
        if path.stem in found:
            message = f"both {found[path.stem].name} and {path.name} have this id: leave one of them"
            findings.append(Finding("ambiguous", path.stem, message))
        found[path.stem] = path
    return found, findings


def read_reference(
    source: Path, *, split: str = "test", config: str | None = None, generated: Iterable[str] = ()
) -> Reference:
    """References of a folder of sound files or of a built dataset.

    Args:
        source: the folder; one with `data/` and `README.md` is a dataset.
        split: of a dataset: `test`, `train`, `validation` or `all`.
        config: of a dataset: `clips` or `segments`; None: what the generated ids look like.
        generated: ids of the generated music.

    Raises:
        UserError: nothing there, no such split or configuration; two references with one id.
    """
    if not source.is_dir():
        raise UserError(f"there is no reference at {source}: give a folder of sound files or a built dataset")
    if (source / "data").is_dir() and (source / "README.md").is_file():
        return read_dataset(source, split, config or _config_of(generated, source))
    files, findings = sound_files(source)
    if findings:
        raise _all(findings, f"the reference {source} is not usable")
    return Reference(
        {name: Item(name, path) for name, path in files.items()},
        f"{len(files)} sound files in {source.name}",
        notes=(
            "the reference is a folder of sound files: without a dataset there are no songs (intervals are over single "
            "clips), no poses (no beat alignment) and no breakdowns",
        ),
    )


def _config_of(generated: Iterable[str], source: Path) -> str:
    names = list(generated)
    if names:
        segments = sum(_is_segment(name) for name in names)
        return "segments" if 2 * segments > len(names) else "clips"
    return "clips" if (source / "data" / "clips").is_dir() else "segments"


def _is_segment(name: str) -> bool:
    """Also AIST++'s, whose dances have names of their own: `gBR_sBM_c01_d04_mBR0_ch02_seg1`."""
    return re.fullmatch(r".+_seg[1-9][0-9]*", name) is not None


# ------------------------------------------------------------------------------------------- pairing


def pair(reference: Reference, generated: Mapping[str, Audio]) -> tuple[dict[str, Audio], list[Finding]]:
    """Generated music by the references' ids, and what is missing, extra or there twice.

    Args:
        generated: sounds by id; `12`, `000012` and `clip_12` mean `clip_000012` where the reference has that.

    Raises:
        UserError: not one id is shared: most probably the wrong folder.
    """
    found: dict[str, Audio] = {}
    names: dict[str, str] = {}
    findings = []
    for name, sound in generated.items():
        key = _canonical(name, reference.items)
        if key is None:
            findings.append(Finding("extra", name, "the reference has no such id; it is not scored"))
        elif key in found:
            findings.append(Finding("ambiguous", key, f"{names[key]} and {name} both mean this id: leave one of them"))
        else:
            found[key], names[key] = sound, name
    if not found:
        raise UserError(
            f"no generated file has an id of the reference ({reference.name}): its ids look like "
            f"{next(iter(reference.items))}, those given like {next(iter(generated), 'nothing')}"
        )
    for key in reference.items:
        if key not in found:
            findings.append(Finding("missing", key, "there is no generated file of this id"))
    return found, findings


_CLIP = re.compile(r"(?:clip_)?([0-9]+)")


def _canonical(name: str, known: Mapping[str, Item]) -> str | None:
    if name in known:
        return name
    match = _CLIP.fullmatch(name)
    if match is not None and clip_name(int(match[1])) in known:
        return clip_name(int(match[1]))
    return None


def stop_for(findings: Sequence[Finding], summary: str) -> None:
    """Raise when a finding leaves an id without a score, and name all findings at once.

    Raises:
        ProblemsError: any is fatal.
    """
    if any(finding.fatal for finding in findings):
        raise _all(findings, summary)


def _all(findings: Sequence[Finding], summary: str) -> ProblemsError:
    problems = [Problem(finding.id, None, None, f"{finding.kind}: {finding.message}") for finding in findings]
    return ProblemsError(problems, summary)
