"""What the metrics need to know of one sound file, from one decoding and one spectrogram; many files in parallel.

Sound is read as librosa reads it (`librosa.load(sr=22050)`: channels averaged, then soxr's HQ resampler), so that
scores can be compared with those of programs that do; a file of 22,050 Hz mono comes through untouched. One log-mel
spectrogram gives the onset strength for both published detectors and the envelopes for the beat tracker, which is the
one that the dataset's own beats come from (`tiktok_dm.pipeline.music`), so that a recording compared with itself is
compared with the same beats.

Beats are tracked twice: over the whole file, and for each whole two seconds of it from these alone.

Not for comparing files: that is `published_beats`, `tracked_beats` and `alignment`.
"""

from __future__ import annotations

import hashlib
import io
import math
import multiprocessing
import multiprocessing.forkserver
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.files import sha256_file
from tiktok_dm.plugins import added, load
from tiktok_dm.schema import SAMPLE_RATE, SEGMENT_S

FFT = 2048
HOP_LENGTH = 512
LOW_HZ = 200.0
"""Below this the beat tracker looks for the kick drum."""
SILENT_DBFS = -60.0
"""Sound whose loudest sample stays below this is called silent (as in the dataset's music stage)."""

Audio = Path | bytes | np.ndarray
"""A sound file, the bytes of one, or mono samples float32 at 22,050 Hz."""

# Codecs make whole hops: what should last 2 s lasts 1.997.
_WINDOW_SLACK_S = 0.1
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_SOUNDFILE = {".wav", ".flac", ".ogg", ".aif", ".aiff", ".w64", ".caf"}


@dataclass(frozen=True)
class Pulse:
    """Tracked beats, s from the start, ascending, and tempo in beats a minute (None where there is no pulse)."""

    beats_s: np.ndarray
    tempo_bpm: float | None


@dataclass(frozen=True)
class ClipFeatures:
    """One sound file, measured.

    Args:
        samples: at 22,050 Hz.
        peak_dbfs: of the loudest sample; None for all zeros.
        onsets_s: onset times by detector (`d2m`, `loris`).
        whole: beats and tempo over the whole file.
        windows: the same for each two seconds alone (the last may lack 0.1 s), times from the window's start.
        rows: embedding, (windows, dim), where one was asked for.
        problem: `empty`, `unreadable` or `non-finite`, with nothing else filled in; None where all is well.
        message: what the problem is, in words.
    """

    samples: int = 0
    peak_dbfs: float | None = None
    onsets_s: dict[str, np.ndarray] = field(default_factory=dict)
    whole: Pulse = field(default_factory=lambda: Pulse(np.zeros(0), None))
    windows: tuple[Pulse, ...] = ()
    rows: np.ndarray | None = None
    problem: str | None = None
    message: str = ""

    @property
    def seconds(self) -> float:
        """Length, s."""
        return self.samples / SAMPLE_RATE

    @property
    def silent(self) -> bool:
        """Whether the loudest sample stays below -60 dBFS."""
        return self.peak_dbfs is None or self.peak_dbfs < SILENT_DBFS


# ------------------------------------------------------------------------------------------- one file


def read_sound(audio: Audio) -> np.ndarray:
    """Mono float32 (samples,) at 22,050 Hz, as `librosa.load(file, sr=22050)` gives it.

    Args:
        audio: see `Audio`; samples are taken as they are.

    Raises:
        MediaError: the file is missing or cannot be decoded.
        ValueError: samples that are not (samples,).
    """
    if isinstance(audio, np.ndarray):
        if audio.ndim != 1:
            raise ValueError(f"samples must be (samples,), not {audio.shape}")
        return np.asarray(audio, np.float32)
    import soundfile

    if isinstance(audio, Path) and audio.suffix.lower() not in _SOUNDFILE:
        from tiktok_dm.media import read_audio

        return read_audio(audio, sample_rate=SAMPLE_RATE, mono=True)
    try:
        sound, rate = soundfile.read(io.BytesIO(audio) if isinstance(audio, bytes) else audio, dtype="float32")
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        name = audio.name if isinstance(audio, Path) else "a stored sound"
        raise MediaError(f"{name} cannot be read as sound ({error})") from error
    if sound.ndim == 2:
        sound = sound.mean(axis=1)
    if rate == SAMPLE_RATE or not len(sound):
        return sound
    import soxr

    wanted = math.ceil(len(sound) * SAMPLE_RATE / rate)
    sound = soxr.resample(sound, rate, SAMPLE_RATE, quality="HQ")[:wanted]
    return np.pad(sound, (0, wanted - len(sound)))


