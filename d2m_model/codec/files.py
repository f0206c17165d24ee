"""A codec as a folder: `codec.safetensors` and `codec.yaml`; opening one from a folder or a public checkpoint.

Not for fetching weights (`fetch`) or for what resuming a training needs (`training`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch

from d2m_model.atomic import write_file
from d2m_model.codec.jukebox import LICENCE, JukeboxConfig, JukeboxVQVAE
from d2m_model.config import from_mapping
from tiktok_dm.errors import UserError

WEIGHTS_FILE = "codec.safetensors"
CONFIG_FILE = "codec.yaml"


def write_codec(codec: JukeboxVQVAE, folder: Path) -> None:
    """Write a level's two files into an existing folder, each appearing only when it is whole."""
    import yaml
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in codec.state_dict().items()}
    sizes = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(codec.config).items()
    }
    # One entry of metadata only: the library writes several in an order of its own, and the bytes would differ.
    metadata = {"licence": codec.licence} if codec.licence else {"format": "pt"}
    write_file(folder / WEIGHTS_FILE, save(state, metadata=metadata))
    text = yaml.safe_dump({"level": codec.level, "licence": codec.licence, "codec": sizes}, sort_keys=False, width=120)
    write_file(folder / CONFIG_FILE, text.encode())


def read_codec_config(path: Path) -> tuple[int, str, JukeboxConfig]:
    """Level, licence sentence and sizes from a folder's `codec.yaml`.

    Raises:
        UserError: a file that cannot be read or does not say what it should.
    """
    import yaml

    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        level, licence, sizes = int(values["level"]), str(values["licence"] or ""), dict(values["codec"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not describe a codec (level, licence, codec).") from error
    sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    return level, licence, from_mapping(JukeboxConfig, sizes, str(path))


def open_codec(path: str | Path, level: int) -> JukeboxVQVAE:
    """A frozen level of a codec, on the CPU.

    Args:
        path: a folder with `codec.safetensors` and `codec.yaml`, or a file in the public checkpoint's layout.
        level: 0 bottom, 1 middle, 2 top.

    Raises:
        UserError: nothing there, not a codec, or a folder that holds another level.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise UserError(
                f"There is no codec at {path}: give a folder that `d2m codec train` wrote, or JukeBox's vqvae.pth.tar "
                "(`d2m codec fetch` gets it)."
            )
        return JukeboxVQVAE.from_checkpoint(path, level, licence=LICENCE)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (path / name).is_file():
            raise UserError(f"{path} is no codec folder: it lacks {name}.")
    found, licence, config = read_codec_config(path / CONFIG_FILE)
    if found != level:
        raise UserError(f"The codec in {path} is of level {found}; level {level} is needed.")
    return JukeboxVQVAE.from_checkpoint(path / WEIGHTS_FILE, level, config, licence)


def fingerprint(codec: JukeboxVQVAE) -> str:
    """SHA-256 of a codec's sizes, level and weights: what cached latents and codes depend on."""
    digest = hashlib.sha256(repr((codec.level, dataclasses.astuple(codec.config))).encode())
    for name, value in sorted(codec.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().to(torch.float32).numpy().tobytes())
    return digest.hexdigest()
