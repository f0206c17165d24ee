"""Spectra that are compared in training: log-mel, several resolutions, loudness asked of a latent's first channels.

A codec trained on waveforms alone keeps phase: its latent swings around zero whatever the sound's level, and no linear
map of it tells loudness (on the demo's songs R^2 is 0.003 against the log-mel). The mean or median of such latents over
all that may sound at a beat is then the same as between beats, and a generator that minimises a distance to them, as
D2M-GAN does, can't follow a dance. Asking some channels for the log-mel makes loudness part of what is predicted and of
what the code-book tells apart; compare the distilled first code-book of Zhang et al. 2024 (SpeechTokenizer).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.config import SAMPLE_RATE

N_FFT = 1024
HOP = 256
N_MELS = 128
_MEL_FLOOR = 1e-5


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
        return torch.log10((self.basis @ spectrum).clamp(min=_MEL_FLOOR))


# Magnitudes below this count as this: white noise of about -70 dB full scale. Nobody hears what lies under it, and its
# logarithm would cost the codec bits.
FLOOR = 1e-2


class SpectralLoss(nn.Module):
    """Spectral convergence plus log-magnitude distance, mean over several FFT sizes (Yamamoto et al. 2020, eq. 4-6).

    For magnitudes S of the truth and T of the reconstruction:
    `|S - T|_F / |S|_F + mean |ln S - ln T|`, Frobenius norms over the whole batch, so that silent items cost nothing.
    JukeBox's spectral loss (Dhariwal et al. 2020, section 3.2) is the numerator of the first part.

    Args:
        ffts: FFT sizes in samples; Hann windows as long, hops of a quarter, frames inside the signal only.
    """

    def __init__(self, ffts: Sequence[int] = (2048, 1024, 512)) -> None:
        super().__init__()
        self.ffts = tuple(ffts)
        for size in self.ffts:
            self.register_buffer(f"window_{size}", torch.hann_window(size), persistent=False)

    def forward(self, audio: Tensor, truth: Tensor) -> Tensor:
        """The loss, a scalar, of two signals (batch, samples) at least as long as the longest FFT; float32 inside."""
        losses = []
        with torch.autocast(audio.device.type, enabled=False):
            for size in self.ffts:
                mine, theirs = self._magnitude(audio, size), self._magnitude(truth, size)
                least = FLOOR * theirs.numel() ** 0.5
                convergence = torch.linalg.vector_norm(theirs - mine) / torch.linalg.vector_norm(theirs).clamp(
                    min=least
                )
                logs = (theirs.clamp(min=FLOOR).log() - mine.clamp(min=FLOOR).log()).abs().mean()
                losses.append(convergence + logs)
        return torch.stack(losses).mean()

    def _magnitude(self, audio: Tensor, size: int) -> Tensor:
        window = getattr(self, f"window_{size}")
        spectrum = torch.stft(audio.float(), size, size // 4, window=window, center=False, return_complex=True)
        return spectrum.abs()


_GUIDE_N_FFT = 512
_GUIDE_FLOOR = 1e-4


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
        basis = mel(sr=sample_rate, n_fft=_GUIDE_N_FFT, n_mels=channels)
        self.register_buffer("basis", torch.from_numpy(basis), persistent=False)
        self.register_buffer("window", torch.hann_window(_GUIDE_N_FFT), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        with torch.autocast(audio.device.type, enabled=False):
            margin = _GUIDE_N_FFT - self.hop
            extended = functional.pad(audio.float(), (margin // 2, margin - margin // 2), mode="reflect")[:, 0]
            spectrum = torch.stft(
                extended, _GUIDE_N_FFT, self.hop, window=self.window, center=False, return_complex=True
            ).abs()
            return self.scale * (torch.log10((self.basis @ spectrum).clamp(min=_GUIDE_FLOOR)) + 2)
