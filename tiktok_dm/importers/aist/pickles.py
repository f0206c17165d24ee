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
        return _plain(_PlainUnpickler(io.BytesIO(data), encoding="latin1").load(), {})
    except _RefusedError as error:
        raise UserError(f"{path} is not opened, since a pickle may run anything and this one {error}") from error
    # A damaged pickle makes the reader fail in nearly any way; the data's own code never runs.
    except Exception as error:
        raise UserError(f"{path} is damaged or no pickle: download it again") from error


class _Stand:
    """Stands for what a pickle names. It can be called as its kind allows, and nothing of it can be set."""

    __slots__ = ("_make",)
    _make: Callable[..., Any] | None

    def __init__(self, make: Callable[..., Any] | None = None) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *values: Any) -> Any:
        if self._make is None:
            raise _RefusedError("builds an unusual array")
        return self._make(*values)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _RefusedError("changes what it is opened with")

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("changes what it is opened with")


# NumPy's own types take their state from a pickle on trust: one that says that numbers are objects would have them read
# as addresses. So neither is built here; these two keep what they are told, and it is looked at.


class _DataType:
    """A `numpy.dtype` to be: its code, and in which order its bytes are."""

    __slots__ = ("order", "type")

    def __init__(self, code: Any, *_align_copy: Any) -> None:
        self.type, self.order = _data_type(code), "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise _RefusedError("builds an unusual data type")
        if any(part is not None for part in state[2:5]):  # a part of another type, names, fields
            raise _RefusedError("holds Python objects in an array")
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype:
        return self.type if self.order == "|" else self.type.newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """A `numpy.ndarray` to be."""

    __slots__ = ("value",)

    def __init__(self, kind: Any, shape: Any, code: Any) -> None:
        if kind is not _NDARRAY or shape != (0,):
            raise _RefusedError("builds an unusual array")
        self.value: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, columns_first, raw = state
        self.value = _filled(raw, dtype, shape, "F" if columns_first else "C")


def _data_type(code: Any) -> np.dtype:
    if not isinstance(code, str):
        raise _RefusedError("builds an unusual data type")
    dtype = np.dtype(code)
    if dtype.kind not in _KINDS or dtype.fields is not None or dtype.subdtype is not None:
        raise _RefusedError("holds Python objects in an array")
    return dtype


def _filled(raw: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DataType) or not isinstance(raw, bytes | bytearray | str):
        raise _RefusedError("holds Python objects in an array")
    data = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
    array = np.frombuffer(data, dtype.dtype) if data else np.zeros(0, dtype.dtype)
    return array.reshape(shape, order="F" if order == "F" else "C").copy(order="K")


def _scalar(dtype: Any, raw: Any) -> Any:
    return _filled(raw, dtype, (1,), "C")[0]


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any, *_axes: Any) -> np.ndarray:
    """What arrays of protocol 5 are called for."""
    return _filled(raw, dtype, shape, order)


def _no_bytes() -> bytes:
    """No bytes at all, in pickles of protocol 2 and below; `bytes` itself would fill memory when asked to."""
    return b""


def _encode(text: Any, encoding: Any = "latin1", *_: Any) -> bytes:
    """Bytes in pickles of protocol 2 and below."""
    if not isinstance(text, str) or str(encoding).lower().replace("-", "").replace("_", "") not in ("latin1", "ascii"):
        raise _RefusedError("calls a codec")
    return text.encode("latin1")


_NDARRAY = _Stand()
_ALLOWED: dict[tuple[str, str], _Stand] = {
    **{
        (f"numpy.{core}.{module}", name): _Stand(make)
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Stand(_DataType),
    ("_codecs", "encode"): _Stand(_encode),
    ("__builtin__", "bytes"): _Stand(_no_bytes),
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _RefusedError(f"asks for {module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("asks for something outside itself")


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """`value` with arrays in place of what stands for them; `done` holds what was met before, by its address."""
    if isinstance(value, str | bytes | int | float | bool | np.generic | np.ndarray | None):
        return value
    if id(value) in done:
        return done[id(value)]
    plain: Any
    if isinstance(value, _Array):
        if value.value is None:
            raise _RefusedError("builds an unusual array")
        plain = done[id(value)] = value.value
    elif isinstance(value, list):
        plain = done[id(value)] = []
        plain += [_plain(item, done) for item in value]
    elif isinstance(value, dict):
        plain = done[id(value)] = {}
        plain.update({_plain(key, done): _plain(item, done) for key, item in value.items()})
    elif isinstance(value, tuple):
        plain = done[id(value)] = tuple(_plain(item, done) for item in value)
    else:
        raise _RefusedError(f"holds a {type(value).__name__.lstrip('_')}")
    return plain
