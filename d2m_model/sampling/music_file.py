"""Made music as files: loudness, an optional noise gate, wav with metadata, the film with its new music.

The music is brought to -16 LUFS with true peaks at most -1 dBTP, which is what AES TD1004 allows at the loud end for
streams; dances then sound alike loud beside each other and beside what else is on a phone. The level changes by one
factor, never by a limiter: where peaks do not allow the target, the music stays quieter, undistorted.

Not for making the sound (`sampling`).
"""

from __future__ import annotations

import io
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiktok_dm import media
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic

DEFAULT_LOUDNESS = -16.0
"""LUFS."""
PEAK_DBTP = -1.0
# ITU-R BS.1770: blocks of 400 ms; nothing shorter has a loudness.
_BLOCK_S = 0.4
# Sixteen-bit steps would turn a ghost of a signal into noise: what is quieter than this stays as it is.
_SILENCE_LUFS = -70.0


class Loudness(NamedTuple):
    """Sound at its loudness.

    Args:
        audio: (samples,) float32.
        lufs: integrated loudness that was reached; None for silence and for less than 0.4 s.
        gain_db: by how much the level was changed.
    """

    audio: np.ndarray
    lufs: float | None
    gain_db: float


def set_loudness(audio: np.ndarray, sample_rate: int, target_lufs: float = DEFAULT_LOUDNESS) -> Loudness:
    """Bring sound to a loudness (ITU-R BS.1770-4), as far as true peaks of -1 dBTP allow; silence stays silence.

    Args:
        audio: (samples,) float.
        sample_rate: Hz.
        target_lufs: integrated loudness, -70 to -5.

    Raises:
        UserError: a target that is no sensible loudness, or sound that is not finite.
    """
    check_loudness(target_lufs)
    audio = np.asarray(audio, np.float32)
    if not np.isfinite(audio).all():
        raise UserError("The music holds NaN or infinite samples: the checkpoint or the codec is damaged.")
    loudness = integrated_loudness(audio, sample_rate)
    gain_db = 0.0 if loudness is None else target_lufs - loudness
    peak = true_peak(audio)
    if peak > 0:
        gain_db = min(gain_db, PEAK_DBTP - 20 * float(np.log10(peak)))
    quieted = audio if gain_db == 0 else (audio * 10 ** (gain_db / 20)).astype(np.float32)
    return Loudness(quieted, None if loudness is None else loudness + gain_db, gain_db)


def check_loudness(target_lufs: float) -> None:
    """Raise `UserError` for a target that is no sensible loudness."""
    if not -70 <= target_lufs <= -5:
        raise UserError(f"The loudness is {target_lufs:g} LUFS; give a number from -70 to -5, such as -16.")


def integrated_loudness(audio: np.ndarray, sample_rate: int) -> float | None:
    """Integrated loudness in LUFS (ITU-R BS.1770-4); None for silence, and where there is less than one block."""
    import pyloudnorm

    if len(audio) <= _BLOCK_S * sample_rate:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(pyloudnorm.Meter(sample_rate, block_size=_BLOCK_S).integrated_loudness(np.float64(audio)))
    return value if np.isfinite(value) and value > _SILENCE_LUFS else None


def true_peak(audio: np.ndarray) -> float:
    """Greatest amplitude of the sound between its samples as well, found at four times the rate (BS.1770, annex 2)."""
    from scipy.signal import resample_poly

    if not len(audio):
        return 0.0
    between = resample_poly(np.asarray(audio, np.float64), 4, 1)
    return float(max(np.abs(between).max(), np.abs(audio).max()))


