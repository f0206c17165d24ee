"""CLAP (Wu et al., ICASSP 2023) through `transformers`, from a local folder of a CLAP model: one row per 10 s.

The network and its front end are those of the `transformers` package, which is no dependency of this project: install
it beside. The folder is one that `ClapModel.save_pretrained` and `ClapFeatureExtractor.save_pretrained` write (a
download of `laion/clap-htsat-unfused`, for instance). Checkpoints in `laion_clap`'s own format are not read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.benchmark.embedders.base import at_rate, version_of, windows
from tiktok_dm.errors import UserError

_WINDOW_S = 10


class CLAPEmbedder:
    """The audio half of CLAP, projected into the shared space: (windows, 512 for the public models).

    Windows of 10 s without overlap; a sound of less than 10 s is one row, which the model's own feature extractor
    repeats and fills up as it was trained.

    Args:
        weights: the model's folder.

    Raises:
        UserError: `transformers` is missing, or the folder holds no CLAP model.
    """

    name = "clap"

    def __init__(self, weights: Path) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise UserError(
                "the clap embedder runs on transformers, which is not installed: run pip install transformers"
            )
        if not (weights / "config.json").is_file() or not (weights / "preprocessor_config.json").is_file():
            raise UserError(
                f"{weights} is no folder of a CLAP model: it should hold config.json, preprocessor_config.json and the "
                "weights, as transformers saves them"
            )
        from transformers import ClapFeatureExtractor, ClapModel

        try:
            self._extractor: Any = ClapFeatureExtractor.from_pretrained(weights, local_files_only=True)
            self._model: Any = ClapModel.from_pretrained(weights, local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(f"{weights} cannot be opened as a CLAP model ({type(error).__name__}: {error})") from error
        self._model.eval()
        self.sample_rate = int(self._extractor.sampling_rate)
        self.dim = int(self._model.config.projection_dim)
        self.version = version_of(1, {"window_s": _WINDOW_S}, weights)

    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """See `tiktok_dm.benchmark.embedders.base.Embedder.embed`."""
        import torch

        sound = at_rate(audio, sample_rate, self.sample_rate)
        rows = []
        with torch.no_grad():
            for window in windows(sound, _WINDOW_S * self.sample_rate, pad=False):
                features = self._extractor(window, sampling_rate=self.sample_rate, return_tensors="pt")
                found = self._model.get_audio_features(**features)
                found = getattr(found, "pooler_output", found)  # transformers 5 wraps it
                rows.append(found[0].double().numpy())
        return np.stack(rows)
