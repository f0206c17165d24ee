"""Music of any length from a model of 2-s windows: where windows begin, what they see, how their latents are joined.

A window's latent is a little shorter than 2 s (344 frames of 128 samples are 1.9968 s), so windows laid end to end at
2 s would leave gaps, and windows counted as 2 s would drift by 96 ms a minute. Therefore the latent frame is the only
clock: window k begins at latent frame `k * stride`, that is at `k * stride * hop / sample_rate` seconds, and its poses
are taken from that instant on. Not for running a model (`sampling`).

Neighbouring windows share `overlap` of their length, over which one latent fades into the next by a raised cosine. The
fades lie on the stride's grid whatever the length; the last window begins earlier than its place there, so that it ends
where the dance ends and sees no poses beyond it, and is heard from its place on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from d2m_model.config import ModelConfig
from d2m_model.motion import at_times, check_motion, to_units
from tiktok_dm.errors import UserError
from tiktok_dm.schema import SEGMENT_S

# Half a second: one beat at 120 bpm, and about as far as JukeBox's decoder sees to either side, so that it never meets
# a sudden change. It costs a third more windows than none, and leaves half of a window to itself.
DEFAULT_OVERLAP = 0.25
_TOLERANCE_S = 1e-3  # containers round a length to this


@dataclass(frozen=True)
class WindowPlan:
    """Where the windows of one dance lie, in latent frames from its start.

    Args:
        n_samples: of the music: exactly the dance's length.
        sample_rate: Hz.
        hop: samples per latent frame.
        length: latent frames of a window.
        fade: latent frames over which neighbours fade into one another; 0 is a hard join.
        starts: first latent frame of each window.
    """

    n_samples: int
    sample_rate: int
    hop: int
    length: int
    fade: int
    starts: tuple[int, ...]

    @property
    def stride(self) -> int:
        """Latent frames from one join to the next."""
        return self.length - self.fade

    @property
    def n_frames(self) -> int:
        """Latent frames that hold all samples."""
        return math.ceil(self.n_samples / self.hop)

    @property
    def starts_s(self) -> np.ndarray:
        """Seconds from the dance's start at which each window begins, (windows,) float64."""
        return np.array(self.starts) * (self.hop / self.sample_rate)

    @property
    def joins_s(self) -> np.ndarray:
        """Seconds at which one window hands over to the next (the middle of the fade), (windows - 1,) float64."""
        frames = np.arange(1, len(self.starts)) * self.stride + self.fade / 2
        return frames * (self.hop / self.sample_rate)


def plan_windows(
    duration_s: float,
    length: int,
    hop: int,
    sample_rate: int,
    overlap: float = DEFAULT_OVERLAP,
    where: str = "the dance",
    *,
    whole: bool = False,
) -> WindowPlan:
    """The windows that cover a dance.

    A single window is enough as long as less than one latent frame is left behind it (2 s are 344.5 frames): that frame
    repeats the one before. So a 2-s segment is sampled as the model was trained, on one window.

    Args:
        duration_s: of the dance.
        length: latent frames of a window (2 s of dance).
        hop: samples per latent frame.
        sample_rate: Hz.
        overlap: share of a window that its neighbour overlaps, 0 to 0.5.
        where: what the dance is called, for messages.
        whole: whether a dance of exactly one window has music of that window's latent frames and no more, as the
            authors' code makes it (44,032 samples of 44,100 at the high level).

    Raises:
        UserError: a dance shorter than one window, or an overlap outside 0..0.5.
    """
    check_overlap(overlap)
    if not duration_s >= SEGMENT_S - _TOLERANCE_S:
        raise UserError(f"{where} is {duration_s:.2f} s long; music is made for dances of at least {SEGMENT_S:g} s.")
    n_samples = round(duration_s * sample_rate)
    if whole and abs(duration_s - SEGMENT_S) <= _TOLERANCE_S:
        n_samples = length * hop
    fade = round(overlap * length)
    starts = [0]
    if n_samples // hop > length:
        n_frames, stride = math.ceil(n_samples / hop), length - fade
        count = 1 + math.ceil((n_frames - length) / stride)
        starts = [min(k * stride, n_frames - length) for k in range(count)]
    return WindowPlan(n_samples, sample_rate, hop, length, fade, tuple(starts))


def check_overlap(overlap: float) -> None:
    """Raise `UserError` unless the overlap is a share of a window from 0 to 0.5: three windows never meet."""
    if not 0 <= overlap <= 0.5:
        raise UserError(f"The overlap is {overlap:g}; give a share of a window from 0 to 0.5.")


