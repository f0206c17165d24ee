"""Music from dance, as a ladder whose every step can be used alone; and the codec that belongs to a model.

    windows of poses --MotionToLatents--> latents of windows --join_latents--> one latent
    --LatentsToCodes--> codes --CodesToAudio--> sound --music_file--> wav and mp4

`DanceToMusic` climbs it from a video (or poses) to sound. The model takes no noise, so the same dance gives the same
music whatever the seed; on a GPU deterministic kernels are asked for.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2m_model.acceleration import accelerate
from d2m_model.checkpoint import read_model
from d2m_model.codec.files import CONFIG_FILE, WEIGHTS_FILE, fingerprint, is_hub_codec, open_codec
from d2m_model.codec.hub import HubCodec
from d2m_model.codec.interface import Codec, freeze
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import LEVELS, ModelConfig
from d2m_model.model_folder import find_checkpoint
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.networks.residual import fold_weight_norm
from d2m_model.sampling.dance import Dance, dance_from_poses, dance_from_video
from d2m_model.sampling.windows import (
    DEFAULT_OVERLAP,
    WindowPlan,
    check_overlap,
    join_latents,
    motion_windows,
    plan_windows,
    visual_windows,
)
from d2m_model.training.run_folder import TRAINING_FILE
from tiktok_dm.errors import UserError
from tiktok_dm.machine import find_device
from tiktok_dm.schema import SEGMENT_S


def open_codec_of(folder: Path, config: ModelConfig, codec: str | Path | None = None) -> JukeboxVQVAE | HubCodec:
    """The codec that belongs to a model folder: the given one, the folder's own, or the one that training recorded.

    Raises:
        UserError: none of these is there, or it is not the codec that the model was trained on.
    """
    recorded = _recorded_codec(folder)
    if codec is not None:
        path: str | Path = codec
    elif (folder / WEIGHTS_FILE).is_file() and (folder / CONFIG_FILE).is_file():
        path = folder
    elif recorded.get("path"):
        path = recorded["path"] if is_hub_codec(recorded["path"]) else Path(str(recorded["path"]))
        if isinstance(path, Path) and not path.exists():
            raise UserError(
                f"The model in {folder} was trained with the codec {path}, which is not there: give --codec."
            )
    else:
        raise UserError(
            f"{folder} neither holds a codec nor says which one it was trained with: give --codec, a codec folder or "
            "JukeBox's vqvae.pth.tar (`d2m codec fetch` gets it)."
        )
    opened = open_codec(path, LEVELS[config.level].codec_level)
    wanted = recorded.get("sha256")
    if wanted and fingerprint(opened) != wanted:
        raise UserError(
            f"The codec in {path} is not the one that the model in {folder} was trained with "
            f"(fingerprint {fingerprint(opened)[:12]} instead of {str(wanted)[:12]}): give --codec with the right one."
        )
    return opened


def _recorded_codec(folder: Path) -> Mapping[str, Any]:
    """The entry `codec` of a folder's `training.json` (path, sha256); empty where there is none."""
    path = folder / TRAINING_FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not valid JSON: get the checkpoint again.") from error
    found = values.get("codec") if isinstance(values, dict) else None
    return found if isinstance(found, dict) else {}


def check_fit(config: ModelConfig, codec: Codec) -> None:
    """Hold a codec to a model's level and sizes.

    Raises:
        UserError: a codec that no music could come out of with this model.
    """
    wanted = LEVELS[config.level]
    if codec.hop != wanted.hop and config.latent_frames == wanted.frames:
        raise UserError(
            f"The model is of level {config.level!r} (hop {wanted.hop}), and the codec's hop is {codec.hop}: give a "
            "codec of the model's level."
        )
    if codec.latent_channels != config.latent_channels:
        raise UserError(
            f"The model makes latents of {config.latent_channels} channels, and the codec has {codec.latent_channels}: "
            "give the codec that it was trained with."
        )
    frames = codec.n_frames(round(SEGMENT_S * codec.sample_rate))
    if config.latent_frames != frames:
        raise UserError(
            f"The model makes {config.latent_frames} latent frames for {SEGMENT_S:g} s of dance, and the codec has "
            f"{frames} in that time: music would not keep pace with the dance."
        )


DEFAULT_BATCH = 16
_CHUNK_S = 10.0


