"""What a build of AIST++ found: what `import.json` holds, and the same in sentences.

Not for finding it: that is `aist_segments` and `aist_clips`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiktok_dm.importers.segment_set import counted, examples


@dataclass(frozen=True)
class AistResult:
    """What came out.

    Args:
        counts: name, segments, clips, songs, splits, bytes, unchanged.
        report: as in `import.json`: camera; splits (sequences listed, segments, by_beats, published); missing (motion,
            sound, and video where visual features were asked for: names); broken (file, reason); other_length
            (sequence, segments, by_beats); ignored; clips_left_out.
    """

    out: Path
    counts: dict[str, Any]
    report: dict[str, Any]

    @property
    def complete(self) -> bool:
        """Whether there are as many segments as published, in both splits."""
        return all(part["segments"] == part["published"] for part in self.report["splits"].values())

    @property
    def failed(self) -> bool:
        """Whether files were broken: got again, they may give what is left out now."""
        return bool(self.report["broken"])

    def sentences(self) -> list[str]:
        """What was found, one sentence each, with examples."""
        report, out = self.report, []
        for split, part in report["splits"].items():
            found, wanted = part["segments"], part["published"]
            if found == wanted:
                out.append(f"{split}: {found:,} segments, as many as are published")
            else:
                out.append(
                    f"{split}: {found:,} segments where {wanted:,} are published; the {part['sequences']:,} sequences "
                    f"of the list have {part['by_beats']:,} by their beats"
                )
        for what, names in report["missing"].items():
            if names:
                out.append(f"{counted(names, 'sequence')} without {what}: {examples(names)}")
        for key, noun, words in (("broken", "broken file", ""), ("clips_left_out", "video", " that gave no clip")):
            told = [f"{entry['file']} ({entry['reason']})" for entry in report[key]]
            if told:
                out.append(f"{counted(told, noun)}{words}: {examples(told)}")
        told = [f"{e['sequence']} ({e['segments']} segments, {e['by_beats']} by beats)" for e in report["other_length"]]
        if told:
            out.append(f"{counted(told, 'sequence')} of another length than by the beats: {examples(told)}")
        if report["ignored"]:
            names = report["ignored"]
            out.append(f"{counted(names, 'sequence')} of AIST++'s ignore list left out: {examples(names)}")
        return out


@dataclass
class Findings:
    """What import.json says, as it is gathered."""

    camera: str
    splits: dict[str, dict[str, int]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=lambda: {"motion": [], "sound": []})
    broken: list[dict[str, str]] = field(default_factory=list)
    other_length: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    clips_left_out: list[dict[str, str]] = field(default_factory=list)


def reason(error: Exception, *paths: Path) -> str:
    """What is wrong with a file, without the folder that it is in: the report is published."""
    text = str(error)
    for path in paths:
        text = text.replace(str(path), path.name)
    return text
