"""PANNs CNN14 (Kong et al., TASLP 2020) on its public weights: 2,048 numbers per sound of up to ten seconds.

Written from the published architecture and front end (32 kHz, 64 bands). The weights file is the public checkpoint
`Cnn14_mAP=0.431.pth` (`{"model": {"bn0.weight", "conv_block1.conv1.weight", ..., "fc1.bias", ...}}`); its tagging layer
and its stored front end are not used. Imports PyTorch: load it through `embedders.get_embedder`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tiktok_dm.benchmark.embedders.base import at_rate, fill, load_state, version_of, windows

RATE, N_FFT, HOP, BANDS, MEL_LOW, MEL_HIGH, AMIN = 32_000, 1024, 320, 64, 50.0, 14_000.0, 1e-10
_WINDOW_S = 10
_LEAST_SAMPLES = RATE  # five poolings by two leave nothing of less than a third of a second


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm and ReLU: (batch, in, frames, bands) to (batch, out, frames, bands)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))))


class CNN14(nn.Module):
    """Log-mel spectrograms (batch, 1, frames, 64) in dB to embeddings (batch, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(BANDS)
        widths = (1, 64, 128, 256, 512, 1024, 2048)
        for i in range(6):
            setattr(self, f"conv_block{i + 1}", ConvBlock(widths[i], widths[i + 1]))
        self.fc1 = nn.Linear(2048, 2048)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        for i in range(1, 7):
            x = getattr(self, f"conv_block{i}")(x)
            if i < 6:
                x = functional.avg_pool2d(x, 2)
        x = x.mean(dim=3)
        return functional.relu(self.fc1(x.amax(dim=2) + x.mean(dim=2)))


@lru_cache(maxsize=1)
def _mel_weights() -> np.ndarray:
    import librosa.filters

    return librosa.filters.mel(sr=RATE, n_fft=N_FFT, n_mels=BANDS, fmin=MEL_LOW, fmax=MEL_HIGH, dtype=np.float64)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram in dB, (frames, 64): power, periodic Hann of 1024, hop 320, reflected half a window."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
    padded = np.pad(samples.astype(np.float64), N_FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP]
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return 10 * np.log10(np.maximum(power @ _mel_weights().T, AMIN))


class PANNsEmbedder:
    """One row per 10 s without overlap, (windows, 2048).

    The network pools over time, so a sound of less than 10 s is one row of its own length, without silence added (but
    one of less than 1 s is filled up to that).

    Args:
        weights: the public CNN14 checkpoint.

    Raises:
        UserError: not CNN14's weights.
    """

    name = "panns"
    sample_rate = RATE
    dim = 2048

    def __init__(self, weights: Path) -> None:
        state = load_state(weights, "PANNs CNN14")
        with torch.device("meta"):
            model = CNN14()
        self._model = fill(model, state, weights, "PANNs CNN14")
        self.version = version_of(1, {"window_s": _WINDOW_S}, weights)

    @torch.no_grad()
    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """See `tiktok_dm.benchmark.embedders.base.Embedder.embed`."""
        sound = at_rate(audio, sample_rate, RATE)
        sound = np.pad(sound, (0, max(0, _LEAST_SAMPLES - len(sound))))
        rows = []
        for window in windows(sound, _WINDOW_S * RATE, pad=False):
            spectrogram = torch.from_numpy(log_mel(window).astype(np.float32))
            rows.append(self._model(spectrogram[None, None])[0].double().numpy())
        return np.stack(rows)