@dataclass(frozen=True)
class Music:
    """What a dance sounds like.

    Args:
        audio: (samples,) float32 as the codec decodes it: neither clipped nor brought to a loudness.
        sample_rate: Hz.
        codes: (frames,) int64, the code-book rows that were decoded; (code-books, frames) of a residual codec.
        licence: the sentence that music made with the codec's weights carries; empty where there is none.
        plan: where windows lay and were joined.
        name: of the dance.
        source: where the dance came from, in words.
    """

    audio: np.ndarray
    sample_rate: int
    codes: np.ndarray
    licence: str
    plan: WindowPlan
    name: str = ""
    source: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.audio) / self.sample_rate


class MotionToLatents:
    """Windows of poses to one latent a window, in batches, with weight norm folded into plain convolutions.

    Args:
        model: a copy of it is taken, in evaluation mode.
        device: where to run.
        batch: windows at once.
    """

    def __init__(self, model: nn.Module, device: str | torch.device = "cpu", batch: int = DEFAULT_BATCH) -> None:
        if batch < 1:
            raise UserError(f"The batch is {batch}; give 1 window or more.")
        self.device, self.batch = torch.device(device), batch
        folded = fold_weight_norm(copy.deepcopy(model)).eval().requires_grad_(False).to(self.device)
        self.model = accelerate(folded) if self.device.type == "cpu" else folded

    def __call__(
        self, motion: np.ndarray | None, visual: np.ndarray | None = None, genre: np.ndarray | int | None = None
    ) -> Tensor:
        """Latents (windows, channels, latent_frames) float32 on the device.

        Args:
            motion: (windows, motion_frames, motion_features) in the model's units; None for a model without motion.
            visual: (windows, visual_features); None for a model without visual features.
            genre: one index for all windows or (windows,) of them; None for a model without genres.

        Raises:
            UserError: inputs that do not fit the model, or an output that is not finite.
        """
        given = motion if motion is not None else visual
        if given is None or not len(given):
            raise UserError("There is nothing to make music from: give the motion or the visual features of windows.")
        count = len(given)
        if visual is not None and np.shape(visual)[:1] != (count,):
            raise UserError(f"There are {count} windows, and visual features for {len(visual)}; they must agree.")
        genres = None if genre is None else np.broadcast_to(np.asarray(genre, np.int64), (count,))
        latents = []
        with _exact():
            for first in range(0, count, self.batch):
                part = slice(first, first + self.batch)
                latents.append(
                    self.model(
                        None if motion is None else self._tensor(motion[part]),
                        None if visual is None else self._tensor(np.asarray(visual)[part, None]),
                        None if genres is None else torch.tensor(genres[part], device=self.device),
                    )
                )
        latent = torch.cat(latents)
        if not bool(torch.isfinite(latent).all()):
            raise UserError("The model's output is not finite: its checkpoint is damaged, or the training diverged.")
        return latent

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.tensor(np.asarray(values, np.float32), device=self.device)


class LatentsToCodes:
    """A latent of any length to the nearest rows of the code-book.

    Args:
        codec: whose code-book.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec

    def __call__(self, latent: Tensor) -> Tensor:
        """Codes (frames,) int64, or (code-books, frames), of a latent (channels, frames)."""
        with _exact():
            return self.codec.quantise(latent[None]).codes[0]


class CodesToAudio:
    """Codes of any length to sound, decoded in pieces, so that memory does not grow with length.

    Each piece is decoded together with as many frames on both sides as the decoder can see from it, so that pieces are
    what decoding all at once gives (up to rounding); a codec of which that reach is not known is decoded at once.

    Args:
        codec: on the device where it shall run.
        chunk_s: seconds in a piece.
    """

    def __init__(self, codec: Codec, chunk_s: float = _CHUNK_S) -> None:
        self.codec = codec
        self.context = decoder_context(codec)
        self.chunk = max(1, round(chunk_s * codec.sample_rate / codec.hop))

    def __call__(self, codes: Tensor) -> np.ndarray:
        """Sound (frames * hop,) float32 of codes (frames,), or (code-books, frames), not clipped."""
        frames = codes.shape[-1]
        chunk, context = (frames, 0) if self.context is None else (self.chunk, self.context)
        parts = []
        with _exact():
            for begin in range(0, frames, chunk):
                end = min(begin + chunk, frames)
                first, last = max(0, begin - context), min(frames, end + context)
                sound = self.codec.decode(self.codec.dequantise(codes[None, ..., first:last]))[0, 0]
                parts.append(sound[(begin - first) * self.codec.hop : (end - first) * self.codec.hop].float().cpu())
        return torch.cat(parts).numpy()


def decoder_context(codec: Codec) -> int | None:
    """Latent frames on either side that can change a decoded frame, as an upper bound; None where it is not known.

    For JukeBox's decoder, at rate r (samples per latent frame so far): a convolution of size 3 with dilation d reaches
    d / r frames, an up-sampling one (size 4, stride 2, padding 1) one sample of its input, 1 / r.
    """
    if not isinstance(codec, JukeboxVQVAE):
        return None
    config = codec.config
    dilations = [config.dilation_growth**k for k in range(config.depth * config.multipliers[codec.level])]
    rate, reach = 1, 0.0
    for steps in reversed(config.downs[: codec.level + 1]):
        reach += 1 / rate
        for _ in range(steps):
            reach += (sum(dilations) + 1) / rate
            rate *= 2
    return math.ceil(reach + 1 / rate)


@dataclass(frozen=True)
class PreparedDance:
    """A dance in the windows of a model.

    Args:
        dance: where it comes from.
        plan: where its windows lie.
        motion: poses (windows, motion_frames, features) float32; None for a model without motion input.
        visual: (windows, visual_features) float32; None for a model, or a dance, without them.
    """

    dance: Dance
    plan: WindowPlan
    motion: np.ndarray | None
    visual: np.ndarray | None


def _joined(windows: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Windows of several dances after each other; None where a dance has none."""
    known = [own for own in windows if own is not None]
    return np.concatenate(known) if len(known) == len(windows) else None


