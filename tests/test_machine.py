"""Cores and devices: what a name means, and what is said of one that is not there."""

from __future__ import annotations

import os
import sys

import pytest

from tiktok_dm.errors import UserError
from tiktok_dm.machine import cores, find_device


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_a_device_is_the_named_one_or_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="devices are PyTorch's")
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("cuda:1") == torch.device("cuda", 1)  # counted alone: nothing is put on it


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="devices are PyTorch's")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"^There is no device 'gpu' on this machine: give auto or cpu\.$"):
        find_device("gpu")
    with pytest.raises(UserError, match="no device 'cuda:1' on this machine: PyTorch sees no GPU of that number"):
        find_device("cuda:1")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'tiktok-dm\[model\]'"):
        find_device("cpu")
