"""Fixed validation segments as sound and picture, so that a person hears and sees a training. Not for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from d2m_model.codec.interface import Codec
from d2m_model.codec.spectral import HOP, LogMel
from d2m_model.training.step import Batch

_TITLES = ("truth", "truth through the codec", "from the dance")


@torch.no_grad()
def render(folder: Path, step: int, names: Sequence[str], batch: Batch, latent: Tensor, codec: Codec) -> Path:
    """Write `<name>/truth.wav`, `<name>/codec.wav`, `<name>/step_NNNNNN.wav` and the picture `step_NNNNNN.png`.

    Args:
        folder: where.
        step: of the training.
        names: of the segments.
        batch: their truth, with audio.
        latent: predicted, (segments, channels, frames).
        codec: on the latent's device.

    Returns:
        The picture.
    """
    import soundfile

    assert batch.audio is not None
    through = codec.decode(codec.dequantise(batch.codes.long()))
    made = codec.decode(codec.quantise(latent).latent)
    sounds = [audio[:, 0].float().cpu().numpy() for audio in (batch.audio, through, made)]
    files = ("truth.wav", "codec.wav", f"step_{step:06d}.wav")
    for row, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file, audio in zip(files, sounds, strict=True):
            if file.startswith("step_") or not (folder / name / file).is_file():
                soundfile.write(folder / name / file, np.clip(audio[row], -1, 1), codec.sample_rate)
    picture = folder / f"step_{step:06d}.png"
    draw(picture, step, names, sounds, codec.sample_rate)
    return picture


def draw(path: Path, step: int, names: Sequence[str], sounds: Sequence[np.ndarray], sample_rate: int) -> None:
    """Log-mel pictures: a row a segment, a column for truth, codec and model; one colour scale for all."""
    from matplotlib.figure import Figure

    mel = LogMel()
    pictures = [mel(torch.from_numpy(np.ascontiguousarray(audio))).numpy() for audio in sounds]
    low, high = np.percentile(pictures[0], [5, 99.5])
    figure = Figure(figsize=(12, 0.6 + 2.0 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(sounds), squeeze=False, sharex=True, sharey=True)
    image = None
    for row, name in enumerate(names):
        for column, title in enumerate(_TITLES):
            axis = axes[row][column]
            values = pictures[column][row]
            seconds = values.shape[1] * HOP / sample_rate
            extent = (0.0, seconds, 0.0, float(values.shape[0]))
            image = axis.imshow(values, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high)
            if row == 0:
                axis.set_title(title if column < 2 else f"{title}, step {step:,}", fontsize=10)
            if column == 0:
                axis.set_ylabel(f"{name}\nmel band", fontsize=8)
            if row == len(names) - 1:
                axis.set_xlabel("s", fontsize=8)
            axis.tick_params(labelsize=7)
    if image is not None:
        figure.colorbar(image, ax=axes, label="log10 mel", shrink=0.8)
    figure.savefig(path, dpi=100)
