"""The default embedding: statistics of a log-mel spectrogram, 64 numbers per two seconds. No download, no PyTorch.

It sees timbre (the mean spectrum and how it varies), attack (how fast it changes) and pulse (what the onset envelope
repeats), and no melody, no harmony and no loudness. It is a yardstick that everybody can compute, not a perceptual
one: distances on it say that two sets of sounds differ, and little of how good either sounds.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from tiktok_dm.benchmark.embedders.base import at_rate, version_of, windows

_VERSION = 1
_PARAMETERS = {
    "sample_rate": 22_050,
    "window_s": 2.0,
    "n_fft": 2048,
    "hop": 512,
    "n_mels": 64,
    "fmin": 30.0,
    "fmax": 11_025.0,
    "rms_dbfs": -20.0,
    "silence_dbfs": -70.0,
    "floor_db": -80.0,
    "mean": 24,
    "std": 12,
    "change": 12,
    "lags": 16,
    "first_lag_s": 0.1,
    "last_lag_s": 1.2,
}
_RATE, _WINDOW, _FFT, _HOP = 22_050, 44_100, 2048, 512


class LogMelEmbedder:
    """Statistics of the log-mel spectrogram of 2-s windows, (windows, 64).

    The whole clip is first brought to an RMS of -20 dBFS, so that gain is not scored; a clip below -70 dBFS is left as
    it is and lies at the floor. Then for each window, on a power spectrogram (Hann, 2048 samples, hop 512, whole frames
    of the window only) through 64 Slaney mel bands of 30 to 11,025 Hz, in units of 10 dB with a floor of -80 dB
    (0 dB = a full-scale sine's peak bin):

    - 0-23: mean over time of each band, as the first 24 coefficients of an orthonormal DCT-II over bands, divided by 8;
    - 24-35: standard deviation over time of each band, 12 DCT coefficients, divided by 8;
    - 36-47: root mean square of the change from frame to frame of each band, 12 DCT coefficients, divided by 8;
    - 48-63: autocorrelation of the onset envelope (mean over bands of the rising change, its mean removed) at 16 lags
      spaced evenly in the logarithm from 0.1 to 1.2 s (600 to 50 beats a minute), divided by its value at lag 0; zeros
      where the envelope is flat.

    The DCT over bands makes 192 strongly correlated numbers 48 nearly uncorrelated ones (as in the MFCCs of Davis and
    Mermelstein 1980): a Gaussian of 64 dimensions can be fitted to a few hundred windows, one of 260 can't. Dividing by
    8 = sqrt(64) makes coefficient 0 the mean over bands.
    """

    name = "log-mel"
    sample_rate = _RATE
    dim = 64

    def __init__(self) -> None:
        self.version = version_of(_VERSION, _PARAMETERS)

    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """See `tiktok_dm.benchmark.embedders.base.Embedder.embed`."""
        sound = at_rate(audio, sample_rate, _RATE).astype(np.float64)
        rms = np.sqrt(np.mean(sound**2))
        if rms > 10 ** (_PARAMETERS["silence_dbfs"] / 20):
            sound = sound * (10 ** (_PARAMETERS["rms_dbfs"] / 20) / rms)
        return np.stack([_statistics(window) for window in windows(sound, _WINDOW)])


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Periodic Hann window scaled so that a full-scale sine has power 1; mel bands (64, bins); DCT-II (64, 64)."""
    import librosa.filters
    from scipy.fft import dct
    from scipy.signal import get_window

    hann = get_window("hann", _FFT)
    # Bands with a peak of 1 (norm=None): a band's power is that of the sines in it.
    mel = librosa.filters.mel(
        sr=_RATE, n_fft=_FFT, n_mels=64, fmin=_PARAMETERS["fmin"], fmax=_PARAMETERS["fmax"], norm=None, dtype=np.float64
    )
    return hann / (hann.sum() / 2), mel, dct(np.eye(64), type=2, norm="ortho", axis=0)


def log_mel(window: np.ndarray) -> np.ndarray:
    """Log-mel spectrogram of samples (samples,) at 22,050 Hz, in units of 10 dB, (64, frames)."""
    hann, mel, _ = _tables()
    frames = np.lib.stride_tricks.sliding_window_view(window, _FFT)[::_HOP]
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return np.log10(np.maximum(mel @ power.T, 10 ** (_PARAMETERS["floor_db"] / 10)))


def _statistics(window: np.ndarray) -> np.ndarray:
    spectrum = log_mel(window)
    _, _, dct = _tables()
    change = np.diff(spectrum, axis=1)
    return np.concatenate(
        [
            (dct @ spectrum.mean(axis=1))[:24] / 8,
            (dct @ spectrum.std(axis=1))[:12] / 8,
            (dct @ np.sqrt((change**2).mean(axis=1)))[:12] / 8,
            _pulse(np.maximum(change, 0).mean(axis=0)),
        ]
    )


def _pulse(envelope: np.ndarray) -> np.ndarray:
    """Autocorrelation of an onset envelope at 16 log-spaced lags, (16,), read between frames by straight lines."""
    lags_s = np.geomspace(_PARAMETERS["first_lag_s"], _PARAMETERS["last_lag_s"], 16)
    centred = envelope - envelope.mean()
    power = centred @ centred
    if power <= 1e-12:
        return np.zeros(16)
    correlation = np.correlate(centred, centred, "full")[len(centred) - 1 :] / power
    return np.interp(lags_s * _RATE / _HOP, np.arange(len(correlation)), correlation)
