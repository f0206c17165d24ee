"""A parity pack as opened, and the result of comparing one array of it. Not the comparison: see `parity`."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from d2m_model.codec.jukebox import JukeboxVQVAE
from tiktok_dm.errors import UserError


@dataclass(frozen=True)
class Result:
    """One compared array.

    Args:
        name: as in the file of expected numbers.
        error: the largest error; infinite where names, shapes or codes differ that must not.
        tolerance: the largest error that passes.
        note: what is compared where the name does not say it.
    """

    name: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Pack:
    """A parity pack as opened: where, names and shapes, generator of weights, expected numbers, seed, batch."""

    folder: Path
    networks: Mapping[str, Any]
    generator: ModuleType
    expected: Mapping[str, np.ndarray]
    seed: int
    batch: int

    def fill(self, module: nn.Module, network: str) -> nn.Module:
        """Give `module` the pack's weights of that network; a codec takes its own level of them.

        Raises:
            UserError: entries that are missing, or of another shape, on either side.
        """
        rows = {key: tuple(shape) for key, shape, _ in self.networks[network]["keys"]}
        mine = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        if not isinstance(module, JukeboxVQVAE) and (odd := sorted(set(rows.items()) ^ set(mine.items()))):
            raise UserError(f"This implementation and the pack differ in {network}, entry {odd[0][0]} {odd[0][1]}.")
        if lacking := sorted(set(mine) - set(rows)):
            raise UserError(f"The pack's {network} has no entry {lacking[0]}.")
        state = {key: torch.from_numpy(self.generator.weights(self.seed, network, key, rows[key])) for key in mine}
        module.load_state_dict(state)
        return module


def open_pack(folder: Path, expected: Path | None = None) -> Pack:
    """Open a pack; the expected numbers are `expected`, or the pack's own for seed 0.

    Raises:
        UserError: a file that is missing or is not what it should be.
    """
    files = [folder / "state_dicts.json", folder / "deterministic.py", expected or folder / "expected_seed0.npz"]
    for path in files:
        if not path.is_file():
            raise UserError(f"The parity pack lacks the file {path}.")
    specification = importlib.util.spec_from_file_location("d2m_parity_pack", files[1])
    assert specification is not None
    assert specification.loader is not None
    generator = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(generator)
        networks = json.loads(files[0].read_text())["networks"]
        with np.load(files[2], allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = str(arrays["meta"])
        seed, batch = (int(re.search(rf"\b{word}=(\d+)", meta).group(1)) for word in ("seed", "batch"))  # type: ignore[union-attr]
    except Exception as error:  # whatever a damaged pack raises, the user needs to know which
        raise UserError(f"The parity pack {folder} cannot be used: {type(error).__name__}: {error}.") from error
    return Pack(folder, networks, generator, arrays, seed, batch)