def measure(audio: Audio, embedder: Any = None, detector: Any = None) -> ClipFeatures:
    """Everything about one file. A file that cannot be used is told of in `problem`, not raised.

    Args:
        audio: see `Audio`.
        embedder: with `embed(audio, sample_rate) -> rows` (`tiktok_dm.benchmark.embedders.base`), or None.
        detector: of beats, see `tiktok_dm.plugins`; None for this project's tracker.
    """
    try:
        sound = read_sound(audio)
    except MediaError as error:
        return ClipFeatures(problem="unreadable", message=str(error))
    if not len(sound):
        return ClipFeatures(problem="empty", message="it holds no samples")
    if not np.isfinite(sound).all():
        bad = int((~np.isfinite(sound)).sum())
        return ClipFeatures(problem="non-finite", message=f"{bad} of its {len(sound)} samples are NaN or infinite")
    from tiktok_dm.benchmark.metrics.published_beats import D2M, LORIS

    # A matrix product's last bits depend on its number of threads, and scores must not.
    with _threads().limit(limits=1):
        envelope, low = onset_envelopes(sound)
        peak = float(np.abs(sound).max())
        if detector is None:
            whole = track(envelope, low, len(sound) / SAMPLE_RATE)
            windows = tuple(_windows(envelope, low, len(sound), whole))
        else:
            length = round(SEGMENT_S * SAMPLE_RATE)
            whole = _detected(detector, sound)
            last = len(sound) + round(_WINDOW_SLACK_S * SAMPLE_RATE) - length
            windows = tuple(_detected(detector, sound[k : k + length]) for k in range(0, last + 1, length))
        return ClipFeatures(
            samples=len(sound),
            peak_dbfs=20 * math.log10(peak) if peak > 0 else None,
            onsets_s={detector.name: detector.onsets(envelope) for detector in (D2M, LORIS)},
            whole=whole,
            windows=windows,
            rows=None if embedder is None else embedder.embed(sound, SAMPLE_RATE),
        )


@lru_cache(maxsize=1)
def _threads() -> Any:
    """What limits the threads of the libraries that are loaded; looking for them costs 8 ms."""
    import threadpoolctl

    from tiktok_dm.pipeline.music import warm_up

    warm_up()
    return threadpoolctl.ThreadpoolController()


def onset_envelopes(sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """librosa's onset strength over all mel bands and over those under 200 Hz, (n,) each, a value every 512 samples.

    The first equals `librosa.onset.onset_strength(y=sound, sr=22050)`.
    """
    import librosa
    import librosa.onset

    bands, centres = _mel_bands()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of sounds shorter than a window
        power = np.abs(librosa.stft(sound, n_fft=FFT, hop_length=HOP_LENGTH)) ** 2.0
    # The very product of librosa.feature.melspectrogram, which makes its bands anew for each file.
    mel = np.einsum("...ft,mf->...mt", power, bands, optimize=True)
    decibels = librosa.power_to_db(mel)
    whole = librosa.onset.onset_strength(S=decibels, sr=SAMPLE_RATE, hop_length=HOP_LENGTH)
    low = librosa.onset.onset_strength(S=decibels[centres < LOW_HZ], sr=SAMPLE_RATE, hop_length=HOP_LENGTH)
    return whole, low


@lru_cache(maxsize=1)
def _mel_bands() -> tuple[np.ndarray, np.ndarray]:
    """librosa's 128 mel bands up to 11,025 Hz (128, bins), and their centres in Hz as the music stage takes them."""
    import librosa
    import librosa.filters

    bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=FFT, fmax=0.5 * SAMPLE_RATE)
    return bands, librosa.mel_frequencies(n_mels=len(bands), fmax=SAMPLE_RATE / 2)


def track(envelope: np.ndarray, low: np.ndarray, seconds: float) -> Pulse:
    """Beats and tempo in onset envelopes, by the tracker that made the dataset's `beats_s`."""
    from tiktok_dm.pipeline.music import pulse

    bpm, _, beats = pulse(envelope, low)
    return Pulse(beats[beats < seconds], bpm)


def _detected(detector: Any, sound: np.ndarray) -> Pulse:
    beats, bpm = detector(sound, SAMPLE_RATE)
    return Pulse(np.asarray(beats, np.float64), None if bpm is None else float(bpm))


