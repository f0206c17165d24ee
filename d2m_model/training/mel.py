"""Log-mel spectrogram of the model's mel loss. Not for metrics."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.config import SAMPLE_RATE

N_FFT = 1024
HOP = 256
N_MELS = 128
FLOOR = 1e-5


class LogMel(nn.Module):
    """Audio (batch, samples) at 22,050 Hz to log10 mel (batch, 128, frames), frames = (samples - 256) // 256 + 1.

    FFT and periodic Hann window of 1024, hop 256, the audio extended by reflection by 384 samples a side instead of
    centring; magnitude (not squared) through Slaney mel bands (Slaney area norm, 0 to 11,025 Hz), log10 of at least
    1e-5. Differentiable.
    """

    basis: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        from librosa.filters import mel

        basis = torch.from_numpy(mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS))
        self.register_buffer("basis", basis, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        margin = (N_FFT - HOP) // 2
        extended = functional.pad(audio.float()[:, None], (margin, margin), mode="reflect")[:, 0]
        spectrum = torch.stft(extended, N_FFT, HOP, window=self.window, center=False, return_complex=True).abs()
        return torch.log10((self.basis @ spectrum).clamp(min=FLOOR))
