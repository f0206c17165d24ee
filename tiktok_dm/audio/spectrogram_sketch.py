"""What is kept of music to know it again, a small image of its notes over time, and two of them laid over each other.

A sketch is a spectrogram with logarithmic frequency (24 bins an octave, 21.5 frames a second) in which each bin is held
against its surroundings, first in frequency, then in time. That takes level, equaliser, hum and room out, and leaves
the pattern of partials and onsets, in which every frame counts the same. A copy that is played faster is the same
picture, narrower; one that is pitched higher is the same picture, moved up: so every speed and pitch is compared
without touching the sound again. For finding recordings again (`song_index`).

Two sketches are laid over each other from a guess: speed, pitch and offset are refined until the agreement along one
line is greatest; the longest agreeing stretch of it, and the peaks that both have there, become the log-odds of one
song. For the close look of a search (`song_index`), which brings the guess.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from tiktok_dm.errors import UserError

VERSION = "1"  # of the numbers below; a stored sketch of another version is made again

RATE = 11_025  # Hz
N_FFT = 2048  # 186 ms: two notes a semitone apart are told apart from 200 Hz on
HOP = 512
FRAME_RATE = RATE / HOP  # 21.5 frames a second
BINS_PER_OCTAVE = 24
LOWEST_HZ = 150.0
BINS = 120  # five octaves, up to 4.8 kHz
MOST_S = 300.0
"""A sketch ends here: a "clip" of an hour is a video without cuts, and its first minutes tell its song."""
SILENCE = 10 ** (-70 / 20)  # of full scale: frames whose RMS stays below are silent
LEAST_S = 1.0  # of sound; less is no music that could be known again
_AROUND_BINS = 8.0  # standard deviation of the surroundings in frequency: a third of an octave
_AROUND_S = 1.5  # and in time
_STEP = 1 / 40  # of the stored int8
_FLAT = 40.0  # of a frame's norm in the stored steps; music has 100 to 300, a constant tone or hum next to nothing


@dataclass(frozen=True)
class SongSketch:
    """All that is kept of one clip's music, about 2.6 kB a second.

    Args:
        duration_s: of the sound.
        silent: it holds less than a second of sound that could be music; such a sketch matches nothing.
        picture: int8 (frames, 120), the picture in steps of 1/40; frame k lies at `k / FRAME_RATE` s.
        level: uint8 (frames,), level below full scale in steps of 0.5 dB (0: 0 dBFS, 255: silence).
    """

    duration_s: float
    silent: bool
    picture: np.ndarray = field(repr=False)
    level: np.ndarray = field(repr=False)

    def to_bytes(self) -> bytes:
        """As an npz file."""
        out = io.BytesIO()
        np.savez_compressed(
            out,
            version=np.array(VERSION),
            duration_s=np.float64(self.duration_s),
            silent=np.bool_(self.silent),
            picture=self.picture,
            level=self.level,
        )
        return out.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> SongSketch:
        """The sketch that `to_bytes` wrote.

        Raises:
            UserError: these are no sketch's bytes, or they come from another version.
        """
        try:
            with np.load(io.BytesIO(data)) as stored:
                if str(stored["version"]) != VERSION:
                    raise UserError("this sketch of a song was made by another version: make it again")
                return SongSketch(
                    float(stored["duration_s"]), bool(stored["silent"]), stored["picture"], stored["level"]
                )
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UserError("these bytes are no sketch of a song: make it again") from error

    @property
    def frames(self) -> int:
        return len(self.picture)


def sketch(audio: np.ndarray, sample_rate: float) -> SongSketch:
    """Sketch of mono audio.

    Args:
        audio: float (samples,), full scale 1.
        sample_rate: Hz.

    Raises:
        UserError: the audio is not mono or not finite, or the rate is no rate.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise UserError(f"songs are compared by mono sound (samples,), and this has the shape {audio.shape}")
    if not sample_rate > 0:
        raise UserError(f"a sound of {sample_rate} samples a second cannot be compared: give its rate in Hz")
    if not np.isfinite(audio).all():
        raise UserError("the sound holds values that are not finite: cut the clip again")
    duration = len(audio) / sample_rate
    power, level = _spectrogram(audio[: round(MOST_S * sample_rate)], sample_rate)
    sounding = level > SILENCE
    steps = np.clip(np.round(-40 * np.log10(np.maximum(level, 1e-9))), 0, 255).astype(np.uint8)
    picture = _picture(power, sounding)
    textured = np.linalg.norm(picture.astype(np.float32), axis=1) > _FLAT
    silent = int((textured & sounding).sum()) < LEAST_S * FRAME_RATE
    return SongSketch(duration, silent, picture, steps)


