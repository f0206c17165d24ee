"""The verbs `d2m train` and `d2m plot`. Not for what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[str, typer.Argument(help="A name that `d2m configs` lists, or a YAML file of your own.")],
    settings: Annotated[list[str] | None, typer.Argument(help="key=value on top of it (losses.mel=0).")] = None,
) -> None:
    """Train D2M-GAN, or go on with the run that is in the configuration's folder."""
    from d2m_model.training.config import read_training_config
    from d2m_model.training.trainer import train as run_training

    chosen = read_training_config(config, settings or ())
    shown = TrainingProgress(chosen.steps)
    try:
        run = run_training(chosen, shown)
    finally:
        shown.close()
    if shown.seen:
        typer.echo(f"{run}: {chosen.steps} steps; sample with `d2m sample {run / 'best'} VIDEO --out FOLDER`")


def plot(
    run: Annotated[Path, typer.Argument(help="A folder of `d2m train`.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write; RUN/losses.png if left.")] = None,
) -> None:
    """Draw every loss of a run against its steps."""
    from d2m_model.training.plot import plot as draw

    typer.echo(draw(run, out or run / "losses.png"))


class TrainingProgress:
    """A bar on a terminal, a line now and then elsewhere.

    Args:
        steps: of the whole training.
    """

    EVERY_S = 10.0

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.steps = steps
        self.seen = 0
        self.text = ""
        self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=Console(stderr=True))

    def __call__(self, done: int, losses: Mapping[str, float]) -> None:
        self.seen = done
        if losses:
            names = [name for name in losses if name not in ("learning_rate", "discriminator_gradient_norm")]
            self.text = "  ".join(f"{name} {losses[name]:.4g}" for name in names)
        if self._bar is not None:
            if not self._bar.tasks:
                self._bar.start()
                self._bar.add_task("", total=self.steps)
            self._bar.update(self._bar.tasks[0].id, completed=done, description=self.text)
        elif losses and (time.monotonic() - self._told >= self.EVERY_S or done in (1, self.steps)):
            self._told = time.monotonic()
            print(f"step {done}/{self.steps}  {self.text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None and self._bar.tasks:
            self._bar.stop()
