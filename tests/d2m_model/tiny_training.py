"""Two steps of one of the project's training configurations, as narrow as it goes, on a dataset that a test made."""

from __future__ import annotations

from pathlib import Path

from d2m_model.codec.files import write_codec
from d2m_model.config import ModelConfig
from d2m_model.training.config import read_training_config
from d2m_model.training.run_folder import read_losses
from d2m_model.training.trainer import train
from tests.d2m_model.sampling_factory import tiny_codec

CONFIGS = Path(__file__).parents[2] / "d2m_model" / "configs"


def train_two_steps(name: str, dataset: Path, folder: Path) -> tuple[ModelConfig, list[dict]]:
    """Train `configs/<name>.yaml` through the command's own functions; codec, cache and run go into `folder`.

    Returns:
        The model that was trained, and the rows of losses.csv.
    """
    (folder / "codec").mkdir()
    write_codec(tiny_codec(seed=1), folder / "codec")
    small = {
        **{"dataset": dataset, "codec": folder / "codec", "cache": folder / "cache", "out": folder / "run"},
        **{"model.latent_channels": 8, "model.pose_axis": 80, "model.width": 0.03125},
        **{"batch": 2, "steps": 2, "threads": 1, "workers": 0, "validation_songs": 1, "samples": 1},
        **{"log_every": 1, "validate_every": 2, "save_every": 2, "logger": "none", "accelerator": "cpu"},
    }
    config = read_training_config(CONFIGS / f"{name}.yaml", [f"{key}={value}" for key, value in small.items()])
    train(config)
    return config.model, read_losses(folder / "run" / "losses.csv")