class DanceToMusic:
    """A dance to music of the same length; 2 s in the `released` preset to one window's (1.997 s), as the authors do.

    Args:
        model: its weights are copied.
        codec: whose latents the model was trained on; it is frozen, and moved to the device.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, ...
        overlap: share of a window that its neighbour overlaps, 0 to 0.5; see `windows`.
        batch: windows that go through the model at once.

    Raises:
        UserError: a codec of another level or size than the model's, or a device that is not there.

    Example:
        >>> from d2m_model import DanceToMusic
        >>> music = DanceToMusic.from_pretrained("runs/demo/last", codec="codec", device="cpu")("clip.mp4")
        >>> music.sample_rate, music.audio.ndim
        (22050, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        codec: Codec,
        device: str | torch.device = "auto",
        *,
        overlap: float = DEFAULT_OVERLAP,
        batch: int = DEFAULT_BATCH,
    ) -> None:
        config: Any = model.config
        self.config: ModelConfig = config
        check_fit(self.config, codec)
        check_overlap(overlap)
        self.device = find_device(device)
        self.overlap = overlap
        if isinstance(codec, nn.Module):
            freeze(codec).to(self.device)
        self.codec = codec
        self.licence = codec.licence
        self.to_latents = MotionToLatents(model, self.device, batch)
        self.to_codes = LatentsToCodes(codec)
        self.to_audio = CodesToAudio(codec)

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | Path,
        codec: str | Path | Codec | None = None,
        device: str | torch.device = "auto",
        *,
        overlap: float = DEFAULT_OVERLAP,
        batch: int = DEFAULT_BATCH,
    ) -> DanceToMusic:
        """The sampler of a checkpoint.

        Args:
            path_or_hub_id: a model folder, or the id of one on the Hugging Face hub.
            codec: an open codec, or where one is; if None, the one in the model folder, else the one that the training
                recorded in `training.json`. A codec that is read from a path must be the one that was trained on, where
                the training recorded its fingerprint.
            device: as in `DanceToMusic`.
            overlap: likewise.
            batch: likewise.

        Raises:
            UserError: no such checkpoint, a truncated one, or no codec that fits it.
        """
        folder = find_checkpoint(path_or_hub_id)
        model: D2MGAN = read_model(folder)
        if codec is None or isinstance(codec, str | Path):
            codec = open_codec_of(folder, model.config, codec)
        return cls(model, codec, device, overlap=overlap, batch=batch)

    def plan(self, dance: Dance) -> WindowPlan:
        """Where the windows of a dance lie.

        Raises:
            UserError: a dance shorter than 2 s.
        """
        codec, config = self.codec, self.config
        whole = config.preset == "released"
        return plan_windows(
            dance.duration_s, config.latent_frames, codec.hop, codec.sample_rate, self.overlap, dance.name, whole=whole
        )

    def prepare(self, dance: Dance) -> PreparedDance:
        """A dance in windows, as `many` takes it.

        Raises:
            UserError: a dance that is too short, or poses or features that the model cannot take.
        """
        plan, motion, visual = self.plan(dance), None, None
        if self.config.visual_features and dance.visual is not None:
            visual = visual_windows(dance.visual, plan, self.config, dance.name)
        if self.config.motion_frames:
            motion = motion_windows(dance.poses, dance.fps, plan, self.config, dance.name)
        return PreparedDance(dance, plan, motion, visual)

    def check_inputs(self, visual: bool = False, genre: int | None = None) -> None:
        """Hold what is given beside the poses to what the model was made with.

        Raises:
            UserError: features or a genre that are missing, unknown, or not wanted.
        """
        config = self.config
        if config.visual_features and not visual:
            raise UserError(
                "This model was trained with visual features, and the sampler finds motion only: use a motion-only "
                "model, sample a dataset that was built with --visual, or give `visual`, one row per window, to "
                "DanceToMusic in Python."
            )
        if visual and not config.visual_features:
            raise UserError("This model was made without visual features; give none.")
        if config.genres and genre is None:
            raise UserError(f"This model was trained with genres; give one of 0 to {config.genres - 1} (--genre).")
        if genre is not None and not config.genres:
            raise UserError("This model was made without genres; give none.")
        if genre is not None and not 0 <= genre < config.genres:
            raise UserError(f"There is no genre {genre}; this model has 0 to {config.genres - 1}.")

    def __call__(
        self,
        dance: Dance | str | Path | np.ndarray,
        *,
        dancer: int = 0,
        visual: np.ndarray | None = None,
        genre: int | None = None,
    ) -> Music:
        """Music for one dance.

        Args:
            dance: a video file, BODY_25 poses at 30 fps (frames, 25, 3) or (frames, dancers, 25, 3), or a `Dance`.
            dancer: which one of several, from 0 by mean visible area; unused for a `Dance`.
            visual: (windows, visual_features), for a model with visual features; `plan` tells the windows. Those of
                the `Dance` if None.
            genre: index, for a model with genres; that of the `Dance` if None.

        Raises:
            UserError: nobody in the video, a dance shorter than 2 s, or inputs that do not fit the model.
            MediaError: a video that cannot be read.
        """
        if genre is None and isinstance(dance, Dance) and self.config.genres:
            genre = dance.genre
        own = isinstance(dance, Dance) and dance.visual is not None and bool(self.config.visual_features)
        self.check_inputs(visual is not None or own, genre)
        if isinstance(dance, np.ndarray):
            dance = dance_from_poses(dance, dancer=dancer)
        elif not isinstance(dance, Dance):
            dance = dance_from_video(dance, dancer=dancer)
        return self._make([self.prepare(dance)], visual, [genre])[0]

    def many(self, dances: Sequence[Dance | PreparedDance], genre: int | None = None) -> list[Music]:
        """Music for several dances, their windows batched together; the same as one by one, up to rounding.

        Args:
            dances: prepared ones are taken as they are.
            genre: of all; each dance's own if None.

        Raises:
            UserError: as for one; nothing is made then. `prepare` tells which dance it is.
        """
        bare = [one.dance if isinstance(one, PreparedDance) else one for one in dances]
        seen = bool(self.config.visual_features) and all(dance.visual is not None for dance in bare)
        genres = [dance.genre if genre is None and self.config.genres else genre for dance in bare]
        for one in genres:
            self.check_inputs(seen, one)
        return self._make([d if isinstance(d, PreparedDance) else self.prepare(d) for d in dances], None, genres)

    def _make(
        self, prepared: Sequence[PreparedDance], visual: np.ndarray | None, genres: Sequence[int | None]
    ) -> list[Music]:
        if not prepared:
            return []
        plans = [one.plan for one in prepared]
        motion = _joined([one.motion for one in prepared])
        if visual is None:
            visual = _joined([one.visual for one in prepared])
        genre = None
        if self.config.genres:
            genre = np.repeat(np.array(genres, np.int64), [len(plan.starts) for plan in plans])
        latents = self.to_latents(motion, visual, genre)
        made = []
        for one, own in zip(prepared, latents.split([len(plan.starts) for plan in plans]), strict=True):
            dance, plan = one.dance, one.plan
            codes = self.to_codes(join_latents(own, plan))
            audio = self.to_audio(codes)[: plan.n_samples]
            made.append(
                Music(
                    np.ascontiguousarray(audio),
                    self.codec.sample_rate,
                    codes.cpu().numpy(),
                    self.licence,
                    plan,
                    dance.name,
                    dance.source,
                )
            )
        return made


@contextmanager
def _exact() -> Iterator[None]:
    """No gradients; deterministic kernels and whole float32 on GPUs."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), flags:
        yield
