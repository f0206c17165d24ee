"""Annotations as ELAN documents (EAF 3.0), one a compilation, and corrected documents read back.

Tier `clip` holds the clips' ids over their times; `song`, `dancers`, `review`, `confidence` and `reason` hang on it, a
value a clip (Symbolic_Association), so that they move with it. Times are whole milliseconds, ELAN's unit.

Written and read with pympi-ling; the schema is http://www.mpi.nl/tools/elan/EAFv3.0.xsd. Not for Label Studio
(`tiktok_dm.curate.exchange.label_studio`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.exchange.base import Film, Region, TimedClip, seconds, ticks
from tiktok_dm.curate.proposals import VALUES
from tiktok_dm.errors import Problem, ProblemsError, UserError

if TYPE_CHECKING:
    from pympi import Eaf

CLIP, SONG, DANCERS, REVIEW, CONFIDENCE, REASON = "clip", "song", "dancers", "review", "confidence", "reason"
_DEPENDENT = (SONG, DANCERS, REVIEW, CONFIDENCE, REASON)
_RATE = Fraction(1000)
# ELAN's own words for containers; it calls every other video video/*.
_MIME = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg"}
_COMPILATION = "tiktok-dm:compilation_id"
# Required by the schema. The same annotations give the same bytes, so it is no time of writing.
_DATE = "2000-01-01T00:00:00+00:00"
# What XML 1.0 cannot hold, even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ID = re.compile(r"\s*(\d{1,9})(?:\s.*)?", re.DOTALL)


def file_name(compilation_id: int) -> str:
    return f"compilation_{compilation_id:06d}.eaf"


def elan_files(films: Sequence[Film]) -> tuple[dict[str, str], list[str]]:
    """An EAF text for each compilation, by file name, and sentences about them."""
    notes = []
    files = {}
    for film in films:
        if not film.file:
            notes.append(f"compilation {film.compilation_id} has no file: ELAN will ask for its video")
        files[file_name(film.compilation_id)] = eaf_text(film)
    return files, notes


def eaf_text(film: Film) -> str:
    """One compilation as the text of an EAF file."""
    Eaf, to_string = _pympi()
    eaf = Eaf(author="tiktok-dm")
    eaf.adocument.update(
        {
            "DATE": _DATE,
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xsi:noNamespaceSchemaLocation": "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
        }
    )
    eaf.header = {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    if film.file:
        relative = f"./{quote(film.file)}"
        place = film.path.resolve().as_uri() if film.path is not None else relative
        mime = _MIME.get(Path(film.file).suffix.lower(), "video/*")
        eaf.add_linked_file(place, relpath=relative, mimetype=mime)
    eaf.remove_tier("default")
    eaf.remove_linguistic_type("default-lt")
    eaf.add_linguistic_type("clip", timealignable=True)
    eaf.add_linguistic_type("value", constraints="Symbolic_Association", timealignable=False)
    eaf.add_tier(CLIP, ling="clip")
    for tier in _DEPENDENT:
        eaf.add_tier(tier, ling="value", parent=CLIP)
    before = 0
    for clip in film.clips:
        # Clips may overlap by a millisecond of rounding, annotations of one tier may not.
        start = max(before, ticks(clip.start_s, _RATE))
        end = max(start + 1, ticks(clip.end_s, _RATE))
        before = end
        _add(eaf, clip, start, end)
    eaf.properties = [(_COMPILATION, film.compilation_id), ("lastUsedAnnotationId", eaf.maxaid)]
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{to_string(eaf).rstrip()}\n'


def _add(eaf: Eaf, clip: TimedClip, start: int, end: int) -> None:
    eaf.add_annotation(CLIP, start, end, str(clip.clip_id))
    parent = next(reversed(eaf.tiers[CLIP][0]))
    confidence = " ".join(f"{value} {clip.confidence[value]:.2f}" for value in VALUES if value in clip.confidence)
    values = {
        SONG: f"{clip.song_id} {clip.song_title}".strip(),
        DANCERS: "" if clip.n_dancers is None else str(clip.n_dancers),
        REVIEW: clip.review,
        CONFIDENCE: confidence,
        REASON: clip.reasons(),
    }
    for tier, text in values.items():
        if text:
            number = eaf.generate_annotation_id()
            eaf.annotations[number] = tier
            eaf.tiers[tier][1][number] = (parent, _NOT_XML.sub("", text), None, None)


def _pympi() -> tuple[Any, Any]:
    try:
        from pympi.Elan import Eaf, to_string
    except ModuleNotFoundError as error:
        raise UserError(f"ELAN's files need {error.name}: run pip install pympi-ling") from None
    return Eaf, to_string


# ------------------------------------------------------------------------------------------- home


def read_elan(path: Path | str, base: Annotations) -> tuple[list[Region], list[str]]:
    """The clips in an EAF file, or in all EAF files of a folder, and sentences about them.

    Args:
        base: the annotations that were exported.

    Raises:
        UserError: no such file, or none in the folder.
        ProblemsError: files that cannot be understood, all of them.
    """
    place = Path(path)
    paths = sorted(place.glob("*.eaf")) if place.is_dir() else [place]
    if not paths:
        raise UserError(f"{place} holds no .eaf file: give the folder that was exported, or one file")
    regions: list[Region] = []
    problems: list[Problem] = []
    owners: dict[int, str] = {}
    for file in paths:
        try:
            number, found = _read_one(file, base)
            if number in owners:
                raise UserError(f"is compilation {number}, as {owners[number]} is: leave one of them")
            owners[number] = file.name
            regions += found
        except UserError as error:
            problems.append(Problem(file.name, None, None, str(error)))
    if problems:
        raise ProblemsError(problems)
    return regions, []


def _read_one(file: Path, base: Annotations) -> tuple[int, list[Region]]:
    Eaf, _ = _pympi()
    if not file.is_file():
        raise UserError("does not exist: give a file that ELAN saved")
    try:
        eaf = Eaf(str(file), suppress_version_warning=True)
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror}): look at who may read it") from None
    except Exception as error:  # pympi raises whatever its parser meets
        raise UserError(f"is not an EAF file ({error}): save it again in ELAN") from None
    number = _compilation(eaf, base)
    if CLIP not in eaf.tiers:
        raise UserError(f"has no tier {CLIP!r}: keep the names of the exported tiers")
    hung: dict[str, dict[str, str]] = {}  # parent annotation -> tier -> value
    for tier in _DEPENDENT:
        for parent, value, *_ in eaf.tiers[tier][1].values() if tier in eaf.tiers else ():
            hung.setdefault(parent, {})[tier] = value
    # Where a document was given an offset (Media Synchronisation), its time 0 is that instant of the video.
    stated = next((m.get("TIME_ORIGIN") for m in eaf.media_descriptors[:1]), None) or 0
    try:
        origin = int(float(stated))
    except (ValueError, OverflowError):
        raise UserError(f"has a TIME_ORIGIN of {stated!r}, no number of milliseconds: save it again in ELAN") from None
    regions = []
    for annotation, (first, last, value, _) in eaf.tiers[CLIP][0].items():
        start, end = eaf.timeslots[first], eaf.timeslots[last]
        if start is None or end is None:
            raise UserError(f"annotation {annotation} of tier {CLIP!r} has no times: align it in ELAN")
        start, end = start + origin, end + origin
        if start < 0:
            raise UserError(f"annotation {annotation} of tier {CLIP!r} begins before the video does: move it in ELAN")
        where = f"{file.name}, clip at {start / 1000:g} s"
        values = hung.get(annotation, {})
        dancers = _number(values.get(DANCERS, ""), where, DANCERS)
        regions.append(
            Region(
                compilation_id=number,
                clip_id=_number(value, where, CLIP),
                start_s=seconds(start, _RATE),
                end_s=seconds(end, _RATE),
                song_id=_number(values.get(SONG, ""), where, SONG),
                n_dancers=dancers,
                rate=_RATE,
                where=where,
                slack=1,
            )
        )
    return number, regions


def _compilation(eaf: Any, base: Annotations) -> int:
    known = {int(number) for number in base.compilations.compilation_id}
    told = next((value for name, value in eaf.properties if name == _COMPILATION), None)
    if told is None:
        named = base.compilations[base.compilations.file.notna()]
        names = {str(name): int(number) for number, name in zip(named.compilation_id, named.file, strict=True)}
        linked = [unquote(str(m.get("MEDIA_URL", ""))).rsplit("/", 1)[-1] for m in eaf.media_descriptors]
        found = next((names[name] for name in linked if name in names), None)
        if found is None:
            raise UserError("names no compilation of the annotations: link its video, by the name in compilations.csv")
        return found
    if not str(told).strip().isdigit() or int(told) not in known:
        raise UserError(f"is of compilation {told}, which the annotations do not have: give the folder it came from")
    return int(told)


def _number(text: str, where: str, tier: str) -> int | None:
    """The number a value starts with (`3 Title` is 3); None for an empty one."""
    if not text.strip():
        return None
    match = _ID.fullmatch(text)
    if match is None:
        raise UserError(f"{where}: {text.strip()[:40]!r} in tier {tier!r} is no number: write it, or leave it empty")
    return int(match[1])
