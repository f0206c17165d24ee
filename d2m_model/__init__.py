"""D2M-GAN: music from dance through a JukeBox-style VQ-VAE (Zhu et al., ECCV 2022).

`D2MGAN` (the network), `train`, `DanceToMusic` (a dance to music) and `JukeboxVQVAE` (the codec) are named here and
loaded when they are asked for.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "D2MGAN": "networks.d2m_gan",
    "DanceToMusic": "sampling.sampler",
    "JukeboxVQVAE": "codec.jukebox",
    "train": "training.trainer",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
