"""What the first channels of a latent may be asked to say: how loud each frequency band is. Not a loss by itself.

A codec trained on waveforms alone keeps phase: its latent swings around zero whatever the sound's level, and no linear
map of it tells loudness (on the demo's songs R^2 is 0.003 against the log-mel). The mean or median of such latents over
all that may sound at a beat is then the same as between beats, and a generator that minimises a distance to them, as
D2M-GAN does, can't follow a dance. Asking some channels for the log-mel makes loudness part of what is predicted and of
what the code-book tells apart; compare the distilled first code-book of Zhang et al. 2024 (SpeechTokenizer).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

N_FFT = 512
FLOOR = 1e-4


class LoudnessGuide(nn.Module):
    """Audio (batch, 1, samples) to (batch, channels, samples // hop): `scale` times log10 of mel bands plus 2.

    The bands' logarithms plus 2 lie at about -2 to 2. The scale decides what tells two code-book rows apart: the
    larger, the more the nearest row is the one of the right loudness.

    A frame is centred on the samples of its latent frame: Hann window and FFT of 512, magnitudes, Slaney bands from
    0 Hz to half the sample rate, at least 1e-4, audio reflected at its ends.
    """

    basis: Tensor
    window: Tensor

    def __init__(self, channels: int, hop: int, sample_rate: int, scale: float = 1.0) -> None:
        super().__init__()
        from librosa.filters import mel

        self.hop, self.scale = hop, scale
        basis = mel(sr=sample_rate, n_fft=N_FFT, n_mels=channels)
        self.register_buffer("basis", torch.from_numpy(basis), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        with torch.autocast(audio.device.type, enabled=False):
            margin = N_FFT - self.hop
            extended = functional.pad(audio.float(), (margin // 2, margin - margin // 2), mode="reflect")[:, 0]
            spectrum = torch.stft(
                extended, N_FFT, self.hop, window=self.window, center=False, return_complex=True
            ).abs()
            return self.scale * (torch.log10((self.basis @ spectrum).clamp(min=FLOOR)) + 2)
