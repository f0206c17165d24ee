"""VGGish (Hershey et al., ICASSP 2017) on its public PyTorch weights: 128 numbers per 0.96 s.

Written from the published architecture and front end. The weights file is the state dict that PyTorch users share
(`vggish-10086976.pth`: `features.0.weight` ... `embeddings.4.bias`), ported from the TensorFlow release. The
embedding is the last layer's output without the rectifier after it and without PCA and quantisation, as FAD takes it.
Imports PyTorch: load it through `embedders.get_embedder`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from tiktok_dm.benchmark.embedders.base import at_rate, fill, load_state, version_of

RATE, STFT_WINDOW, STFT_HOP, N_FFT = 16_000, 400, 160, 512
BANDS, MEL_LOW, MEL_HIGH, LOG_OFFSET = 64, 125.0, 7500.0, 0.01
PATCH = 96  # frames of 10 ms
_PATCH_SAMPLES = (PATCH - 1) * STFT_HOP + STFT_WINDOW


class VGGish(nn.Module):
    """Patches (batch, 1, 96 frames, 64 bands) to embeddings (batch, 128)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        # Convolutions between poolings; the indices in the state dict follow from this order.
        for group in ((64,), (128,), (256, 256), (512, 512)):
            for width in group:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)
        )

    def forward(self, patches: Tensor) -> Tensor:
        found = self.features(patches)
        # TensorFlow flattens (frames, bands, channels), and the weights know that order.
        return self.embeddings(found.permute(0, 2, 3, 1).flatten(1))


@lru_cache(maxsize=1)
def mel_weights() -> np.ndarray:
    """Weights (257 bins, 64 bands) of the release's front end.

    Bands are triangles with straight sides in mel = 1127 ln(1 + f / 700), not in Hz as librosa's; bin 0 has no weight.
    """
    mels = 1127.0 * np.log1p(np.linspace(0, RATE / 2, N_FFT // 2 + 1) / 700.0)
    first, last = 1127.0 * np.log1p(np.array([MEL_LOW, MEL_HIGH]) / 700.0)
    edges = np.linspace(first, last, BANDS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (mels[:, None] - low) / (centre - low)
    falling = (high - mels[:, None]) / (high - centre)
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[0] = 0
    return weights


def log_mel_patch(samples: np.ndarray) -> np.ndarray:
    """Log-mel patch (96, 64) of 15,600 samples at 16 kHz: magnitudes, periodic Hann of 400, FFT of 512, hop 160."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(STFT_WINDOW) / STFT_WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), STFT_WINDOW)[::STFT_HOP]
    magnitude = np.abs(np.fft.rfft(frames * hann, N_FFT, axis=1))
    return np.log(magnitude @ mel_weights() + LOG_OFFSET)


class VGGishEmbedder:
    """One row per patch of 0.96 s without overlap, (windows, 128); a shorter sound is filled up with silence.

    Args:
        weights: the public PyTorch state dict.

    Raises:
        UserError: not VGGish's weights.
    """

    name = "vggish"
    sample_rate = RATE
    dim = 128

    def __init__(self, weights: Path) -> None:
        state = load_state(weights, "VGGish")
        with torch.device("meta"):
            model = VGGish()
        self._model = fill(model, state, weights, "VGGish")
        self.version = version_of(1, {"activation": False, "pca": False}, weights)

    @torch.no_grad()
    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """See `tiktok_dm.benchmark.embedders.base.Embedder.embed`."""
        sound = at_rate(audio, sample_rate, RATE)
        # A patch's last frame reaches 15 ms into the next patch.
        sound = np.pad(sound, (0, max(0, _PATCH_SAMPLES - len(sound))))
        starts = range(0, len(sound) - _PATCH_SAMPLES + 1, PATCH * STFT_HOP)
        patches = np.stack([log_mel_patch(sound[first : first + _PATCH_SAMPLES]) for first in starts])
        batch = torch.from_numpy(patches.astype(np.float32))[:, None]
        return np.concatenate([self._model(part).double().numpy() for part in batch.split(64)])