def denoise(audio: np.ndarray, sample_rate: int, *, over: float = 2.0, floor_db: float = -12.0) -> np.ndarray:
    """A stationary spectral gate against the even noise that vector-quantised codecs leave.

    The noise's power in each frequency band is taken from the quietest tenth of the frames (quantile-based estimation,
    Stahl, Fischer and Bippus 2000), corrected for the bias that this quantile has on Gaussian noise, whose power is
    exponentially distributed: q = -mean * ln(1 - 0.1). Bands then get the gain of power subtraction (Berouti et al.
    1979), sqrt(1 - over * noise / power), at least `floor_db`, evened out over neighbours against musical noise.
    A tone that never pauses counts as noise here, which is why this is off unless asked for.

    Args:
        audio: (samples,) float.
        sample_rate: Hz.
        over: over-subtraction.
        floor_db: least gain.

    Returns:
        (samples,) float32.
    """
    from scipy.ndimage import uniform_filter
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    audio = np.asarray(audio, np.float32)
    size = 2 ** round(np.log2(0.046 * sample_rate))  # 1024 at 22,050 Hz
    if len(audio) < 2 * size:
        return audio
    transform = ShortTimeFFT(hann(size, sym=False), size // 4, sample_rate)
    spectrum = transform.stft(audio.astype(np.float64))
    power = np.abs(spectrum) ** 2
    quantile = 0.1
    noise = np.quantile(power, quantile, axis=1, keepdims=True) / -np.log(1 - quantile)
    gain = np.sqrt(np.clip(1 - over * noise / np.maximum(power, 1e-20), 10 ** (floor_db / 10), 1))
    spectrum *= uniform_filter(gain, size=(3, 5), mode="nearest")
    return np.asarray(transform.istft(spectrum, k1=len(audio)), np.float32)


def metadata(licence: str, source: str, made_by: str = "D2M-GAN") -> dict[str, str]:
    """The texts that go into files, under FFmpeg's names: software, comment, and copyright where there is a licence.

    Args:
        licence: sentence that music made with the codec's weights carries; empty for a codec of one's own.
        source: of the dance, in words.
        made_by: model, for the comment.
    """
    comment = f"Music made from dance by {made_by}, {_software()}" + (f"; dance: {source}" if source else "") + "."
    texts = {"software": _software(), "comment": f"{comment} {licence}".strip()}
    if licence:
        texts["copyright"] = licence
    return texts


def _software() -> str:
    try:
        return f"d2m_model {version('tiktok-dm')}"
    except PackageNotFoundError:
        return "d2m_model"


def wav_bytes(
    audio: np.ndarray, sample_rate: int, texts: dict[str, str] | None = None, *, float_samples: bool = False
) -> bytes:
    """Sound as the bytes of a WAV file with its texts in a LIST INFO chunk; the same input gives the same bytes.

    Args:
        audio: (samples,) float; as 16-bit samples what is beyond -1..1 is clipped.
        sample_rate: Hz.
        texts: as `metadata` gives them.
        float_samples: 32-bit floats instead of 16-bit integers.
    """
    import soundfile

    buffer = io.BytesIO()
    subtype = "FLOAT" if float_samples else "PCM_16"
    with soundfile.SoundFile(buffer, "w", sample_rate, 1, subtype, format="WAV") as file:
        for name, text in (texts or {}).items():
            setattr(file, name, text)
        file.write(np.asarray(audio, np.float32) if float_samples else np.clip(audio, -1, 1))
    content = bytearray(buffer.getvalue())
    if float_samples and (at := content.find(b"PEAK", 12, content.find(b"data"))) >= 0:
        content[at + 12 : at + 16] = bytes(4)  # the time of day at which the peak was measured
    return bytes(content)


def write_wav(
    path: Path,
    audio: np.ndarray,
    sample_rate: int,
    texts: dict[str, str] | None = None,
    *,
    float_samples: bool = False,
    force: bool = False,
) -> None:
    """Write a WAV file, which appears only when it is whole; see `wav_bytes`.

    Raises:
        UserError: the file exists (and `force` is not given), or cannot be written.
    """
    check_free(path, force)
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written: there is no folder {path.parent}.")
    try:
        write_atomic(path, wav_bytes(audio, sample_rate, texts, float_samples=float_samples))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def write_film(
    path: Path,
    video: Path | bytes,
    audio: np.ndarray,
    sample_rate: int,
    texts: dict[str, str] | None = None,
    *,
    force: bool = False,
) -> None:
    """Write the film's own pictures, not re-encoded, with the music as AAC, as an MP4 that appears only when whole.

    Args:
        path: where to.
        video: the film, or its bytes; its own sound is left out.
        audio: (samples,) float in -1..1.
        sample_rate: Hz.
        texts: as `metadata` gives them.
        force: whether a file of that name gives way.

    Raises:
        UserError: the file exists (and `force` is not given), or cannot be written.
        MediaError: a film that cannot be read, or whose pictures MP4 cannot hold.
    """
    check_free(path, force)
    stored = path.with_name(f".{path.name}.source") if isinstance(video, bytes) else None
    try:
        if stored is not None and isinstance(video, bytes):
            stored.write_bytes(video)
        media.mux_audio(stored or Path(str(video)), audio, sample_rate, path, metadata=texts)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        if stored is not None:
            stored.unlink(missing_ok=True)


def check_free(path: Path, force: bool = False) -> None:
    """Raise `UserError` where a file of that name exists and `force` is not given."""
    if path.exists() and not force:
        raise UserError(f"{path} exists already; choose another folder, or give --force to write it anew.")
