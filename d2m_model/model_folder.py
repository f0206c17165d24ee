"""A model as a folder: `model.safetensors` and `config.yaml`, each appearing only when it is whole.

Names inside `model.safetensors` are those of `D2MGAN`: `motion_encoder.` and `generator.` in front of the layers' own
names, which in the `released` preset are the authors' names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from d2m_model.codec.jukebox import read_state
from d2m_model.config import ModelConfig, read_model_config
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic

M = TypeVar("M", bound=nn.Module)

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
# What a model folder may hold that sampling needs: the model, its codec, what it was trained on.
FOLDER_FILES = (WEIGHTS_FILE, CONFIG_FILE, "codec.safetensors", "codec.yaml", "training.json")


def write_model(model: nn.Module, config: ModelConfig, folder: Path) -> None:
    """Write the model's two files into an existing folder, each appearing only when it is whole."""
    import yaml
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # One entry of metadata only: the library writes several in an order of its own, and the bytes would differ.
    write_atomic(folder / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
    text = yaml.safe_dump({"model": dataclasses.asdict(config)}, sort_keys=False)
    write_atomic(folder / CONFIG_FILE, text.encode())


def find_checkpoint(path_or_hub_id: str | Path, **options: Any) -> Path:
    """A local model folder, or the local copy of one on the Hugging Face hub, fetched if need be.

    Raises:
        UserError: neither a folder nor an id that can be fetched.
    """
    path = Path(path_or_hub_id)
    if path.is_dir():
        return path
    text = str(path_or_hub_id)
    if path.exists() or text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise UserError(f"{text} is neither a model folder nor a hub id such as name/model.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=list(FOLDER_FILES), **options))
    except Exception as error:  # the hub's client raises many kinds; all mean that it cannot be had
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"There is no folder {text}, and the hub does not give it: {reason}") from error


def read_into(make: Callable[[ModelConfig], M], folder: Path, preset: str | None = None, level: str | None = None) -> M:
    """The model of a folder, in evaluation mode on the CPU.

    Args:
        make: the network of a configuration.
        folder: with `model.safetensors` and `config.yaml`.
        preset: what the caller needs it to be, if anything.
        level: the same.

    Raises:
        UserError: a file that is missing or truncated, weights that do not fit the configuration, or another preset or
            level than needed.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is no model folder: it lacks {name}.")
    config = read_model_config(folder / CONFIG_FILE)
    for word, wanted, found in (("preset", preset, config.preset), ("level", level, config.level)):
        if wanted is not None and wanted != found:
            raise UserError(f"The checkpoint {folder} is of {word} {found!r}; {wanted!r} is needed.")
    state = read_state(folder / WEIGHTS_FILE)
    model = empty(make, config)
    check_state(state, model.state_dict(), str(folder / WEIGHTS_FILE))
    model.load_state_dict(state)
    return model.eval()


def empty(make: Callable[[ModelConfig], M], config: ModelConfig) -> M:
    """The model without start values. Weights are copied into it, since those of a mapped file lie at odd addresses,
    where sums round otherwise than in the model that was saved."""
    with torch.device("meta"):
        model = make(config)
    return model.to_empty(device="cpu")


def check_state(theirs: Mapping[str, Tensor], mine: Mapping[str, Tensor], source: str) -> None:
    """Raise a `UserError` unless both state dicts have the same entries of the same shapes."""
    for key, value in mine.items():
        if key not in theirs:
            raise UserError(f"The weights in {source} lack the entry {key}; they belong to another preset or level.")
        if theirs[key].shape != value.shape:
            raise UserError(
                f"The entry {key} in {source} is {tuple(theirs[key].shape)}, not {tuple(value.shape)} as its "
                "configuration says."
            )
    if unknown := sorted(set(theirs) - set(mine)):
        raise UserError(f"The weights in {source} hold an unknown entry {unknown[0]}.")
