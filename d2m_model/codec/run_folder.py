"""The folder of a codec's training: whose it is, and the record of its losses.

    RUN/config.yaml   what the run was told; another configuration does not continue it
    RUN/last/         the codec, training.json and state.pt: where a continuation starts
    RUN/best/         the codec with the least validation loss, and training.json; without `init` its latent is
                      scaled by a power of two to a standard deviation of about 1, which changes nothing it gives back
    RUN/losses.csv    training and validation, and the same as events in RUN/tensorboard/

Not for what a checkpoint holds (`training`), nor for the model's runs (`d2m_model.training.run_folder`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2m_model.codec.losses import LOSSES
from d2m_model.codec.training_config import CodecTrainingConfig, difference, plain_config
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic

CONFIG_FILE, LOSSES_FILE = "config.yaml", "losses.csv"
COLUMNS = ("step", "split", "learning_rate", "total", *LOSSES, "code_use", "perplexity", "latent_std", "restarted")


def belongs(out: Path, config: CodecTrainingConfig) -> bool:
    """Whether the folder holds this very run already.

    Raises:
        UserError: it holds something else.
    """
    import yaml

    path = out / CONFIG_FILE
    if path.is_file():
        try:
            old = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"{path} cannot be read, so it is not known which run {out} holds.") from error
        changed = difference(old if isinstance(old, dict) else {}, config)
        if changed:
            raise UserError(f"{out} holds a run of another configuration ({changed}); give another out=FOLDER.")
        return True
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already and holds no codec training; give another out=FOLDER.")
    return False


def claim(out: Path, config: CodecTrainingConfig) -> None:
    """Make the folder this run's: its configuration is written down.

    Raises:
        UserError: it cannot be written.
    """
    import yaml

    try:
        out.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(plain_config(config), sort_keys=False, width=120)
        write_atomic(out / CONFIG_FILE, text.encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}.") from error


class Record:
    """Where losses go: `losses.csv` always, and TensorBoard. Those up to `step` stay; later ones come again.

    Args:
        out: the run's folder.
        logger: `tensorboard` or `none`.
        step: of the checkpoint that the run goes on from; 0 for a new one.
    """

    def __init__(self, out: Path, logger: str, step: int) -> None:
        self.path, kept = out / LOSSES_FILE, [list(COLUMNS)]
        if self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            kept += [[row.get(name) or "" for name in COLUMNS] for row in rows if int(row.get("step") or 0) <= step]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        write_atomic(self.path, text.getvalue().encode())
        self.writer: Any = None
        if logger == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)

    def add(self, split: str, step: int, values: Mapping[str, float]) -> None:
        """Note the values of a step, of `train` or `validation`."""
        cells = {"step": step, "split": split, **values}
        with self.path.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerow([cells.get(name, "") for name in COLUMNS])
        if self.writer is not None:
            for name, value in values.items():
                if name != "step":
                    self.writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Finish."""
        if self.writer is not None:
            self.writer.close()
