"""Model folders: `model.safetensors` and `config.yaml`, written atomically; conversion of the authors' checkpoints.

Not for what resuming a training needs (optimisers, random state, position), which belongs to training.

Names inside `model.safetensors` are those of `D2MGAN`: `motion_encoder.` and `generator.` in front of the layers' own
names, which in the `released` preset are the authors' names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2m_model.atomic import new_folder, write_file
from d2m_model.codec.files import write_codec
from d2m_model.codec.jukebox import JukeboxVQVAE, read_state
from d2m_model.config import DATASETS, LEVELS, ModelConfig, preset_config, read_model_config
from d2m_model.d2m_gan import D2MGAN
from tiktok_dm.errors import UserError

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.yaml"
# What a model folder may hold that sampling needs: the model, its codec, what it was trained on.
FOLDER_FILES = (WEIGHTS_FILE, CONFIG_FILE, "codec.safetensors", "codec.yaml", "training.json")


def write_model(model: D2MGAN, folder: Path) -> None:
    """Write the model's two files into an existing folder, each appearing only when it is whole."""
    import yaml
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # One entry of metadata only: the library writes several in an order of its own, and the bytes would differ.
    write_file(folder / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
    text = yaml.safe_dump({"model": dataclasses.asdict(model.config)}, sort_keys=False)
    write_file(folder / CONFIG_FILE, text.encode())


def save_model(model: D2MGAN, folder: Path, extra: Iterable[Callable[[Path], None]] = ()) -> None:
    """A new model folder, which appears under its name only when it is complete.

    Args:
        model: what to write.
        folder: where; a folder that exists is never overwritten.
        extra: functions that write more files into the folder they are given.

    Raises:
        UserError: the folder exists and is not empty, or cannot be written.
    """
    with new_folder(folder) as unfinished:
        write_model(model, unfinished)
        for write in extra:
            write(unfinished)


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


def read_model(folder: Path, preset: str | None = None, level: str | None = None) -> D2MGAN:
    """The model of a folder, in evaluation mode on the CPU.

    Args:
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
    model = _empty(config)
    _check(state, model.state_dict(), str(folder / WEIGHTS_FILE))
    model.load_state_dict(state)
    return model.eval()


def _empty(config: ModelConfig) -> D2MGAN:
    """The model without start values. Weights are copied into it, since those of a mapped file lie at odd addresses,
    where sums round otherwise than in the model that was saved."""
    with torch.device("meta"):
        model = D2MGAN(config)
    return model.to_empty(device="cpu")


def _check(theirs: Mapping[str, Tensor], mine: Mapping[str, Tensor], source: str) -> None:
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


def recognise(motion_encoder: Mapping[str, Tensor], generator: Mapping[str, Tensor]) -> ModelConfig:
    """Which released network two of the authors' state dicts belong to, told from the shapes of their layers.

    Raises:
        UserError: a motion encoder or generator that is none of the released ones.
    """
    projection = _shape(motion_encoder, "lin1.weight")
    dataset = next((name for name, sizes in DATASETS.items() if projection == (800, sizes["motion_features"])), None)
    if dataset is None:
        raise UserError(
            f"The motion encoder's first projection (lin1.weight) is {projection}; the released ones have (800, 75) "
            "or (800, 219)."
        )
    low = "fc.weight" in generator
    if low and "lin.weight" not in generator:
        raise UserError(
            "This is the released low-level generator for TikTok, which lacks the first projection and cannot take "
            "fused features: there is nothing to convert it to; train the repaired network (released, low) instead."
        )
    fused = _shape(generator, "lin.weight")
    config = preset_config("released", "low" if low else "high", dataset)
    if len(fused) != 2 or fused[1] != config.fused_features:
        raise UserError(f"The generator's first projection is {fused}; no released network for {dataset} has that.")
    return config


def _shape(state: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    return tuple(state[key].shape) if key in state else ()


def convert(motion_encoder: Path, generator: Path, out: Path, vqvae: Path | None = None) -> ModelConfig:
    """Make a model folder of the authors' checkpoint files, checking every name and shape.

    Args:
        motion_encoder: their `mencoder.pt`.
        generator: their `netG.pt`.
        out: the folder to write.
        vqvae: the JukeBox VQ-VAE's state; its level that the model needs is written beside, as `codec.safetensors` and
            `codec.yaml`.

    Returns:
        What was found.

    Raises:
        UserError: files that cannot be read or belong to no released network, or `out` exists.
    """
    states = {"motion_encoder": _plain(read_state(motion_encoder)), "generator": _plain(read_state(generator))}
    config = recognise(states["motion_encoder"], states["generator"])
    model = _empty(config)
    for name, source in (("motion_encoder", motion_encoder), ("generator", generator)):
        network = getattr(model, name)
        _check(states[name], network.state_dict(), str(source))
        network.load_state_dict(states[name])
    extra: list[Callable[[Path], None]] = []
    if vqvae is not None:
        codec = JukeboxVQVAE.from_checkpoint(vqvae, LEVELS[config.level].codec_level)
        extra.append(lambda folder: write_codec(codec, folder))
    save_model(model, out, extra)
    return config


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix that data-parallel training leaves."""
    return {key.removeprefix("module."): value for key, value in state.items()}
