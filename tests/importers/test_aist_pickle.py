"""Pickles of arrays and plain containers open; whatever else a pickle may ask for does not run."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import pickletools
import re
from pathlib import Path

import numpy as np
import pytest
from numpy._core import multiarray

from tiktok_dm.errors import UserError
from tiktok_dm.importers.aist.pickles import load_plain_pickle

SPRUNG = Path("/tmp/tiktok_dm_pickle_trap_was_sprung")

PLAIN = {
    "double": np.arange(12, dtype=np.float64).reshape(3, 4),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big end first": np.arange(6, dtype=">i4"),
    "truth": np.array([True, False]),
    "text": np.array(["ab", "c"]),
    "empty": np.zeros((0, 3)),
    "one": np.zeros(()),
    "scalar": np.float32(1.5),
    "whole scalar": np.int64(-7),
    "list": [1, 2.5, None, (True, "x", b"y", b"")],
}


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_values_come_back(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    back = load_plain_pickle(tmp_path / "a.pkl")
    assert list(back) == list(PLAIN)
    assert back["list"] == PLAIN["list"]
    for name, value in PLAIN.items():
        if isinstance(value, np.ndarray | np.generic):
            assert type(back[name]) is type(value), name
            assert back[name].shape == value.shape
            assert back[name].dtype.kind == value.dtype.kind
            np.testing.assert_array_equal(back[name], value)


@pytest.mark.parametrize("core", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_what_older_and_newer_numpy_write(tmp_path: Path, core: bytes) -> None:
    """NumPy 2 names its core `numpy._core`."""
    data = pickle.dumps({"a": np.arange(3.0), "b": np.float32(2)}, protocol=2)
    written, count = re.subn(rb"numpy\._?core\.multiarray", core, data)
    assert count
    (tmp_path / "a.pkl").write_bytes(written)
    back = load_plain_pickle(tmp_path / "a.pkl")
    assert back["a"].tolist() == [0, 1, 2]
    assert back["b"] == 2


class _Trap:
    def __reduce__(self) -> tuple:
        return os.mkdir, (str(SPRUNG),)


class _Eval:
    def __reduce__(self) -> tuple:
        return eval, (f"__import__('os').mkdir({str(SPRUNG)!r})",)


class _Codec:
    def __reduce__(self) -> tuple:
        import _codecs

        return _codecs.encode, ("x", "rot13")


class _Memory:
    def __reduce__(self) -> tuple:
        return multiarray._reconstruct, (np.ndarray, (10**15,), b"b")


class _Load:
    def __reduce__(self) -> tuple:
        return np.load, ("/etc/passwd",)


class _Persistent(pickle.Pickler):
    def persistent_id(self, item: object) -> object:
        return "outside" if item == "here" else None


TRAPS = {
    "a command": (_Trap(), "asks for posix.mkdir"),
    "code": (_Eval(), "asks for builtins.eval"),
    "a trap in an array": (np.array([_Trap()], dtype=object), "holds Python objects in an array"),
    "objects in an array": (np.array([{}], dtype=object), "holds Python objects in an array"),
    "a record": (np.zeros(2, [("a", "f8"), ("b", "O")]), "holds Python objects in an array"),
    "a codec": (_Codec(), "calls a codec"),
    "much memory": (_Memory(), "builds an unusual array"),
    "numpy's own loader": (_Load(), "asks for numpy.load"),
    "another container": (collections.OrderedDict(a=1), "asks for collections.OrderedDict"),
    "a set": ({1, 2}, "holds a set"),
    "a complex number": (1j, "asks for builtins.complex"),
}


@pytest.mark.parametrize("case", TRAPS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_anything_else_is_refused_in_one_sentence(tmp_path: Path, case: str, protocol: int) -> None:
    value, reason = TRAPS[case]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"smpl_poses": value}, protocol=protocol))
    with pytest.raises(UserError, match="is not opened, since a pickle may run anything and this one ") as caught:
        load_plain_pickle(tmp_path / "a.pkl")
    if protocol == 4:
        assert str(caught.value).endswith(reason)
    assert "\n" not in str(caught.value)
    assert not SPRUNG.exists()


def test_persistent_ids_are_refused(tmp_path: Path) -> None:
    with open(tmp_path / "a.pkl", "wb") as file:
        _Persistent(file).dump(["here"])
    with pytest.raises(UserError, match="asks for something outside itself"):
        load_plain_pickle(tmp_path / "a.pkl")


def test_the_shared_types_of_numpy_stay_as_they_are(tmp_path: Path) -> None:
    """A pickle sets the state of the type that it asks for; that must not be the one that everybody uses."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(np.arange(3, dtype=">f8")))
    load_plain_pickle(tmp_path / "a.pkl")
    assert np.dtype("f8").isnative
    assert np.array([1.5]).tobytes() == np.float64(1.5).tobytes()


