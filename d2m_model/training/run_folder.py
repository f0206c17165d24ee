"""The folder of a training run: checkpoints to publish and to go on from, and the record of its losses.

The record serves the codec's trainings too (`d2m_model.codec.training`), whose checkpoints are its own.

```
RUN/losses.csv          one row a logged step
RUN/last/ RUN/best/     model.safetensors, config.yaml, training.json; codec.safetensors and codec.yaml where the codec
                        carries no licence sentence
RUN/last/state.pt       what only going on needs: weights as trained, optimisers, random state, position
RUN/samples/            fixed validation segments, rendered
RUN/tensorboard/        the losses again
```
A checkpoint appears under its name only when it is whole. Not for what is trained.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from d2m_model.codec.files import write_codec
from d2m_model.codec.hub import HubCodec
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.model_folder import write_model
from d2m_model.networks.d2m_gan import D2MGAN
from tiktok_dm.errors import UserError
from tiktok_dm.runtime.publish import new_folder, recover

STATE_FILE = "state.pt"
TRAINING_FILE = "training.json"
LOSSES_FILE = "losses.csv"


def write_checkpoint(
    folder: Path,
    model: D2MGAN,
    codec: JukeboxVQVAE | HubCodec,
    training: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder, in place of the one that has its name.

    Args:
        model: the weights to sample with.
        codec: copied beside the model unless its licence forbids giving it on.
        training: JSON-able facts of the training so far.
        state: what going on needs; tensors, numbers and words only, so that it opens with `weights_only=True`.
    """
    with new_folder(folder, replace=True) as unfinished:
        write_model(model, model.config, unfinished)
        if isinstance(codec, JukeboxVQVAE) and not codec.licence:
            write_codec(codec, unfinished)
        text = json.dumps(training, indent=1, sort_keys=True) + "\n"
        (unfinished / TRAINING_FILE).write_text(text, encoding="utf-8")
        if state is not None:
            torch.save(dict(state), unfinished / STATE_FILE)


def read_training(folder: Path) -> dict[str, Any]:
    """`training.json` of a checkpoint.

    Raises:
        UserError: none there, or not readable.
    """
    try:
        return json.loads((folder / TRAINING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable {TRAINING_FILE}; is it a checkpoint of `d2m train`?") from error


def last_checkpoint(run: Path) -> Path | None:
    """The checkpoint from which a run goes on; None for a run that has none yet."""
    for name in ("last", "best"):
        recover(run / name)
    return run / "last" if (run / "last" / STATE_FILE).is_file() else None


def read_state(folder: Path) -> dict[str, Any]:
    """What going on from a checkpoint needs; nothing in the file is executed.

    Raises:
        UserError: a file that is truncated or of another kind.
    """
    try:
        return torch.load(folder / STATE_FILE, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is none of its own
        raise UserError(
            f"{folder / STATE_FILE} is truncated or no training state; remove {folder} to start anew."
        ) from error


class LossTable:
    """`losses.csv`: one row a logged step, columns fixed at the start; empty where a value was not computed.

    Args:
        path: the file.
        columns: names after `step`.
        until: rows after this step, which a run that was killed wrote after its last checkpoint, are dropped.
    """

    def __init__(self, path: Path, columns: Sequence[str], until: int) -> None:
        self.path, self.columns = path, ["step", *columns]
        kept: list[dict[str, str]] = []
        if until and path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if int(row.get("step") or until + 1) <= until]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)

    def add(self, step: int, values: Mapping[str, float | str]) -> None:
        """Append a row."""
        cells = {name: float(value) if isinstance(value, float) else value for name, value in values.items()}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore", lineterminator="\n")
            writer.writerow({**cells, "step": step})


class Record:
    """Where losses go: `losses.csv` always, and TensorBoard or Weights & Biases.

    Args:
        run: the run's folder.
        logger: `tensorboard`, `wandb` or `none`.
        columns: of the table, after `step`.
        done: steps of the checkpoint that the run goes on from; what was noted of later ones is dropped.
        config: of the run, for Weights & Biases.
    """

    def __init__(
        self, run: Path, logger: str, columns: Sequence[str], done: int, config: Mapping[str, Any] | None = None
    ) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self.table = LossTable(run / LOSSES_FILE, columns, done)
        self.writer: Any = None
        self.wandb: Any = None
        if logger == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1 if done else None)
        elif logger == "wandb":
            try:
                import wandb  # type: ignore[import-not-found, unused-ignore]
            except ImportError as error:
                raise UserError(
                    "logger is wandb, which is not installed: pip install wandb, or set logger=tensorboard."
                ) from error
            self.wandb = wandb.init(dir=str(run), name=run.name, config=dict(config or {}), resume="allow")

    def add(self, step: int, values: Mapping[str, float], split: str = "") -> None:
        """Note the values of a step; of a split, where the table has a column for it."""
        self.table.add(step, {"split": split, **values})
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{split}/{name}" if split else name, value, step)
        if self.wandb is not None:
            self.wandb.log(dict(values), step=step)

    def close(self) -> None:
        """Finish."""
        if self.writer is not None:
            self.writer.close()
        if self.wandb is not None:
            self.wandb.finish()


def read_losses(path: Path) -> list[dict[str, float]]:
    """Rows of a run's `losses.csv`: step and the values that were computed.

    Raises:
        UserError: no such file, or one that is no table of losses.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                {name: float(text) for name, text in row.items() if text not in ("", None)}
                for row in csv.DictReader(file)
                if row.get("step")
            ]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is missing or no table of losses; is its folder a run of `d2m train`?") from error
