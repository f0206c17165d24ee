"""How well a codec gives sound back (SI-SDR, log-mel distance, use of the code-book), and the benchmark's codec row.

Conventions: mono at the codec's rate; what is compared is the audio that encoding, quantising and decoding give back,
over the whole latent frames of the original.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from d2m_model.codec.files import CONFIG_FILE, is_hub_codec, open_codec, read_codec_config
from d2m_model.codec.hub import PREFIX, HubCodec, open_hub_codec
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import N_FFT, LogMel
from d2m_model.config import LEVELS, one_of
from tiktok_dm.errors import UserError

# Sounds are coded in blocks of so many seconds, which bounds the memory; blocks know nothing of one another.
BLOCK_S = 24


@dataclass(frozen=True)
class CodecQuality:
    """Of one sound, or the mean of several.

    Args:
        name: of the sound.
        seconds: compared.
        si_sdr_db: scale-invariant signal-to-distortion ratio; higher is better, unbounded.
        mel_l1: mean absolute difference of log10 mel spectrograms; lower is better.
        code_use: share of the code-book's rows that occur.
        perplexity: of the codes that occur, 1 to the number of rows.
        latent_mean, latent_std: of the continuous latent, over channels and frames.
    """

    name: str
    seconds: float
    si_sdr_db: float
    mel_l1: float
    code_use: float
    perplexity: float
    latent_mean: float
    latent_std: float


def si_sdr(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Scale-invariant SDR in dB of two signals (samples,), each with its mean removed (Le Roux et al. 2019, eq. 3).

    10 log10(|a s|^2 / |a s - e|^2) with a = <e, s> / |s|^2. Infinite for a scaled copy; minus infinity where the two
    are orthogonal, and where either is silent.
    """
    s = truth.astype(np.float64) - truth.mean(dtype=np.float64)
    e = estimate.astype(np.float64) - estimate.mean(dtype=np.float64)
    power = float(s @ s)
    if power == 0 or not e.any():
        return float("-inf")
    target = float(e @ s) / power * s
    signal, noise = float(target @ target), float(((target - e) ** 2).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal else float("-inf")


def code_use(counts: np.ndarray) -> tuple[float, float]:
    """Share of rows that occur and perplexity, exp of the entropy in nats, of counts (codes,)."""
    total = counts.sum()
    if not total:
        return 0.0, 0.0
    p = counts[counts > 0] / total
    return float(len(p) / len(counts)), float(np.exp(-(p * np.log(p)).sum()))


@torch.no_grad()
def reconstruct(codec: JukeboxVQVAE | HubCodec, audio: np.ndarray) -> tuple[np.ndarray, np.ndarray, Tensor]:
    """A sound through the codec, block by block.

    Args:
        codec: any device.
        audio: float32 (samples,), at least one latent frame long.

    Returns:
        float32 (frames * hop,) clipped to -1..1; codes (frames,), or (code-books, frames) of a residual codec; the
        continuous latent (channels, frames), on the CPU.
    """
    device = next(codec.parameters()).device
    block = BLOCK_S * codec.sample_rate // codec.hop * codec.hop
    sound, codes, latents = [], [], []
    for first in range(0, len(audio), block):
        part = audio[first : first + block]
        if len(part) < codec.hop:
            break
        latent = codec.encode(torch.from_numpy(part.astype(np.float32))[None, None].to(device))
        quantised = codec.quantise(latent)
        sound.append(codec.decode(quantised.latent)[0, 0].float().clamp(-1, 1).cpu().numpy())
        codes.append(quantised.codes[0].cpu().numpy())
        latents.append(latent[0].float().cpu())
    return np.concatenate(sound), np.concatenate(codes, axis=-1), torch.cat(latents, dim=1)


@torch.no_grad()
def mel_distance(estimate: np.ndarray, truth: np.ndarray, mel: LogMel) -> float:
    """Mean absolute difference of the log10 mel spectrograms of two signals (samples,), at least 1024 long."""
    pair = mel(torch.from_numpy(np.stack([estimate, truth]).astype(np.float32)))
    return float((pair[0] - pair[1]).abs().mean())


def measure(
    codec: JukeboxVQVAE | HubCodec, sounds: Iterable[tuple[str, np.ndarray]]
) -> tuple[list[CodecQuality], CodecQuality]:
    """Quality of each sound, and their mean (named `mean`), in which the code-book's use is that of all together.

    Sounds shorter than a window of the mel spectrogram are left out; silent ones have no SI-SDR, which the mean leaves
    out.

    Args:
        codec: of 22,050 Hz audio.
        sounds: (name, float32 (samples,)).
    """
    mel = LogMel()
    found: list[CodecQuality] = []
    total: np.ndarray | int = 0
    first = second = count = 0.0
    for name, audio in sounds:
        if len(audio) < max(N_FFT, codec.hop):
            continue
        again, codes, latent = reconstruct(codec, audio)
        truth = audio[: len(again)]
        # Rows of several code-books count as those of one large one.
        books = np.atleast_2d(codes)
        own = books + codec.n_codes * np.arange(len(books))[:, None]
        counts = np.bincount(own.ravel(), minlength=codec.n_codes * len(books))
        total = total + counts
        used, perplexity = code_use(counts)
        values = latent.double()
        first, second, count = first + float(values.sum()), second + float((values**2).sum()), count + values.numel()
        found.append(
            CodecQuality(
                name,
                len(again) / codec.sample_rate,
                si_sdr(again, truth),
                mel_distance(again, truth, mel),
                used,
                perplexity,
                float(values.mean()),
                float(values.std(correction=0)),
            )
        )
    used, perplexity = code_use(np.atleast_1d(total))
    mean = first / count if count else float("nan")
    std = max(second / count - mean**2, 0.0) ** 0.5 if count else float("nan")
    ratios = [one.si_sdr_db for one in found if np.isfinite(one.si_sdr_db)]
    return found, CodecQuality(
        "mean",
        sum(one.seconds for one in found),
        float(np.mean(ratios)) if ratios else float("nan"),
        float(np.mean([one.mel_l1 for one in found])) if found else float("nan"),
        used,
        perplexity,
        mean,
        std,
    )


def open_for_report(path: Path, level: str = "") -> JukeboxVQVAE | HubCodec:
    """A codec by the name of its level, `high` or `low`; if empty, a folder's own, and `high` of a checkpoint file.

    Raises:
        UserError: nothing there, no codec, or not of that level.
    """
    if is_hub_codec(path):
        return open_codec(path, 0)
    if level:
        one_of("level", level, LEVELS)
        return open_codec(path, LEVELS[level].codec_level)
    number = LEVELS["high"].codec_level
    if (path / CONFIG_FILE).is_file():
        number = read_codec_config(path / CONFIG_FILE)[0]
    return open_codec(path, number)


def quality_json(sounds: list[CodecQuality], mean: CodecQuality) -> dict[str, Any]:
    """Quality as JSON takes it: what is infinite or not a number becomes null."""

    def plain(one: CodecQuality) -> dict[str, Any]:
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in dataclasses.asdict(one).items()
        }

    return {"mean": plain(mean), "sounds": [plain(one) for one in sounds]}


