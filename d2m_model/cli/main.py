"""The `d2m` command: train, plot, configurations, parity, shapes, conversion."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from d2m_model.cli.codec import app as codec
from d2m_model.cli.sample import sample
from tiktok_dm.errors import UserError, about_the_place
from tiktok_dm.runtime.command_help import describe_commands


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
        run = run_training(chosen, shown, lambda sentence: typer.echo(sentence, err=True))
    finally:
        shown.close()
    if shown.seen:
        # Without a validation there is no best.
        made = next(run / name for name in ("best", "last") if (run / name).is_dir())
        typer.echo(f"{run}: {chosen.steps} steps; sample with `d2m sample {made} VIDEO --out FOLDER`")


def plot(
    run: Annotated[Path, typer.Argument(help="A folder of `d2m train`.")],
    out: Annotated[Path | None, typer.Option(help="Picture to write; RUN/losses.png if left.")] = None,
) -> None:
    """Draw every loss of a run against its steps."""
    from d2m_model.training.plot import plot as draw

    typer.echo(draw(run, out or run / "losses.png"))


def memory(
    config: Annotated[str | None, typer.Argument(help="As for `d2m train`; all shipped ones if left.")] = None,
    settings: Annotated[list[str] | None, typer.Argument(help="key=value on top of it (batch=8).")] = None,
) -> None:
    """Count the memory that a training needs on each device, by precision and parts (accumulate), without a GPU."""
    from dataclasses import replace

    from d2m_model.configs import names
    from d2m_model.training.config import read_training_config
    from d2m_model.training.memory import step_memory

    typer.echo("GiB on each device, beside CUDA's own half; codec as large as JukeBox's")
    typer.echo(f"{'configuration':28} batch parts  between steps  at most: 32-true  bf16-mixed")
    for name in [config] if config is not None else names():
        one = read_training_config(name, settings or ())
        share = one.batch // (one.devices * one.nodes)
        parts = [one.accumulate] if config is None else [n for n in range(1, share + 1) if share % n == 0]
        for n in parts:
            made = [step_memory(replace(one, accumulate=n, precision=each)) for each in ("32-true", "bf16-mixed")]
            standing, whole, lower = (size / 2**30 for size in (made[0].standing, made[0].peak, made[1].peak))
            typer.echo(f"{name:28} {one.batch:5} {n:5}  {standing:13.2f}  {whole:16.2f}  {lower:10.2f}")


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


app = typer.Typer(help="D2M-GAN: music from dance.", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def _needs_torch(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(importlib.metadata.version("tiktok-dm"))
        raise typer.Exit
    if context.invoked_subcommand in ("configs", None):
        return
    missing = [name for name in ("torch", "safetensors") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"The model needs {' and '.join(missing)}: install the extra with pip install 'tiktok-dm[model]'."
        )


@app.command()
def parity(
    pack: Annotated[Path, typer.Argument(help="Folder with state_dicts.json, deterministic.py, expected numbers.")],
    expected: Annotated[Path | None, typer.Option(help="Expected numbers; the pack's own for seed 0 if left.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Parts to compare (repeat); all if left.")] = None,
) -> None:
    """Compare this implementation with the reference's numbers; exit code 1 if any is over its tolerance."""
    from d2m_model.parity import PARTS, compare, open_pack

    opened = open_pack(pack, expected)
    typer.echo(f"seed {opened.seed}, batch {opened.batch}, float32")
    typer.echo(f"{'array':46} {'error':>9} {'tolerance':>9}  verdict")
    results = []
    for result in compare(opened, only or PARTS):
        results.append(result)
        note = f"  ({result.note})" if result.note else ""
        verdict = "ok" if result.passed else "OVER"
        typer.echo(f"{result.name:46} {result.error:9.2e} {result.tolerance:9.1e}  {verdict}{note}")
    over = [result.name for result in results if not result.passed]
    typer.echo(f"{len(results) - len(over)} of {len(results)} within tolerance")
    if over:
        raise UserError(f"Over the tolerance: {', '.join(over)}.")


