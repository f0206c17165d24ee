"""What verbs of several modules share: options that mean the same everywhere, exit codes, how a result is printed.

Not for what a verb does, and not for options of one module alone.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    from tiktok_dm.pipeline.visual import VisualParams
    from tiktok_dm.visual.base import VisualSource

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Workers = Annotated[int | None, typer.Option(help="Processes; all cores by default.", min=1)]
AllowPrivate = Annotated[
    bool,
    typer.Option("--allow-private-networks", help="Follow links to addresses that are not public, too."),
]
seen_option = partial(typer.Option, rich_help_panel="Poses and visual features")
Visual = Annotated[
    str | None, seen_option(help="Also visual features of each segment: i3d, or a video model's hub id.")
]
VisualWeights = Annotated[
    list[Path] | None, seen_option(help="Folder or files with the weights for --visual; repeatable.")
]
VisualFlow = Annotated[str, seen_option(help="Optical flow for --visual i3d: tvl1, or raft for a GPU.")]
Device = Annotated[str, seen_option(help="Where networks for --visual run: auto, cpu, cuda, ...")]

STOPPED = "stopped; run the same command again to go on from here"

# Exit codes: 1 for what a user must mend, 3 where some items failed that are worth another try, and the rest is done.
SOME_FAILED = 3


def print_json(value: Any) -> None:
    """A verb's result on standard output, for programs to read."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def complain(sentence: str) -> None:
    """One sentence on standard error."""
    print(f"tiktok-dm: {sentence}", file=sys.stderr)


def visual_choice(
    extractor: str | None, files: list[Path] | None, flow: str, device: str
) -> tuple[VisualParams | None, VisualSource]:
    """The visual features that `--visual` and its companions ask for, tried before any work is done."""
    from tiktok_dm.pipeline.visual import VisualParams, extractor_of
    from tiktok_dm.visual.base import VisualSource

    weights = VisualSource(tuple(files or ()), device)
    if extractor is None:
        if files:
            raise UserError("--visual-weights goes with --visual: say which features, for instance --visual i3d")
        return None, weights
    seen = VisualParams(extractor=extractor, flow=flow)
    extractor_of(seen, weights)
    return seen, weights
