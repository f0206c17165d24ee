"""What goes out to other people's tools and comes home from them: clips of films, and stretches of them.

What Label Studio (`tiktok_dm.curate.exchange.label_studio`) and ELAN (`tiktok_dm.curate.exchange.elan`) have in common,
whichever way it goes (`exchange_out`, `exchange_home`). A tool's clock is coarser than the annotations (frames,
milliseconds): a time that comes back as it went out keeps its exact value.

Not for the formats themselves, and not for the authors' tables (`tiktok_dm.annotations.author_file`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from tiktok_dm.annotations.tables import read_annotations
from tiktok_dm.curate.proposals import VALUES, Proposals, empty_proposals, read_proposals


@dataclass(frozen=True)
class TimedClip:
    """One clip that goes out.

    Args:
        confidence: of each of `VALUES` that has one, 0..1.
        reason: why, in words, of each of `VALUES` that has one.
        review: `accepted`, `mended`, `open` (proposed, and nobody looked yet), or empty where a person wrote the clip.
    """

    clip_id: int
    song_id: int
    start_s: float
    end_s: float
    n_dancers: int | None = None
    song_title: str = ""
    confidence: Mapping[str, float] = field(default_factory=dict)
    reason: Mapping[str, str] = field(default_factory=dict)
    review: str = ""

    @property
    def reviewed(self) -> bool:
        return self.review != "open"

    def reasons(self) -> str:
        """All reasons as one text: `start: ...; song: ...`."""
        return "; ".join(f"{value}: {self.reason[value]}" for value in VALUES if self.reason.get(value))


@dataclass(frozen=True)
class Film:
    """One compilation that goes out, with its clips that have times, in order of time.

    Args:
        file: name of its video file; empty where it is not known.
        path: where that file lies, if `media` was given and it is there.
        fps: frames a second, None where not known.
    """

    compilation_id: int
    title: str
    file: str
    url: str
    path: Path | None
    fps: Fraction | None
    clips: tuple[TimedClip, ...]


@dataclass(frozen=True)
class Region:
    """One stretch of a compilation that came back.

    Args:
        clip_id: as written in the tool; None for a stretch that was added there.
        song_id, n_dancers: None where nothing is written.
        rate: ticks a second of the tool's clock: both times are whole numbers of them.
        slack: ticks that the tool's own rounding may have moved a time by.
        where: in which file and place, for sentences.
        seen: a person handed it in, so that an unchanged clip counts as accepted.
    """

    compilation_id: int
    clip_id: int | None
    start_s: float
    end_s: float
    song_id: int | None
    n_dancers: int | None
    rate: Fraction
    where: str
    slack: int = 0
    seen: bool = False


def ticks(seconds: float, rate: Fraction) -> int:
    """The instant nearest to `seconds` on a clock of `rate` ticks a second."""
    return round(Fraction(seconds) * rate)


def seconds(count: int, rate: Fraction) -> float:
    """The inverse of `ticks`, to the microsecond."""
    return round(float(count / rate), 6)


def cell_text(value: object) -> str:
    """A cell of a table as text; empty where it is."""
    import pandas as pd

    return "" if pd.isna(value) else str(value)  # type: ignore[call-overload]


def read_folder(folder: Path | str) -> Proposals:
    """A folder of annotations, with proposals where there are any; one without is only read, never locked."""
    if (Path(folder) / "proposals.csv").exists():
        return read_proposals(folder)
    annotations = read_annotations(folder, with_splits=False)
    return replace(empty_proposals(folder), annotations=annotations)


def listed(values: Iterable[object], most: int = 20) -> str:
    """The first few of `values` for a sentence, and how many more there are."""
    words = [str(value) for value in values]
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
