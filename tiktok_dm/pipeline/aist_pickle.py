"""Pickles from outside that hold NumPy arrays and plain containers, opened so that nothing of theirs can run.

AIST++ is published as pickles, and a pickle is a program: it may call anything. Here it may call what rebuilds an array
of numbers or text and nothing else. Not for writing pickles, and not for pickles of anything richer.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.errors import UserError

MAX_BYTES = 2 * 2**30  # the largest of AIST++'s files has some 10 MB
_KINDS = "biufSU"  # truth values, numbers, text: no objects, no records that could hide them


class _RefusedError(Exception):
    """A pickle asks for something that is not rebuilt here."""


def load_plain_pickle(path: Path | str) -> Any:
    """What a pickle holds, if it is made of NumPy arrays of numbers or text, dicts, lists, tuples and plain values.

    Raises:
        UserError: the file cannot be read, is damaged, or asks for anything else.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path} has {size / 2**30:.1f} GB, too much to be opened")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        value = _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
        _check(value)
    except _RefusedError as error:
        raise UserError(f"{path} is not opened, since a pickle may run anything and this one {error}") from error
    # A damaged pickle makes the reader fail in nearly any way; the data's own code never runs.
    except Exception as error:
        raise UserError(f"{path} is damaged or no pickle: download it again") from error
    return value


def _array(kind: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which its state fills: what `numpy.core.multiarray._reconstruct` is called for."""
    if kind is not np.ndarray or shape != (0,):
        raise _RefusedError("builds an unusual array")
    return np.empty(0, np.uint8)


def _dtype(code: Any, *more: Any) -> np.dtype:
    if not isinstance(code, str):
        raise _RefusedError("builds an unusual data type")
    dtype = np.dtype(code)
    if dtype.kind not in _KINDS:
        raise _RefusedError("holds Python objects in an array")
    return np.dtype(code, False, True)  # a copy: the state that follows would change the type that all share


def _scalar(dtype: np.dtype, data: Any = b"") -> Any:
    if not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS:
        raise _RefusedError("holds an unusual number")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(raw, dtype, 1)[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_axes: Any) -> np.ndarray:
    """What arrays of protocol 5 are called for."""
    if not isinstance(dtype, np.dtype) or dtype.kind not in _KINDS:
        raise _RefusedError("holds Python objects in an array")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _no_bytes() -> bytes:
    """No bytes at all, in pickles of protocol 2 and below; `bytes` itself would fill memory when asked to."""
    return b""


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    """Bytes in pickles of protocol 2 and below."""
    if not isinstance(text, str) or str(encoding).lower().replace("-", "").replace("_", "") not in ("latin1", "ascii"):
        raise _RefusedError("calls a codec")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("asks for something outside itself")


def _check(value: Any) -> None:
    """Raise unless all of it is plain."""
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict | list | tuple):
            if id(item) in seen:
                continue
            seen.add(id(item))
            waiting += [*item.keys(), *item.values()] if isinstance(item, dict) else item
        elif isinstance(item, np.ndarray):
            if item.dtype.kind not in _KINDS:
                raise _RefusedError("holds Python objects in an array")
        elif not isinstance(item, str | bytes | int | float | bool | np.generic | None):
            raise _RefusedError(f"holds a {type(item).__name__}")