def describe(one: CodecQuality) -> str:
    """One line."""
    return (
        f"SI-SDR {one.si_sdr_db:.2f} dB, log-mel L1 {one.mel_l1:.3f}, codes used {100 * one.code_use:.0f} %, "
        f"perplexity {one.perplexity:.0f}, latent std {one.latent_std:.2f}"
    )


class RoundTrip:
    """Encodes, quantises and decodes.

    Args:
        codec: frozen, on the CPU.
        name: what tables call it.
    """

    def __init__(self, codec: JukeboxVQVAE | HubCodec, name: str) -> None:
        self.codec, self.name, self.licence = codec, name, codec.licence

    @torch.no_grad()
    def __call__(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Mono float32 (samples,) at 22,050 Hz through the codec, same length (padded to whole frames and cut again).

        Raises:
            UserError: another sample rate than the codec's.
        """
        if sample_rate != self.codec.sample_rate:
            raise UserError(f"The codec takes {self.codec.sample_rate} Hz, not {sample_rate} Hz; resample the sound.")
        padded = -(-len(audio) // self.codec.hop) * self.codec.hop
        sound = torch.zeros(1, 1, max(padded, self.codec.hop))
        sound[0, 0, : len(audio)] = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))
        decoded = self.codec.decode(self.codec.quantise(self.codec.encode(sound)).latent)
        return decoded[0, 0, : len(audio)].numpy()


def load(argument: str = "") -> RoundTrip:
    """A codec by `FOLDER` (of `d2m codec train`), `LEVEL@FILE` (`high` or `low`, JukeBox's vqvae.pth.tar) or `hf:NAME`.

    Raises:
        UserError: nothing there, or no such level.
    """
    from pathlib import Path

    if not argument:
        raise UserError("Name the codec: d2m:FOLDER of `d2m codec train`, or d2m:high@vqvae.pth.tar.")
    if is_hub_codec(argument):
        return load_hub(argument.removeprefix(PREFIX))
    level, at, path = argument.partition("@")
    if at and level in LEVELS:
        return RoundTrip(open_codec(path, LEVELS[level].codec_level), f"JukeBox VQ-VAE, {level} level")
    folder = Path(argument)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{argument} is no codec folder (it lacks {CONFIG_FILE}); for a file give d2m:high@FILE.")
    number, _, _ = read_codec_config(folder / CONFIG_FILE)
    codec = open_codec(folder, number)
    return RoundTrip(codec, f"VQ-VAE of {folder.name}, hop {codec.hop}, {codec.n_codes} codes")


def load_hub(argument: str = "") -> RoundTrip:
    """A codec of transformers by `NAME[@BOOKS]`, see `hub`.

    Raises:
        UserError: as `open_hub_codec`.
    """
    if not argument:
        raise UserError("Name the codec: hf:NAME of the Hugging Face hub, for example hf:facebook/encodec_24khz.")
    codec = open_hub_codec(argument)
    return RoundTrip(codec, f"{codec.name}, {codec.books} code-books")
