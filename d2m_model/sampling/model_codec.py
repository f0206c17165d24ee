"""The codec that belongs to a model: which one it is, and whether the two go together.

Not for a codec by itself (`codec`), nor for the model's own files (`checkpoint`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from d2m_model.codec.files import CONFIG_FILE, WEIGHTS_FILE, fingerprint, open_codec
from d2m_model.codec.interface import Codec
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import LEVELS, ModelConfig
from d2m_model.training.run_folder import TRAINING_FILE
from tiktok_dm.errors import UserError
from tiktok_dm.schema import SEGMENT_S


def open_codec_of(folder: Path, config: ModelConfig, codec: str | Path | None = None) -> JukeboxVQVAE:
    """The codec that belongs to a model folder: the given one, the folder's own, or the one that training recorded.

    Raises:
        UserError: none of these is there, or it is not the codec that the model was trained on.
    """
    recorded = _recorded_codec(folder)
    if codec is not None:
        path = Path(codec)
    elif (folder / WEIGHTS_FILE).is_file() and (folder / CONFIG_FILE).is_file():
        path = folder
    elif recorded.get("path"):
        path = Path(str(recorded["path"]))
        if not path.exists():
            raise UserError(
                f"The model in {folder} was trained with the codec {path}, which is not there: give --codec."
            )
    else:
        raise UserError(
            f"{folder} neither holds a codec nor says which one it was trained with: give --codec, a codec folder or "
            "JukeBox's vqvae.pth.tar (`d2m codec fetch` gets it)."
        )
    opened = open_codec(path, LEVELS[config.level].codec_level)
    wanted = recorded.get("sha256")
    if wanted and fingerprint(opened) != wanted:
        raise UserError(
            f"The codec in {path} is not the one that the model in {folder} was trained with "
            f"(fingerprint {fingerprint(opened)[:12]} instead of {str(wanted)[:12]}): give --codec with the right one."
        )
    return opened


def _recorded_codec(folder: Path) -> Mapping[str, Any]:
    """The entry `codec` of a folder's `training.json` (path, sha256); empty where there is none."""
    path = folder / TRAINING_FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not valid JSON: get the checkpoint again.") from error
    found = values.get("codec") if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def check_fit(config: ModelConfig, codec: Codec) -> None:
    """Hold a codec to a model's level and sizes.

    Raises:
        UserError: a codec that no music could come out of with this model.
    """
    wanted = LEVELS[config.level]
    if codec.hop != wanted.hop:
        raise UserError(
            f"The model is of level {config.level!r} (hop {wanted.hop}), and the codec's hop is {codec.hop}: give a "
            "codec of the model's level."
        )
    if codec.latent_channels != config.latent_channels:
        raise UserError(
            f"The model makes latents of {config.latent_channels} channels, and the codec has {codec.latent_channels}: "
            "give the codec that it was trained with."
        )
    frames = codec.n_frames(round(SEGMENT_S * codec.sample_rate))
    if config.latent_frames != frames:
        raise UserError(
            f"The model makes {config.latent_frames} latent frames for {SEGMENT_S:g} s of dance, and the codec has "
            f"{frames} in that time: music would not keep pace with the dance."
        )
