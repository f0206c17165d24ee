"""`d2m codec`: fetch the public checkpoint, train a codec, report on one. Thin; heavy imports wait inside."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

app = typer.Typer(help="The audio codec: fetch, train, report.", no_args_is_help=True)

_PLAIN_EVERY_S = 5.0


class LoopProgress:
    """A bar on a terminal, a line now and then elsewhere; standard output stays for results.

    Args:
        in_bytes: what is counted is bytes, not steps.
    """

    def __init__(self, in_bytes: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True)
        self.in_bytes = in_bytes
        self._bar: Any = None
        self._task: Any = None
        self._text = ""
        self._last = self._started = time.monotonic()
        self._first: int | None = None

    def __enter__(self) -> LoopProgress:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        if self.console.is_terminal:
            count = DownloadColumn() if self.in_bytes else MofNCompleteColumn()
            columns = (BarColumn(), count, TimeRemainingColumn(), TextColumn("[dim]{task.fields[text]}"))
            self._bar = Progress(*columns, console=self.console)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line of its own."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def step(self, done: int, steps: int, losses: dict[str, float]) -> None:
        """So far it has come; losses that are not read leave the last ones standing."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._started = done, now
        if losses:
            names = ("total", "waveform", "spectral", "commitment", "perplexity")
            self._text = ", ".join(f"{name} {losses[name]:.3g}" for name in names if name in losses)
        if self._bar is not None:
            if self._task is None:
                self._task = self._bar.add_task("", total=steps, completed=done, text=self._text)
            self._bar.update(self._task, completed=done, text=self._text)
        elif done == steps or now - self._last >= _PLAIN_EVERY_S:
            self._last = now
            count = f"{done / 1e6:.1f} of {steps / 1e6:.1f} MB" if self.in_bytes else f"step {done} of {steps}"
            parts = [count, self._text]
            if steps > done > self._first:
                parts.append(f"about {(steps - done) * (now - self._started) / (done - self._first):.0f} s left")
            print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A name that `d2m configs` lists (demo), or a YAML file of your own.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value on top, e.g. audio=DIR codec.width=16.")
    ] = None,
) -> None:
    """Train one level of a codec; the same command again goes on where it stopped."""
    from d2m_model.codec.training import train_codec
    from d2m_model.codec.training_config import read_codec_training_config

    told = read_codec_training_config(config, overrides or [])
    with LoopProgress() as progress:
        out = train_codec(told, progress)
    typer.echo(f"{out / 'best'}")


@app.command()
def report(
    codec: Annotated[Path, typer.Argument(help="A codec folder, or JukeBox's vqvae.pth.tar.")],
    audio: Annotated[Path, typer.Argument(help="A sound file, a folder of them, or a built dataset.")],
    level: Annotated[str, typer.Option(help="high or low; a codec folder's own if left, high for a checkpoint.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How well a codec gives sound back: SI-SDR, log-mel distance, use of the code-book; per sound and mean."""
    from d2m_model.codec.quality import describe, measure, open_for_report, quality_json
    from d2m_model.codec.training_data import read_sounds

    opened = open_for_report(codec, level)
    sounds, mean = measure(opened, ((sound.name, sound.audio()) for sound in read_sounds(audio)))
    if as_json:
        typer.echo(json.dumps(quality_json(sounds, mean), indent=1))
        return
    for one in [*sounds, mean]:
        typer.echo(f"{one.name}: {one.seconds:.1f} s, {describe(one)}")
    if opened.licence:
        typer.echo(opened.licence)


@app.command()
def fetch(
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="You take the licence as it is.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; in the user's cache folder if left.")] = None,
    url: Annotated[str, typer.Option(help="A mirror to fetch it from; the public address if left.")] = "",
) -> None:
    """Fetch JukeBox's public VQ-VAE, whose licence allows non-commercial use only."""
    from d2m_model.codec.files import URL, default_path
    from d2m_model.codec.files import fetch as fetch_file
    from d2m_model.codec.jukebox import LICENCE

    with LoopProgress(in_bytes=True) as progress:
        place = out or default_path()
        path, sha256 = fetch_file(
            place,
            accept_licence=accept_licence,
            url=url or URL,
            progress=lambda done, total: progress.step(done, total or done, {}),
        )
    typer.echo(f"{path}\nSHA-256 {sha256}\n{LICENCE}")
