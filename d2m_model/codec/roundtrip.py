"""A codec as the benchmark's row "ground truth through a codec" takes it (entry point `tiktok_dm.codecs`: `d2m`)."""

from __future__ import annotations

import numpy as np
import torch

from d2m_model.codec.files import CONFIG_FILE, open_codec, read_codec_config
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.config import LEVELS
from tiktok_dm.errors import UserError


class RoundTrip:
    """Encodes, quantises and decodes.

    Args:
        codec: frozen, on the CPU.
        name: what tables call it.
    """

    def __init__(self, codec: JukeboxVQVAE, name: str) -> None:
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
    """A codec by `FOLDER` (of `d2m codec train`) or `LEVEL@FILE` (`high` or `low`, JukeBox's vqvae.pth.tar).

    Raises:
        UserError: nothing there, or no such level.
    """
    from pathlib import Path

    if not argument:
        raise UserError("Name the codec: d2m:FOLDER of `d2m codec train`, or d2m:high@vqvae.pth.tar.")
    level, at, path = argument.partition("@")
    if at and level in LEVELS:
        return RoundTrip(open_codec(path, LEVELS[level].codec_level), f"JukeBox VQ-VAE, {level} level")
    folder = Path(argument)
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"{argument} is no codec folder (it lacks {CONFIG_FILE}); for a file give d2m:high@FILE.")
    number, _, _ = read_codec_config(folder / CONFIG_FILE)
    codec = open_codec(folder, number)
    return RoundTrip(codec, f"VQ-VAE of {folder.name}, hop {codec.hop}, {codec.n_codes} codes")
