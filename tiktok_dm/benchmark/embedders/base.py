"""What turns sound into points whose distribution can be compared: the contract, and what embedders share.

Every embedder cuts a clip into windows and gives one row per window, float64 (windows, dim), at least one row whatever
the length. A distribution metric takes the rows of all clips together (as FAD is published), and a caller who wants one
point per clip takes their mean (`clip_point`). Embedding, version and number of rows belong beside every number.

`log-mel` needs no download and no PyTorch. `vggish`, `panns` and `clap` need the path of their public weights, which
this project neither ships nor fetches. Not for the distances themselves (`distribution`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tiktok_dm.errors import UserError


@runtime_checkable
class Embedder(Protocol):
    """One embedding of sound.

    Attributes:
        name: how tables call it.
        version: changes with its parameters and its weights; numbers of two versions are not comparable.
        sample_rate: Hz it works at; sound at another rate is resampled.
        dim: length of a row.
    """

    name: str
    version: str
    sample_rate: int
    dim: int

    def embed(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Rows float64 (windows, dim), at least one, of mono audio float32 (samples,) in -1..1 at `sample_rate` Hz.

        Deterministic: the same samples give the same rows.

        Raises:
            UserError: the audio is empty, not mono, or not finite.
        """


def clip_point(rows: np.ndarray) -> np.ndarray:
    """One point of a clip, (dim,): the mean of its rows (windows, dim)."""
    return rows.mean(axis=0)


def embed_all(embedder: Embedder, clips: Iterable[tuple[np.ndarray, int]]) -> np.ndarray:
    """Rows of all clips under one another, float64 (rows, dim); clips are (audio, sample rate in Hz)."""
    parts = [embedder.embed(audio, rate) for audio, rate in clips]
    return np.concatenate(parts) if parts else np.zeros((0, embedder.dim))


# ------------------------------------------------------------------------------------------- what embedders share


def at_rate(audio: np.ndarray, sample_rate: int, wanted: int) -> np.ndarray:
    """Checked mono audio float32 (samples,) at `wanted` Hz.

    Raises:
        UserError: empty, not mono, or not finite.
    """
    if audio.ndim != 1:
        raise UserError(
            f"an embedding is made of mono sound (samples,), and this has the shape {audio.shape}: mix it down"
        )
    if not len(audio):
        raise UserError("an empty sound has no embedding: leave the clip out or make it again")
    if not np.isfinite(audio).all():
        raise UserError("the sound holds values that are not finite: make the clip again")
    if sample_rate == wanted:
        return np.ascontiguousarray(audio, dtype=np.float32)
    import soxr

    out = soxr.resample(np.asarray(audio, dtype=np.float32), sample_rate, wanted, quality="HQ")
    return out if len(out) else np.zeros(1, np.float32)


def windows(audio: np.ndarray, length: int, *, pad: bool = True) -> list[np.ndarray]:
    """Consecutive windows of `length` samples without overlap; a rest at the end is dropped.

    A sound shorter than one window gives one: filled up with silence, or as short as it is if not `pad`.
    """
    if len(audio) < length:
        return [np.pad(audio, (0, length - len(audio))) if pad else audio]
    return [audio[first : first + length] for first in range(0, len(audio) - length + 1, length)]


def version_of(number: int, parameters: Mapping[str, Any], weights: Path | None = None) -> str:
    """`number` of the algorithm, and eight hexadecimal digits of its parameters and, where it has any, its weights."""
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode())
    if weights is not None:
        files = [weights] if weights.is_file() else sorted(file for file in weights.rglob("*") if file.is_file())
        for file in files:
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    return f"{number}-{digest.hexdigest()[:8]}"


def load_state(weights: Path, what: str) -> dict[str, Any]:
    """The state dict in a PyTorch file, opened without running code; one wrapped as {"model": ...} is unwrapped.

    Raises:
        UserError: the file is no state dict.
    """
    import torch

    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises its own and pickle's errors, without a common class
        raise UserError(
            f"{weights} cannot be opened as PyTorch weights ({type(error).__name__}): give the public {what} file"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{weights} holds no table of tensors: give the public {what} file")
    return state


def fill(module: Any, state: Mapping[str, Any], weights: Path, what: str) -> Any:
    """Load a state dict into a module, in evaluation mode; everything the module has must be there.

    Raises:
        UserError: a tensor is missing or of another shape.
    """
    import torch

    own = module.state_dict()
    counters = {name: torch.zeros((), dtype=torch.long) for name in own if name.endswith("num_batches_tracked")}
    state = counters | dict(state)
    missing = [name for name in own if name not in state]
    if missing:
        raise UserError(
            f"{weights} is no {what}: {len(missing)} of its {len(own)} tensors are missing, such as {missing[0]}"
        )
    for name, tensor in own.items():
        found, wanted = tuple(state[name].shape), tuple(tensor.shape)
        if found != wanted:
            raise UserError(f"{weights} is no {what}: {name} has the shape {found} instead of {wanted}")
    # Assigned, not copied: the module was made without memory of its own.
    module.load_state_dict(
        {name: state[name] if name in counters else state[name].float() for name in own}, assign=True
    )
    return module.eval().requires_grad_(False)
