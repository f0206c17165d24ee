"""What this machine runs on: the cores that a process may use, and the device for a network.

Not for sharing work out among them: that is `tiktok_dm.runtime.executor`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    import torch


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_device(device: str | torch.device = "auto") -> torch.device:
    """The torch device of that name; `auto` is a GPU where there is one.

    A GPU is looked for and not touched, so that whoever only asks holds no memory on it.

    Raises:
        UserError: PyTorch is not installed, or there is no such device on this machine.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError("networks need PyTorch: pip install 'tiktok-dm[model]', or the extra [visual]") from error
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    nothing = f"There is no device '{device}' on this machine"
    try:
        found = torch.device(device)
        if found.type != "cuda":
            torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"{nothing}: give auto or cpu.") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(f"{nothing}: PyTorch sees no GPU of that number; give auto or cpu, or install it with CUDA.")
    return found
