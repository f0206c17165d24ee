"""The music stage: loudness, onset envelope, tempo and beats of a clip's audio.

It measures the music of one clip as it will be published (22,050 Hz mono). It does not decode or resample
(`tiktok_dm.media` does), recognise songs, or score generated music.

The onset envelope and the beat tracker are librosa's. The tempo is not librosa's default, which takes the best of a
few coarse autocorrelation lags (near 120 bpm they lie 5 % apart) and often lands on 4/3 of the beat; see `tempo`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tiktok_dm.errors import Filtered, MediaError

VERSION = 2

# Loudness after ITU-R BS.1770 looks at blocks of 400 ms; nothing shorter has one.
_LOUDNESS_BLOCK_S = 0.4
_FFT = 2048  # librosa's own window of the onset strength, samples
_BLOCK_FRAMES = 1024
# Whatever repeats in less than this may be anything.
_SHORTEST_PULSE_S = 1.5


@dataclass(frozen=True)
class MusicParams:
    """What the measurement of a clip's music depends on.

    Args:
        sample_rate: rate of the audio handed in, Hz.
        hop_length: samples from one value of the onset envelope to the next (512 at 22,050 Hz: 23.2 ms).
        silence_dbfs: a clip whose loudest sample stays below this is no music and leaves the dataset.
        start_bpm: centre of the tempo prior; it decides between octaves of one tempo.
        tempo_std_octaves: standard deviation of that prior, in octaves.
        min_bpm: slowest tempo considered.
        max_bpm: fastest tempo considered.
        tightness: how closely beats keep to the tempo (`librosa.beat.beat_track`).
        onset_delay_s: how long after an attack librosa's onset strength has its peak: 0.02 for clicks, 0.034 for
            synthesised songs with drums; beats are put back by it (the stored envelope is not).
    """

    sample_rate: int = 22_050
    hop_length: int = 512
    silence_dbfs: float = -60.0
    start_bpm: float = 115.0
    tempo_std_octaves: float = 0.6
    min_bpm: float = 50.0
    max_bpm: float = 220.0
    tightness: float = 100.0
    onset_delay_s: float = 0.03


def music(audio: Path, params: MusicParams, out: Path) -> dict[str, Any]:
    """Measure the music of one clip.

    Args:
        audio: sound file, mono at `params.sample_rate`.
        params: see `MusicParams`.
        out: folder that receives `onset.npy`: librosa's onset strength, float32, value k at sample k * `hop_length`.

    Returns:
        Plain record: `tempo_bpm` and `tempo_confidence` (0..1), both None where no pulse can be found; `beats_s`
        (seconds from the clip's start, ascending), `loudness_lufs` (None under 0.4 s or below the gate), `peak_dbfs`,
        `n_samples`, `sample_rate`, `onset_rate_hz`, `librosa_version`.

    Raises:
        Filtered: the clip is silent.
        MediaError: the file cannot be read as mono sound of that rate.
    """
    samples = _read(audio, params.sample_rate)
    peak_dbfs = _dbfs(float(np.abs(samples).max(initial=0.0)))
    if peak_dbfs is None or peak_dbfs < params.silence_dbfs:
        loudest = "all its samples are zero" if peak_dbfs is None else f"its loudest sample is at {peak_dbfs:.1f} dBFS"
        raise Filtered(f"the clip is silent: {loudest}")

    librosa = warm_up()
    import threadpoolctl

    # A matrix product's last bits depend on its number of threads, and the record must not.
    with threadpoolctl.threadpool_limits(limits=1):
        envelope, low = _envelopes(librosa, samples, params)
        rate = params.sample_rate / params.hop_length
        bpm, confidence, beats = pulse(envelope, low, params)
        loudness = _loudness(samples, params.sample_rate)
    beats = beats[beats < len(samples) / params.sample_rate]
    np.save(out / "onset.npy", envelope)
    return {
        "tempo_bpm": None if bpm is None else round(bpm, 3),
        "tempo_confidence": None if confidence is None else round(confidence, 3),
        "beats_s": [round(float(beat), 4) for beat in beats],
        "loudness_lufs": None if loudness is None else round(loudness, 2),
        "peak_dbfs": round(peak_dbfs, 2),
        "n_samples": len(samples),
        "sample_rate": params.sample_rate,
        "onset_rate_hz": round(rate, 6),
        "librosa_version": librosa.__version__,
    }


def _envelopes(librosa: ModuleType, samples: np.ndarray, params: MusicParams) -> tuple[np.ndarray, np.ndarray]:
    """librosa's onset strength, float32 (n,), over all mel bands and over those under 200 Hz alone."""
    # In blocks of frames: a spectrogram of a whole clip would be many times the clip.
    padded = np.pad(samples, _FFT // 2)
    count = 1 + len(samples) // params.hop_length
    options = {"sr": params.sample_rate, "n_fft": _FFT, "hop_length": params.hop_length, "center": False}
    blocks = []
    for first in range(0, count, _BLOCK_FRAMES):
        last = min(count, first + _BLOCK_FRAMES) - 1
        part = padded[first * params.hop_length : last * params.hop_length + _FFT]
        blocks.append(librosa.feature.melspectrogram(y=part, **options))
    mel = np.concatenate(blocks, axis=1)
    decibels = librosa.power_to_db(mel)
    centres = librosa.mel_frequencies(n_mels=len(mel), fmax=params.sample_rate / 2)
    options = {"sr": params.sample_rate, "hop_length": params.hop_length}
    whole = librosa.onset.onset_strength(S=decibels, **options)
    low = librosa.onset.onset_strength(S=decibels[centres < 200], **options)
    return np.asarray(whole, dtype=np.float32), np.asarray(low, dtype=np.float32)


def pulse(
    envelope: np.ndarray, low: np.ndarray, params: MusicParams | None = None
) -> tuple[float | None, float | None, np.ndarray]:
    """Tempo (bpm), its confidence (0..1) and beats (s, ascending) of music whose onset envelopes are there already.

    Args:
        envelope: librosa's onset strength over all mel bands, (n,), one value each `params.hop_length` samples.
        low: the same over the bands under 200 Hz alone.
        params: of the tempo and the beats.

    Returns:
        (None, None, no beats) where no pulse can be found. Beats may lie a little after the last envelope value.
    """
    params = params or MusicParams()
    bpm, confidence = tempo(envelope, params.sample_rate / params.hop_length, params)
    beats = _beats(warm_up(), envelope, low, bpm, params) if bpm is not None else np.zeros(0)
    return bpm, confidence, beats


def tempo(envelope: np.ndarray, rate: float, params: MusicParams | None = None) -> tuple[float | None, float | None]:
    """Tempo of an onset envelope, finer than its lags.

    The envelope is smoothed by 30 ms, so that beats played a little early or late still meet. Each candidate
    tempo, 0.25 % apart, scores the mean of the autocorrelation (unbiased, read between lags by cubic splines) at one,
    two, three and four beats: a false 4/3 or 3/2 of the beat fits some of these and misses the others. A log-normal
    prior chooses the octave.

    Args:
        envelope: onset strength, shape (n,).
        rate: its values a second, Hz.
        params: prior and range of the tempo.

    Returns:
        Tempo in bpm, and the mean autocorrelation at its multiples, cut to 0..1; (None, None) where the envelope is
        flat, shorter than 1.5 s, or repeats at no tempo.
    """
    from scipy.interpolate import CubicSpline
    from scipy.ndimage import gaussian_filter1d

    params = params or MusicParams()
    n = len(envelope)
    smooth = gaussian_filter1d(np.asarray(envelope, dtype=np.float64), 0.03 * rate) if n else np.zeros(0)
    smooth = smooth - smooth.mean() if n else smooth
    if n < _SHORTEST_PULSE_S * rate or not float(smooth @ smooth) > 0:
        return None, None
    spectrum = np.fft.rfft(smooth, 2 * n)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[:n]
    correlation = correlation / correlation[0] * n / (n - np.arange(n))

    grid = np.exp(np.arange(np.log(params.min_bpm), np.log(params.max_bpm), 0.0025))
    lags = 60 * rate / grid[:, None] * np.arange(1, 5)
    # The last quarter of the lags rests on too few values.
    known = lags < 0.75 * n
    grid, lags, known = grid[known[:, 0]], lags[known[:, 0]], known[known[:, 0]]
    if len(grid) < 3:
        return None, None
    values = CubicSpline(np.arange(n), correlation)(np.minimum(lags, n - 1))
    strength = (values * known).sum(axis=1) / known.sum(axis=1)
    octaves = np.log2(grid / params.start_bpm)
    score = np.log1p(50 * np.maximum(strength, 0)) - 0.5 * (octaves / params.tempo_std_octaves) ** 2
    best = int(score.argmax())
    if strength[best] <= 0:
        return None, None
    step = _vertex(strength, best)
    return float(grid[best] * np.exp(0.0025 * step)), float(np.clip(strength[best], 0, 1))


# Of drawn rhythms, beat F of dembow is 0.19 without, 0.77 at 1.3, 0.92 at 1.12; of house and rock 1 in each.
# At 1.12 one of six of the demo's songs, whose beats are known, went to the off-beat.
_LOW_DECIDES = 1.3


def _beats(librosa: ModuleType, envelope: np.ndarray, low: np.ndarray, bpm: float, params: MusicParams) -> np.ndarray:
    """Beats in seconds, ascending.

    librosa's dynamic programme (Ellis 2007) finds them at the known tempo, with three things done for it. It rounds the
    beat to whole frames, so it is given an envelope resampled to 32 values a beat. It ends its path at the last peak,
    even an off-beat, and all beats before follow from that; so four ends, a quarter of a beat apart, are tried, and
    the path on the strongest onsets is kept. And half the weight of an envelope of the lowest frequencies is added,
    where the kick drum is: an open hi-hat on every off-beat is else as good a beat.
    """
    mixed = _standard(envelope) + 0.5 * _standard(low)
    frame_s = params.hop_length / params.sample_rate
    per_beat = 32
    step_s = 60 / bpm / per_beat
    grid = np.arange(0, (len(mixed) - 1) * frame_s, step_s)
    warped = np.interp(grid, np.arange(len(mixed)) * frame_s, mixed)
    smooth = np.convolve(warped, np.hanning(7) / np.hanning(7).sum(), mode="same")
    best, found = -np.inf, np.zeros(0, dtype=int)
    for quarter in range(4):
        part = warped[: len(warped) - quarter * per_beat // 4]
        if len(part) < per_beat:
            break
        _, path = librosa.beat.beat_track(
            onset_envelope=part,
            sr=per_beat,
            hop_length=1,
            bpm=60,
            tightness=params.tightness,
            trim=False,
            units="frames",
        )
        if len(path) and smooth[path].mean() > best:
            best, found = float(smooth[path].mean()), path
    if not len(found):
        return np.zeros(0)
    found = _on_the_low_band(found, np.interp(grid, np.arange(len(low)) * frame_s, low), per_beat // 2)
    # A first step that is off the tempo leads from the file's edge to the first real beat.
    if len(found) > 2 and abs((found[1] - found[0]) / per_beat - 1) > 0.15:
        found = found[1:]
    # The path may begin and end a beat or two inside the clip; farther out nothing tells that music goes on.
    sides = per_beat * np.arange(1, 3)
    path = np.concatenate([(found[0] - sides)[::-1], found, found[-1] + sides])
    beats = path[(path >= 0) & (path < len(warped))] * step_s - params.onset_delay_s
    return beats[beats >= 0]


def _on_the_low_band(path: np.ndarray, low: np.ndarray, half: int) -> np.ndarray:
    """The path, or half a beat later where the lowest frequencies clearly begin there: the kick drum is on the beat.

    Snares and open hi-hats between the beats (dembow) are else as good a beat.
    """
    reach = half // 4

    def strength(at: np.ndarray) -> float:
        at = at[(at >= reach) & (at < len(low) - reach)]
        return float(low[at[:, None] + np.arange(-reach, reach + 1)].max(axis=1).mean()) if len(at) else 0.0

    later = path + half
    return later[later < len(low)] if strength(later) > _LOW_DECIDES * strength(path) else path


def _standard(envelope: np.ndarray) -> np.ndarray:
    values = np.asarray(envelope, dtype=np.float64)
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


def _vertex(values: np.ndarray, at: int) -> float:
    """Offset, -0.5 to 0.5, of the vertex of the parabola through a peak and its two neighbours; 0 where it is none."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = (float(value) for value in values[at - 1 : at + 2])
    bend = left - 2 * middle + right
    if bend >= 0 or middle < max(left, right):
        return 0.0
    return 0.5 * (left - right) / bend


def _loudness(samples: np.ndarray, sample_rate: int) -> float | None:
    """Integrated loudness in LUFS (ITU-R BS.1770-4), None where it is not defined."""
    import pyloudnorm

    if len(samples) <= _LOUDNESS_BLOCK_S * sample_rate:
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        loudness = float(pyloudnorm.Meter(sample_rate, block_size=_LOUDNESS_BLOCK_S).integrated_loudness(samples))
    return loudness if np.isfinite(loudness) else None


def _dbfs(amplitude: float) -> float | None:
    return 20 * float(np.log10(amplitude)) if amplitude > 0 else None


def _read(audio: Path, sample_rate: int) -> np.ndarray:
    import soundfile

    try:
        samples, rate = soundfile.read(str(audio), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise MediaError(f"{audio.name} cannot be read as sound ({error}); is the file whole?") from error
    if rate != sample_rate or samples.shape[1] != 1:
        raise MediaError(
            f"{audio.name} has {samples.shape[1]} channel(s) at {rate} Hz, but the music stage takes mono at"
            f" {sample_rate} Hz; convert it first."
        )
    return np.ascontiguousarray(samples[:, 0])


def warm_up() -> ModuleType:
    """Import librosa with the functions that the stage needs; the stage's only slow start.

    librosa compiles its inner loops when it is first imported (about half a minute of processor time) and keeps the
    machine code on disk, so that a later process needs about 4 s. A lock lets only the first process of an
    environment compile while others wait.
    """
    if "librosa.beat" in sys.modules:
        import librosa

        return librosa
    import filelock
    import librosa
    import numba
    import platformdirs

    cache = platformdirs.user_cache_path("tiktok-dm") / "numba"
    home = Path(librosa.__file__).parent
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        cache = Path(tempfile.mkdtemp(prefix="tiktok-dm-numba-"))
    if not os.environ.get("NUMBA_CACHE_DIR") and not os.access(home, os.W_OK):
        # In a read-only environment numba may find no place for the machine code, and then refuses to work at all.
        setattr(numba.config, "CACHE_DIR", str(cache))  # noqa: B010 (made at run time)

    done = _compiled(cache, home)
    if done.exists():
        _compile()
        return librosa
    with filelock.FileLock(f"{done}.lock"):
        _compile()
        done.touch()
    return librosa


def _compiled(cache: Path, home: Path) -> Path:
    """The file that says that librosa's loops are compiled, for the librosa whose package is the folder `home`."""
    # An environment that was made anew at the same place has nothing compiled: its files are other ones.
    file = (home / "beat.py").stat()
    place = zlib.crc32(f"{home} {file.st_ino} {file.st_mtime_ns}".encode())
    versions = f"librosa-{version('librosa')}-numba-{version('numba')}"
    return cache / f"{versions}-{sys.implementation.cache_tag}-{place:08x}"


def _compile() -> None:
    import librosa.beat
    import librosa.onset  # noqa: F401