def motion_windows(poses: np.ndarray, fps: float, plan: WindowPlan, config: ModelConfig, where: str) -> np.ndarray:
    """What the model sees in each window, float32 (windows, motion_frames, motion_features), in its units.

    Args:
        poses: one dancer's BODY_25 poses (frames, 25, 3), px, or the rows of another skeleton (frames, features).
        fps: poses a second.
        plan: the windows.
        config: of the model: frames per window and units.
        where: what the dance is called, for messages.

    Raises:
        UserError: poses that are not finite, or a model of another skeleton.
    """
    within_s = np.arange(config.motion_frames) * (SEGMENT_S / config.motion_frames)
    times_s = (plan.starts_s[:, None] + within_s).ravel()
    if poses.ndim == 2:
        # Rotations are not to be mixed: the frame nearest in time, which in a segment of its own is that very frame.
        moments = poses[np.clip(np.round(times_s * fps).astype(int), 0, len(poses) - 1)]
    else:
        moments = at_times(poses, fps, times_s).reshape(len(times_s), -1)
    if moments.shape[1] != config.motion_features:
        raise UserError(
            f"This model takes {config.motion_features} numbers a pose, and those of {where} are {moments.shape[1]}: "
            "sample a dataset of the skeleton that it was trained on."
        )
    motion = moments.reshape(len(plan.starts), config.motion_frames, -1)
    return to_units(check_motion(motion, config.motion_frames, config.motion_features, where), config.motion_units)


def visual_windows(visual: np.ndarray, plan: WindowPlan, config: ModelConfig, where: str) -> np.ndarray:
    """Visual features of each window, float32 (windows, visual_features).

    Features are means over the time of a segment, so those of a window that lies across two segments are the two's,
    weighted by how much of the window lies in each. A rest of the dance behind its last segment has no features of its
    own: there the segments that the window does touch count alone, and the last one where it touches none.

    Args:
        visual: (segments, features), of the 2-s segments from the dance's start.
        plan: the windows.
        config: of the model.
        where: what the dance is called, for messages.

    Raises:
        UserError: features of another length than the model's, or not finite.
    """
    if visual.ndim != 2 or not len(visual) or visual.shape[1] != config.visual_features:
        shape = "x".join(map(str, visual.shape))
        raise UserError(
            f"The visual features of {where} are {shape}; the model takes {config.visual_features} for each segment."
        )
    if not np.isfinite(visual).all():
        raise UserError(f"The visual features of {where} hold NaN or infinite values; make them again.")
    begin = plan.starts_s[:, None]
    end = begin + plan.length * plan.hop / plan.sample_rate
    edges = np.arange(len(visual)) * SEGMENT_S
    shared = np.clip(np.minimum(end, edges + SEGMENT_S) - np.maximum(begin, edges), 0, None)
    shared[shared.sum(axis=1) == 0, -1] = 1
    return (shared / shared.sum(axis=1, keepdims=True) @ visual.astype(np.float64)).astype(np.float32)


def join_latents(latents: Tensor, plan: WindowPlan) -> Tensor:
    """One latent (channels, plan.n_frames) of the windows' latents (windows, channels, plan.length).

    Where two windows overlap, the weights are sin^2 and cos^2 of the same angle and sum to one: the windows show the
    same dance, so that amplitudes, not powers, must add up.

    Raises:
        ValueError: latents of another number or length of windows than planned.
    """
    if latents.ndim != 3 or (len(latents), latents.shape[2]) != (len(plan.starts), plan.length):
        raise ValueError(f"latents {tuple(latents.shape)} do not fit {len(plan.starts)} windows of {plan.length}")
    n_frames = max(plan.n_frames, plan.length)
    joined = latents.new_zeros(latents.shape[1], n_frames)
    angle = (torch.arange(plan.fade, device=latents.device, dtype=latents.dtype) + 0.5) * (
        math.pi / 2 / max(plan.fade, 1)
    )
    rising = torch.sin(angle) ** 2
    last = len(plan.starts) - 1
    for k, start in enumerate(plan.starts):
        begin, end = k * plan.stride, n_frames if k == last else (k + 1) * plan.stride + plan.fade
        part = latents[k, :, begin - start : end - start].clone()
        if k and plan.fade:
            part[:, : plan.fade] *= rising
        if k < last and plan.fade:
            part[:, -plan.fade :] *= 1 - rising
        joined[:, begin : begin + part.shape[1]] += part
    if n_frames > plan.length and last == 0:
        joined[:, plan.length :] = joined[:, plan.length - 1 : plan.length]
    return joined[:, : plan.n_frames]


def seam_energy(
    audio: np.ndarray, joins_s: Sequence[float] | np.ndarray, sample_rate: int, near_s: float = 0.005
) -> float:
    """How much faster the signal moves at joins than in between; about 1 where joins cannot be heard.

    Mean square of the first difference (which weighs high frequencies, where a click has its energy) within `near_s` of
    the joins, over the same within `near_s` of the points half way between them.

    Args:
        audio: (samples,) float.
        joins_s: seconds, ascending; without any the answer is 1.
        sample_rate: Hz.
        near_s: half the width of a neighbourhood, seconds.

    Returns:
        The ratio; 1 where both are zero, infinite where only the points in between are.
    """
    if len(joins_s) == 0:
        return 1.0
    squares = np.diff(np.asarray(audio, np.float64)) ** 2
    edges = np.concatenate([[0.0], np.asarray(joins_s, np.float64), [len(audio) / sample_rate]])
    middles = (edges[1:] + edges[:-1]) / 2

    def energy(times_s: np.ndarray) -> float:
        width = round(near_s * sample_rate)
        centres = np.round(times_s * sample_rate).astype(int)
        return float(np.mean([squares[max(0, c - width) : c + width].mean() for c in centres]))

    at_joins, between = energy(edges[1:-1]), energy(middles)
    if between == 0:
        return 1.0 if at_joins == 0 else math.inf
    return at_joins / between