def _with_state(code: str, state: tuple) -> bytes:
    """A pickle of an array whose data type is told to be something else by its state."""
    array = pickle.dumps(np.arange(2.0), protocol=2)
    ours = pickle.dumps(state, protocol=2)[2:-1]
    theirs = pickle.dumps((3, "<", None, None, None, -1, -1, 0), protocol=2)[2:-1]
    place = array.index(b"(K\x03U") if b"(K\x03U" in array else array.index(b"(K\x03X")
    end = array.index(b"b", array.index(b"K\x00t", place))
    assert theirs[:3] == array[place : place + 3]
    return array[:place] + ours + array[end:]


@pytest.mark.parametrize(
    "state",
    [
        (3, "<", None, ("a",), {"a": 1}, -1, -1, 0),  # names and fields
        (3, "<", ("O", (2,)), None, None, -1, -1, 0),  # a part of another type
        (3, "?", None, None, None, -1, -1, 0),
        "nothing of the kind",
    ],
)
def test_states_that_would_make_numbers_something_else_are_refused(tmp_path: Path, state: tuple) -> None:
    (tmp_path / "a.pkl").write_bytes(_with_state("f8", state))
    with pytest.raises(UserError, match="is not opened"):
        load_plain_pickle(tmp_path / "a.pkl")


def test_flags_of_a_data_type_are_not_believed(tmp_path: Path) -> None:
    """With NumPy's own reader, this flag has the numbers taken for addresses of objects."""
    (tmp_path / "a.pkl").write_bytes(_with_state("f8", (3, "<", None, None, None, -1, -1, 0x3F)))
    assert load_plain_pickle(tmp_path / "a.pkl").tolist() == [0, 1]


def test_nothing_of_the_reader_can_be_changed(tmp_path: Path) -> None:
    # GLOBAL _codecs.encode, then BUILD with a state: with plain functions, it would set their attributes.
    state = pickle.dumps((None, {"__defaults__": (1,)}), protocol=2)[2:-1]
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02c_codecs\nencode\n" + state + b"b.")
    with pytest.raises(UserError, match="changes what it is opened with"):
        load_plain_pickle(tmp_path / "a.pkl")


def test_containers_that_hold_themselves_or_one_another(tmp_path: Path) -> None:
    ring: list = [np.arange(2.0)]
    ring.append(ring)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(ring))
    back = load_plain_pickle(tmp_path / "a.pkl")
    assert back[1] is back
    shared: tuple = (1,)
    for _ in range(60):  # 2^60 of them, if each were looked at anew
        shared = (shared, shared)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(shared))
    assert len(load_plain_pickle(tmp_path / "a.pkl")) == 2


def test_every_shortened_pickle_is_a_sentence(tmp_path: Path) -> None:
    data = pickle.dumps({"smpl_poses": np.arange(30.0).reshape(10, 3), "n": [1, 2]}, protocol=4)
    path = tmp_path / "a.pkl"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(UserError):
            load_plain_pickle(path)
    with pytest.raises(UserError, match="cannot be read"):
        load_plain_pickle(tmp_path / "nowhere.pkl")


@pytest.mark.filterwarnings("error")
def test_spoilt_pickles_give_plain_data_or_a_sentence(tmp_path: Path) -> None:
    data = bytearray(pickle.dumps({"a": np.arange(6.0), "b": np.float32(1)}, protocol=2))
    path = tmp_path / "a.pkl"
    rng = np.random.default_rng(0)
    # Memo places beyond the pickle's own would only ask for memory.
    memo = {place for op, _, place in pickletools.genops(bytes(data)) if "PUT" in op.name}
    for _ in range(400):
        spoilt = bytearray(data)
        place = int(rng.integers(len(data)))
        if place in memo:
            continue
        spoilt[place] = int(rng.integers(256)) & 0x7F
        if spoilt[place] == ord("r"):  # LONG_BINPUT
            continue
        path.write_bytes(spoilt)
        with contextlib.suppress(UserError):  # and nothing else, not a warning from within NumPy either
            load_plain_pickle(path)
    assert not SPRUNG.exists()
