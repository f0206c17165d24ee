"""What verbs of several modules share: options that mean the same everywhere, exit codes, how a result is printed.

Not for what a verb does, and not for options of one module alone.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Workers = Annotated[int | None, typer.Option(help="Processes; all cores by default.", min=1)]

# Exit codes: 1 for what a user must mend, 3 where some items failed that are worth another try, and the rest is done.
SOME_FAILED = 3


def print_json(value: Any) -> None:
    """A verb's result on standard output, for programs to read."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def complain(sentence: str) -> None:
    """One sentence on standard error."""
    print(f"tiktok-dm: {sentence}", file=sys.stderr)


AllowPrivate = Annotated[
    bool,
    typer.Option("--allow-private-networks", help="Follow links to addresses that are not public, too."),
]