@app.command()
def info(
    preset: Annotated[str | None, typer.Option(help="paper or released; both if left.")] = None,
    level: Annotated[str | None, typer.Option(help="high or low; both if left.")] = None,
    dataset: Annotated[str, typer.Option(help="tiktok or aist.")] = "tiktok",
    visual: Annotated[bool, typer.Option(help="With visual features, or motion only.")] = True,
) -> None:
    """Shapes and parameter counts of each preset and level, for one 2-s window."""
    from d2m_model.config import LEVELS, PRESETS, preset_config
    from d2m_model.networks.d2m_gan import describe

    changes = {} if visual else {"visual_features": 0}
    for chosen_preset in [preset] if preset else PRESETS:
        for chosen_level in [level] if level else LEVELS:
            typer.echo(describe(preset_config(chosen_preset, chosen_level, dataset, **changes)))


@app.command()
def convert(
    motion_encoder: Annotated[Path, typer.Argument(help="The authors' mencoder.pt.")],
    generator: Annotated[Path, typer.Argument(help="The authors' netG.pt.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    vqvae: Annotated[Path | None, typer.Option(help="JukeBox's vqvae.pth.tar, to go with it.")] = None,
) -> None:
    """Turn the authors' checkpoint files into a model folder (model.safetensors, config.yaml)."""
    from d2m_model.checkpoint import convert as convert_files
    from d2m_model.codec.jukebox import LICENCE

    config = convert_files(motion_encoder, generator, out, vqvae, lambda sentence: typer.echo(sentence, err=True))
    dataset = "AIST++" if config.motion_features == 219 else "TikTok"
    genres = f", {config.genres} genres" if config.genres else ""
    typer.echo(f"{out}: preset {config.preset}, level {config.level}, {dataset} motion{genres}")
    if vqvae is not None:
        typer.echo(LICENCE)


@app.command()
def configs(
    name: Annotated[str | None, typer.Argument(help="Print this one, to copy and change it.")] = None,
) -> None:
    """List the shipped configurations, for `d2m train` and `d2m codec train`, or print one."""
    from d2m_model.configs import CODEC, find, names, title

    if name is not None:
        codec_named = name.startswith(f"{CODEC}/")
        typer.echo(find(name, CODEC if codec_named else "").read_text(encoding="utf-8"), nl=False)
        return
    for command, prefix, found in (("d2m train", "", names()), ("d2m codec train", f"{CODEC}/", names(CODEC))):
        typer.echo(f"{command} NAME")
        for one in found:
            typer.echo(f"  {one:30} {title(prefix + one)}")


app.command()(train)
app.command()(memory)
app.command()(plot)
app.command()(sample)
app.add_typer(codec, name="codec", help="The codec: fetch JukeBox's weights, train one, report what it keeps.")

_TRAIN, _SAMPLE, _AUTHORS = "Train", "Make music", "The authors' release"
EXAMPLES = {
    "configs": (_TRAIN, "d2m configs demo"),
    "train": (_TRAIN, "d2m train demo steps=2000"),
    "memory": (_TRAIN, "d2m memory released_tiktok_high batch=8"),
    "plot": (_TRAIN, "d2m plot runs/demo"),
    "codec": (_TRAIN, ""),
    "codec train": (_TRAIN, "d2m codec train demo"),
    "codec report": (_TRAIN, "d2m codec report runs/codec_demo/best music"),
    "codec fetch": (_TRAIN, "d2m codec fetch"),
    "sample": (_SAMPLE, "d2m sample runs/demo/best dance.mp4 --out music"),
    "info": (_AUTHORS, "d2m info --preset released --level high"),
    "convert": (_AUTHORS, "d2m convert mencoder.pt netG.pt --out released_high"),
    "parity": (_AUTHORS, "d2m parity parity/high_tiktok"),
}
describe_commands(app, EXAMPLES)


def main() -> None:
    """Entry point: a user's mistake is one sentence and exit code 1; anything else keeps its traceback."""
    try:
        app()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        sentence = about_the_place(error)
        if sentence is None:
            raise
        print(f"{sentence[:1].upper()}{sentence[1:]}.", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
