"""Model folders: `model.safetensors` and `config.yaml`, written whole; conversion of the authors' checkpoints.

Not for what resuming a training needs (optimisers, random state, position), which belongs to training.

Names inside `model.safetensors` are those of `D2MGAN`: `motion_encoder.` and `generator.` in front of the layers' own
names, which in the `released` preset are the authors' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from torch import Tensor

from d2m_model.codec.files import write_codec
from d2m_model.codec.jukebox import JukeboxVQVAE, read_state
from d2m_model.config import DATASETS, LEVELS, ModelConfig, preset_config
from d2m_model.model_folder import check_state, empty, read_into, write_model
from d2m_model.networks.d2m_gan import D2MGAN
from tiktok_dm.errors import UserError
from tiktok_dm.runtime.publish import new_folder


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
        write_model(model, model.config, unfinished)
        for write in extra:
            write(unfinished)


def read_model(folder: Path, preset: str | None = None, level: str | None = None) -> D2MGAN:
    """The model of a folder; see `model_folder.read_into`."""
    return read_into(D2MGAN, folder, preset, level)


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


def convert(
    motion_encoder: Path,
    generator: Path,
    out: Path,
    vqvae: Path | None = None,
    notify: Callable[[str], None] = lambda sentence: None,
) -> ModelConfig:
    """Make a model folder of the authors' checkpoint files, checking every name and shape.

    Args:
        motion_encoder: their `mencoder.pt`.
        generator: their `netG.pt`.
        out: the folder to write.
        vqvae: the JukeBox VQ-VAE's state; its level that the model needs is written beside, as `codec.safetensors` and
            `codec.yaml`.
        notify: called with a sentence for each file whose names were of a wrapped or compiled network.

    Returns:
        What was found.

    Raises:
        UserError: files that cannot be read or belong to no released network, or `out` exists.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for name, source in (("motion_encoder", motion_encoder), ("generator", generator)):
        states[name], taken = plain_names(read_state(source))
        if taken:
            notify(f"The names in {source} are those of a wrapped network: {' and '.join(taken)} was taken off them.")
    config = recognise(states["motion_encoder"], states["generator"])
    model = empty(D2MGAN, config)
    for name, source in (("motion_encoder", motion_encoder), ("generator", generator)):
        network = getattr(model, name)
        check_state(states[name], network.state_dict(), str(source))
        network.load_state_dict(states[name])
    extra: list[Callable[[Path], None]] = []
    if vqvae is not None:
        codec = JukeboxVQVAE.from_checkpoint(vqvae, LEVELS[config.level].codec_level)
        extra.append(lambda folder: write_codec(codec, folder))
    save_model(model, out, extra)
    return config


def plain_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A state dict with the layers' own names, and the wrappers' names that were taken off them.

    Data-parallel training puts `module.` in front, once for each wrapper; a compiled network has `_orig_mod.` in front,
    and a compiled part of a network has it in the middle.

    Raises:
        UserError: two entries that have one name without them.
    """
    plain: dict[str, Tensor] = {}
    taken: set[str] = set()
    for key, value in state.items():
        parts = key.split(".")
        own = [part for part in parts if part != "_orig_mod"]
        while len(own) > 1 and own[0] == "module":
            own = own[1:]
            taken.add("module.")
        taken |= {"_orig_mod."} if "_orig_mod" in parts else set()
        if (name := ".".join(own)) in plain:
            raise UserError(f"The entry {name} is there twice, under names of two wrappers; save the network anew.")
        plain[name] = value
    return plain, sorted(taken)