def _windows(envelope: np.ndarray, low: np.ndarray, samples: int, whole: Pulse) -> Iterator[Pulse]:
    """The pulse of each two seconds, from their part of the envelopes; the last may lack a tenth of a second."""
    length = round(SEGMENT_S * SAMPLE_RATE)
    slack = round(_WINDOW_SLACK_S * SAMPLE_RATE)
    for first in range(0, samples + slack - length + 1, length):
        begin, end = -(-first // HOP_LENGTH), -(-(first + length) // HOP_LENGTH)
        if begin == 0 and end >= len(envelope):
            yield whole
            return
        offset = (begin * HOP_LENGTH - first) / SAMPLE_RATE
        found = track(envelope[begin:end], low[begin:end], SEGMENT_S - offset)
        yield Pulse(found.beats_s + offset, found.tempo_bpm)


# ------------------------------------------------------------------------------------------- many files


class FeatureCache:
    """Features by what the file holds, so that scoring many systems measures the reference once.

    Kept in memory only: measuring is cheap beside starting Python.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], ClipFeatures] = {}

    def get(self, digest: str, embedder: str) -> ClipFeatures | None:
        """Features of the file of that checksum with rows of that embedder (`""`: with or without any)."""
        return self._known.get((digest, embedder))

    def put(self, digest: str, embedder: str, features: ClipFeatures) -> None:
        """Keep them."""
        self._known[digest, embedder] = features
        if " beats by " not in embedder:
            self._known.setdefault((digest, ""), features)


def checksum(audio: Audio) -> str:
    """SHA-256 of a file's bytes, or of samples; `missing` where there is no file."""
    if isinstance(audio, np.ndarray):
        return "samples-" + hashlib.sha256(np.asarray(audio, np.float32).tobytes()).hexdigest()
    if isinstance(audio, bytes):
        return hashlib.sha256(audio).hexdigest()
    try:
        return sha256_file(audio)
    except OSError:
        return "missing"


def measure_all(
    sounds: Sequence[Audio],
    *,
    workers: int = 1,
    embedder: str | None = None,
    weights: Path | None = None,
    detector: str | None = None,
    cache: FeatureCache | None = None,
    progress: Callable[[int, int], None] | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> list[ClipFeatures]:
    """`measure` of every file, in their order. Equal files are measured once. The result does not depend on `workers`.

    Args:
        sounds: files, encoded bytes or samples.
        workers: processes; 1 works in this one.
        embedder: name of an embedder whose rows are wanted too.
        weights: the embedder's, where it needs any.
        detector: name of a detector of beats that another package adds.
        cache: looked into first and filled.
        progress: called with (files done, files in all).
        meanwhile: called once while workers start, where there are any.

    Raises:
        UserError: no such embedder, or a worker was killed.
    """
    cache = cache if cache is not None else FeatureCache()
    made = _embedder(embedder, weights)
    label = f"{made.name} {made.version}" if made is not None else ""
    label += f" beats by {detector}" if detector else ""
    beats = _detector(detector)
    digests = [checksum(sound) for sound in sounds]
    wanted: dict[str, Audio] = {}
    for digest, sound in zip(digests, sounds, strict=True):
        if cache.get(digest, label) is None:
            wanted.setdefault(digest, sound)
    todo = list(wanted.items())
    done = 0

    def keep(batch: Sequence[tuple[str, Audio]], found: Sequence[ClipFeatures]) -> None:
        nonlocal done
        for (digest, _), features in zip(batch, found, strict=True):
            cache.put(digest, label, features)
        done += len(batch)
        if progress is not None:
            progress(done, len(todo))

    if workers <= 1 or len(todo) < 8:
        for entry in todo:
            keep([entry], [measure(entry[1], made, beats)])
    else:
        # Long files first would need their lengths; many small batches even out as well.
        size = max(1, min(16, len(todo) // (4 * workers)))
        batches = [todo[first : first + size] for first in range(0, len(todo), size)]
        try:
            with _pool(min(workers, len(batches))) as pool:
                running = {
                    pool.submit(_measure, [a for _, a in batch], embedder, weights, detector): batch
                    for batch in batches
                }
                if meanwhile is not None:
                    meanwhile()
                for future in as_completed(running):
                    keep(running[future], future.result())
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed while it measured sound files (most often for want of memory): run again "
                "with fewer workers"
            ) from error
    known = [cache.get(digest, label) for digest in digests]
    assert all(features is not None for features in known)
    return known  # type: ignore[return-value]


def _measure(
    sounds: Sequence[Audio], embedder: str | None, weights: Path | None, detector: str | None
) -> list[ClipFeatures]:
    made, beats = _embedder(embedder, weights), _detector(detector)
    return [measure(sound, made, beats) for sound in sounds]


def _detector(name: str | None) -> Any:
    if name is None:
        return None
    if name not in added("detectors"):
        known = ", ".join(added("detectors")) or "none is installed"
        raise UserError(f"there is no detector of beats called {name!r} ({known}): install a package that adds it")
    return load("detectors", name)


_MADE: dict[tuple[str, Path | None], Any] = {}


def _embedder(name: str | None, weights: Path | None) -> Any:
    if name is None:
        return None
    if (name, weights) not in _MADE:
        from tiktok_dm.benchmark.embedders.registry import get_embedder

        _MADE[name, weights] = get_embedder(name, weights)
    return _MADE[name, weights]


def _pool(workers: int) -> ProcessPoolExecutor:
    """Processes forked from one that has librosa loaded: its import costs seconds, and is paid once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiktok_dm.benchmark.preload"])
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update({name: "1" for name in _ONE_THREAD})
    try:
        # The server keeps the environment that it starts with, and its children inherit that.
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return ProcessPoolExecutor(workers, mp_context=context)