def _spectrogram(audio: np.ndarray, sample_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude (frames, 120) in bands of logarithmic width, and RMS (frames,)."""
    import soxr
    from scipy.fft import rfft

    sound = np.asarray(audio, np.float32)
    if sample_rate != RATE and len(sound):
        sound = soxr.resample(sound, sample_rate, RATE, quality="MQ")
    sound = np.pad(sound, (N_FFT // 2, N_FFT // 2))
    if len(audio) == 0:
        return np.zeros((0, BINS), np.float32), np.zeros(0, np.float32)
    views = np.lib.stride_tricks.sliding_window_view(sound, N_FFT)[::HOP]
    window, bank = _window(), _bank()
    bands = np.empty((len(views), BINS), np.float32)
    level = np.empty(len(views), np.float32)

    for first in range(0, len(views), 256):  # so that minutes of sound need no more memory than seconds
        block = views[first : first + 256] * window
        spectrum = rfft(block, axis=1)
        bands[first : first + 256] = np.sqrt((spectrum.real**2 + spectrum.imag**2) @ bank)
        level[first : first + 256] = np.sqrt((block * block).mean(axis=1) / (window * window).mean())
    return bands, level


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return np.hanning(N_FFT).astype(np.float32)


@lru_cache(maxsize=1)
def _bank() -> np.ndarray:
    """Triangular filters on a logarithmic axis, (1025, 120), at least one bin of the transform wide."""
    hertz = np.arange(N_FFT // 2 + 1) * RATE / N_FFT
    centre = LOWEST_HZ * 2 ** (np.arange(BINS) / BINS_PER_OCTAVE)
    width = np.maximum(centre * (2 ** (1 / BINS_PER_OCTAVE) - 1), RATE / N_FFT)
    bank = np.maximum(0, 1 - np.abs(hertz[:, None] - centre) / width)
    return (bank / bank.sum(axis=0)).astype(np.float32)


def _picture(bands: np.ndarray, sounding: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    if not len(bands):
        return np.zeros((0, BINS), np.int8)
    around = gaussian_filter1d(bands, _AROUND_BINS, axis=1, mode="nearest")
    # log1p keeps what stands out of its surroundings and flattens what lies below them, where noise and coding live.
    relief = np.log1p(3 * bands / (around + 1e-9))
    relief -= gaussian_filter1d(relief, _AROUND_BINS, axis=1, mode="nearest")
    weight = sounding.astype(np.float32)
    smooth = _AROUND_S * FRAME_RATE
    usual = gaussian_filter1d(relief * weight[:, None], smooth, axis=0, mode="constant")
    usual /= gaussian_filter1d(weight, smooth, mode="constant")[:, None] + 1e-6
    relief = (relief - usual) * weight[:, None]
    return np.clip(np.round(relief / _STEP), -127, 127).astype(np.int8)


def unit_frames(found: SongSketch) -> np.ndarray:
    """The picture with frames of length one, float32 (frames, 120); silent and flat frames are zero."""
    picture = found.picture.astype(np.float32)
    norm = np.linalg.norm(picture, axis=1, keepdims=True)
    return np.where(norm > _FLAT, picture / np.maximum(norm, _FLAT), np.float32(0))


_WINDOW_S = 40.0  # of music that is looked at closely
_CHANCE = 0.12  # agreement of frames that other music reaches often
_STRONG = 0.12  # of a frame of length one: a bin that counts as there

# Logits of a pair: intercept, log2(evidence / 20), peaks that are kept. See `benchmarks/songs.py` for what they give.
_PLAYED = (-7.7, 1.8, 10.9)  # as it is, or speed and pitch together
_EDITED = (-14.0, 1.2, 15.5)  # speed or pitch alone: other songs of one key or one tempo may come near
_ODD = (-16.0, 1.2, 15.5)  # any other pair of speed and pitch


@dataclass(frozen=True)
class Overlay:
    """How one picture b lies over another a, and how well they agree there.

    Args:
        speed: of b over a.
        bins: of pitch, of b over a.
        offset: frame of a at which b starts.
        frames: of b that agree.
        agreement: mean cosine of these frames.
        kept: share of the stronger peaks of one that are there in the other, of whichever keeps more. Noise adds none,
            so that a noisy copy's peaks are found in the clean one.
    """

    speed: float
    bins: float
    offset: float
    frames: int = 0
    agreement: float = 0.0
    kept: float = 0.0

    @property
    def logit(self) -> float:
        """Log-odds that a and b have the same song."""
        evidence = (self.agreement - _CHANCE) * self.frames
        if evidence <= 0:
            return -20.0
        kind, _ = edit_of(self.speed, self.bins, self.frames)
        intercept, much, clear = {"played": _PLAYED, "odd": _ODD}.get(kind, _EDITED)
        return intercept + much * float(np.log2(evidence / 20)) + clear * self.kept


def edit_of(speed: float, bins: float, frames: int) -> tuple[str, str]:
    """What was done to music whose speed and pitch changed so: `played`, `stretched`, `transposed`, `odd`; in words.

    Speed is known better the more frames agree; two tracks of one key and nearly one tempo are told from one by that.
    """
    near = 0.12 + 22 / max(frames, 1)  # bins; measured on copies of three to ten seconds
    change = BINS_PER_OCTAVE * np.log2(speed)
    pitch = 12 * bins / BINS_PER_OCTAVE
    fast = f"played {speed:.2f} times as fast"
    if abs(change) < 0.4 and abs(bins) < 0.4 and abs(change - bins) < near:
        return "played", "at the same speed"
    if abs(change - bins) < near:
        return "played", fast
    if abs(bins) < 0.4:
        return "stretched", f"{fast} at the same pitch"
    if abs(change) < 0.4:
        return "transposed", f"{abs(pitch):.1f} semitones {'higher' if pitch > 0 else 'lower'} at the same speed"
    return "odd", f"{fast} and {abs(pitch):.1f} semitones {'higher' if pitch > 0 else 'lower'}"


def raised(frames: np.ndarray, bins: float) -> np.ndarray:
    """Frames moved up by so many bins, linearly between bins; zeros come in."""
    out = np.zeros_like(frames)
    low = int(np.floor(bins))
    for step, weight in ((low, 1 - (bins - low)), (low + 1, bins - low)):
        if not weight or abs(step) >= BINS:
            continue
        if step >= 0:
            out[:, step:] += np.float32(weight) * frames[:, : BINS - step]
        else:
            out[:, :step] += np.float32(weight) * frames[:, -step:]
    return out


def overlay(a: np.ndarray, b: np.ndarray, speed: float, bins: float, offset: float) -> Overlay:
    """Lay b over a, as well as it goes near a guess.

    Args:
        a: frames of length one (frames, 120).
        b: likewise.
        speed, bins: of b over a, within 7 % and half a bin.
        offset: frame of a at which b starts, within four frames.
    """
    begin, end = _near(len(a), len(b), speed, offset)
    low = max(int(offset + begin * speed) - 8, 0)
    high = min(int(offset + end * speed) + 9, len(a))
    nothing = Overlay(speed, bins, offset)
    a, b = a[low:high], b[begin:end]
    if min(len(a), len(b)) < 8:
        return nothing
    offset += begin * speed - low
    middle = len(b) / 2
    every = 2
    line = b[:0, 0]
    for d_bins, d_speed, d_offset in (
        ((0, -0.5, 0.5), np.arange(-7, 8) * 0.01, np.arange(-4, 5.0)),
        ((0, -0.25, 0.25), np.arange(-4, 5) * 0.0025, np.arange(-4, 5) * 0.25),
    ):
        best = (2.0, speed, bins, offset)
        for change in d_bins:
            like = _likeness(a, b[::every], bins + change)
            speeds = np.repeat(speed * (1 + d_speed), len(d_offset))
            # The offset is meant in the middle of b, where a change of speed moves nothing.
            starts = offset + np.tile(d_offset, len(d_speed)) + middle * (speed - speeds)
            lines = _lines(like, every * speeds, starts)
            # A stretch that does not agree ends the common music; it should not count against the rest.
            sums = every * np.maximum(lines - _CHANCE, -0.3).sum(axis=1)
            k = int(np.argmax(sums))
            if sums[k] > best[0]:
                best, line = (float(sums[k]), float(speeds[k]), bins + change, float(starts[k])), lines[k]
        if best[0] == 2.0:
            return nothing
        _, speed, bins, offset = best
        every = 1
    first, last = _stretch(line)
    agreement = float(line[first:last].mean())
    kept = _kept(a, b[first:last], speed, bins, offset + first * speed)
    return Overlay(speed, bins, offset + low - begin * speed, last - first, agreement, kept)


def _near(a: int, b: int, speed: float, offset: float) -> tuple[int, int]:
    """Frames of b that lie over a; the middle ones where they are many."""
    begin = max(0, int(-offset / speed))
    end = max(begin, min(b, int((a - offset) / speed) + 1))
    more = end - begin - int(_WINDOW_S * FRAME_RATE)
    return (begin + more // 2, end - (more - more // 2)) if more > 0 else (begin, end)


def _kept(a: np.ndarray, b: np.ndarray, speed: float, bins: float, offset: float) -> float:
    """Share of the stronger peaks of one picture that are there in the other; the better of both ways."""
    places = np.clip(offset + speed * np.arange(len(b)), 0, len(a) - 1)
    low = np.minimum(places.astype(int), len(a) - 2)
    part = (places - low).astype(np.float32)[:, None]
    under, over = _shared((1 - part) * a[low] + part * a[low + 1], b, bins)
    shares = []
    for one, other in ((under, over), (over, under)):
        weight = np.maximum(one, 0) ** 3
        shares.append(float((weight * np.clip(other / _STRONG, 0, 1)).sum() / (weight.sum() + 1e-9)))
    return max(shares)


def _shared(a: np.ndarray, b: np.ndarray, bins: float) -> tuple[np.ndarray, np.ndarray]:
    """a moved up by so many bins, and b, in the bins that both have; frames of length one."""
    cut = int(np.ceil(abs(bins)))
    keep = slice(cut, None) if bins > 0 else slice(0, BINS - cut)
    pair = raised(a, bins)[:, keep], b[:, keep]
    moved, still = (one / (np.linalg.norm(one, axis=1, keepdims=True) + 1e-2) for one in pair)
    return moved, still


def _likeness(a: np.ndarray, b: np.ndarray, bins: float) -> np.ndarray:
    """Cosine of every frame of b with every one of a moved up by so many bins, (b, a)."""
    moved, still = _shared(a, b, bins)
    return still @ moved.T


def _lines(like: np.ndarray, speeds: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Values along straight lines, (lines, b); outside a they are the threshold, which tells nothing."""
    places = starts[:, None] + speeds[:, None] * np.arange(len(like))
    inside = (places >= 0) & (places <= like.shape[1] - 1)
    low = np.clip(places.astype(int), 0, like.shape[1] - 2)
    part = (places - low).astype(np.float32)
    rows = np.arange(len(like))
    found = (1 - part) * like[rows, low] + part * like[rows, low + 1]
    return np.where(inside, found, _CHANCE)


def _stretch(line: np.ndarray) -> tuple[int, int]:
    """Beginning and end of the stretch with the greatest sum beyond the threshold (Kadane)."""
    total = np.concatenate([[0.0], np.cumsum(line - _CHANCE)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total - lowest))
    begin = int(np.argmin(total[: end + 1]))
    return begin, end
