"""Progress of a build: bars on a terminal, plain lines elsewhere. It draws; it decides nothing."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_PLAIN_EVERY_S = 5.0
_RATE_AFTER_S = 5.0  # what lay ready passes at once; a rate over less says nothing of the work to come


class BuildProgress:
    """One bar a stage, with the item in hand, the rate and the time left.

    Args:
        quiet: show nothing (a machine reads the result).
        console: where to draw; standard error by default, so that standard output stays for results.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._started: dict[str, float] = {}
        self._last_line = 0.0

    def __enter__(self) -> BuildProgress:
        if not self.quiet and self.console.is_terminal:
            self._bars = Progress(
                TextColumn("{task.description:<9}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:>10}"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[item]}"),
                console=self.console,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def expect(self, stage: str, total: int) -> None:
        """`total` items will pass this stage."""
        self._total[stage] = total
        self._done.setdefault(stage, 0)
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, item="", rate="")
            self._bars.update(self._tasks[stage], total=total)

    def advance(self, stage: str, item: str, note: str = "") -> None:
        """One more item has passed; `note` says what is out of the ordinary about it."""
        if self.quiet:
            return
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        self._done[stage] = done = self._done.get(stage, 0) + 1
        total = self._total.get(stage, done)
        rate = (done - 1) / (now - started) if now - started >= _RATE_AFTER_S else 0.0
        rate_text = (f"{rate:.0f}/s" if rate >= 10 else f"{rate * 60:.1f}/min") if rate else ""
        if self._bars is not None:
            if stage not in self._tasks:
                self.expect(stage, total)
            self._bars.update(self._tasks[stage], advance=1, item=item, rate=rate_text)
            if note:
                self._bars.console.print(f"{item}: {note}", style="yellow", highlight=False, markup=False)
            return
        if note:
            print(f"{item}: {note}", file=sys.stderr, flush=True)
        if done == total or now - self._last_line >= _PLAIN_EVERY_S:
            self._last_line = now
            left = f", about {(total - done) / rate:.0f} s left" if rate and total > done else ""
            print(
                f"{stage}: {done} of {total}, {item}" + (f", {rate_text}" if rate else "") + left,
                file=sys.stderr,
                flush=True,
            )

    def say(self, text: str) -> None:
        """A line that is not about one item."""
        if self.quiet:
            return
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)
