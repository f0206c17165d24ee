"""Cards, archives and links that are made to harm end in a sentence, within little memory and time."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import io
import lzma
import random
import socket
import struct
import tarfile
import threading
import tracemalloc
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiktok_dm.benchmark.leaderboard.card import read_card
from tiktok_dm.network import NotPublic, is_public, public_only
from tiktok_dm.runtime.sandbox import OverLimit, run_limited
from tiktok_dm.unpack import Unusable, unpack

WANTED = {"0/clip_000000.wav": 100_000, "0/clip_000001.wav": 100_000}


def card_problems(folder: Path, text: str | bytes) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "submission.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    card = read_card(folder)
    assert card.submission is None or not card.problems
    return [str(problem) for problem in card.problems]


# ------------------------------------------------------------------------------------------- cards

HOSTILE_CARDS = {
    "brackets": "[" * 60_000,
    "braces": "{a: " * 30_000,
    "dashes": "- " * 60_000,
    "deep blocks": "\n".join(" " * k + "a:" for k in range(600)),
    "billion laughs": "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n",
    "empty int": '!!int ""',
    "bad bool": "seeds: !!bool x",
    "python": "!!python/object/apply:os.system ['true']",
    "a date that is none": "version: 2020-13-45",
    "a very long number": "seeds: [" + "9" * 6000 + "]",
    "a very long hexadecimal": "parameters: 0x" + "f" * 60_000,
    "sexagesimal": "parameters: " + ":".join(["59"] * 3000),
    "infinity": "parameters: .inf",
    "nul": "system: \x00",
    "complex key": "? {a: b}\n: c",
    "directive": "%YAML 9.9\n---\na: b",
    "two documents": "a: b\n---\nc: d",
    "merge": "<<: {a: b}\na: c",
    "many keys": "\n".join(f"k{k}: v" for k in range(15_000)),
}


@pytest.mark.parametrize("name", HOSTILE_CARDS)
def test_a_hostile_card_is_a_list_of_problems(name: str, tmp_path: Path) -> None:
    tracemalloc.start()
    problems = card_problems(tmp_path / "system" / "1.0", HOSTILE_CARDS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problems
    assert all("\n" not in problem for problem in problems)
    assert peak < 200e6


YAML = st.recursive(
    st.one_of(st.text("ab01.:-!&*[]{}#%@'\"\n \t\\,?|>", max_size=12), st.integers().map(str), st.just("!!int x")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda parts: "[" + ", ".join(parts) + "]"),
        st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=4).map(
            lambda parts: "\n".join(f"{key}: {value}" for key, value in parts.items())
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(text=st.one_of(YAML, st.text(max_size=200)))
def test_any_text_is_a_card_or_problems(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    assert card_problems(tmp_path_factory.mktemp("card") / "system" / "1.0", text)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_card_or_problems(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    assert card_problems(tmp_path_factory.mktemp("card") / "system" / "1.0", data)


# ------------------------------------------------------------------------------------------- archives


def tar(*members: tuple[tarfile.TarInfo, bytes], gz: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if gz else "w", format=tarfile.GNU_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def lying_zip(count: int) -> bytes:
    """One member that its directory names `count` times, and an end that says there is one."""
    one = zipped(("0/clip_000000.wav", b"x"))
    start = one.index(b"PK\x01\x02")
    entry = one[start : one.index(b"PK\x05\x06")]
    directory = entry * count
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), start, 0)
    return one[:start] + directory + end


def header_of(size: int, kind: bytes) -> bytes:
    """A tar whose header states an extended header of `size` bytes, of zeros."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


HEAVY = ("gzip with a long name of 700 MB", "a zip of a million members")
ARCHIVES: dict[str, Callable[[], bytes]] = {
    "not an archive": lambda: b"hello" * 100,
    "empty": lambda: b"",
    "xz that states a dictionary of 4 GB": lambda: lzma.compress(
        tar((member("0/clip_000000.wav", 3), b"abc")), filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 26}]
    ),
    "tar whose member states 4 GB": lambda: member("0/clip_000000.wav", 4 << 30).tobuf(),
    "tar with a pax header of 3 GB": lambda: header_of(3 << 30, tarfile.XHDTYPE),
    "tar with a long name of 3 GB": lambda: header_of(3 << 30, tarfile.GNUTYPE_LONGNAME),
    HEAVY[0]: lambda: gzip.compress(header_of(700_000_000, tarfile.GNUTYPE_LONGNAME) + bytes(700_000_512), 9),
    "a million members": lambda: gzip.compress(member("0/", 0, tarfile.DIRTYPE).tobuf() * 400_000, 1),
    HEAVY[1]: lambda: lying_zip(1_000_000),
    "zip bomb": lambda: zipped(("0/clip_000000.wav", bytes(200_000_000))),
    "out of the folder": lambda: tar((member("../../evil.wav", 3), b"abc")),
    "absolute": lambda: tar((member("/etc/evil.wav", 3), b"abc")),
    "symbolic link": lambda: tar((member("0/clip_000000.wav", 0, tarfile.SYMTYPE, "/etc/passwd"), b"")),
    "hard link": lambda: tar((member("0/clip_000000.wav", 0, tarfile.LNKTYPE, "0/clip_000001.wav"), b"")),
    "device": lambda: tar((member("0/clip_000000.wav", 0, tarfile.CHRTYPE), b"")),
    "twice": lambda: zipped(("0/clip_000000.wav", b"a"), ("0/clip_000000.wav", b"b")),
    "bzip2 inside a zip": lambda: zipped(("0/clip_000000.wav", b"a"), method=zipfile.ZIP_BZIP2),
    "another file": lambda: zipped(("0/other.wav", b"a")),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.hostile) if name in HEAVY else name for name in ARCHIVES]
)
def test_a_hostile_archive_is_refused_within_limits(name: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(ARCHIVES[name]())
    (tmp_path / "out").mkdir()
    with pytest.raises((Unusable, OverLimit)) as caught:
        run_limited(unpack, tmp_path / "archive", WANTED, tmp_path / "out", memory_mb=256, seconds=10, file_mb=64)
    assert "\n" not in str(caught.value)
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) < 300_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "out"]


@pytest.mark.parametrize("pack", ["zip", "tar", "tar.gz"])
def test_an_honest_archive_is_unpacked(pack: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    data = {name: rng.randbytes(90_000) for name in WANTED}
    files = [(f"predictions/{name}", value) for name, value in data.items()]
    if pack == "zip":
        packed = zipped(*files)
    else:
        members = [(member("predictions/0/", 0, tarfile.DIRTYPE), b"")]
        packed = tar(*members, *((member(name, len(value)), value) for name, value in files), gz=pack == "tar.gz")
    (tmp_path / "archive").write_bytes(packed)
    (tmp_path / "out").mkdir()
    run_limited(unpack, tmp_path / "archive", WANTED, tmp_path / "out", "predictions", memory_mb=256, seconds=30)
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.wav")
    }
    assert found == data


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["zip", "tar", "tar.gz"]), flips=st.integers(1, 12))
def test_damaged_archives_are_refused_or_hold_what_is_wanted(
    tmp_path_factory: pytest.TempPathFactory, seed: int, kind: str, flips: int
) -> None:
    """In this process: no error of another kind than `Unusable` comes out, and no file of another name."""
    rng = random.Random(seed)
    files = [(name, rng.randbytes(50)) for name in WANTED]
    if kind == "zip":
        packed = zipped(*files)
    else:
        packed = tar(*((member(name, len(value)), value) for name, value in files), gz=kind == "tar.gz")
    data = bytearray(packed)
    for _ in range(flips):
        at = rng.randrange(len(data))
        data[at] = rng.randrange(256)
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "archive").write_bytes(data[: rng.randrange(1, len(data) + 1)] if rng.random() < 0.3 else data)
    (folder / "out").mkdir()
    with contextlib.suppress(Unusable, MemoryError):
        unpack(folder / "archive", WANTED, folder / "out")
    names = {path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*") if path.is_file()}
    assert names <= set(WANTED)


def _eat(megabytes: int) -> int:
    return len(bytearray(megabytes << 20))


def _spin() -> None:
    while True:
        zlib.crc32(b"x" * 1000)


def _fail() -> None:
    raise KeyError("told on")


def test_the_sandbox_holds_its_limits() -> None:
    assert run_limited(_eat, 50, memory_mb=256) == 50 << 20
    with pytest.raises(OverLimit, match="256 MB"):
        run_limited(_eat, 2000, memory_mb=256)
    with pytest.raises(OverLimit):
        run_limited(_spin, seconds=1)
    with pytest.raises(KeyError, match="told on"):
        run_limited(_fail)


# ------------------------------------------------------------------------------------------- links

PRIVATE = [
    "127.0.0.1", "127.1.2.3", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
    "fc00::1", "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "2002:7f00:1::", "2001:0:7f00:1::", "::127.0.0.1", "2001:db8::1", "64:ff9b:1::a00:1", "no address",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8"]


def test_which_addresses_are_public() -> None:
    assert [address for address in PRIVATE if is_public(address)] == []
    assert [address for address in PUBLIC if not is_public(address)] == []


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on loopback that answers, and leads on from /on; no proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"secret")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield str(server.server_port)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "localhost.",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
    ],
)
def test_no_spelling_of_a_private_address_is_reached(here: str, host: str) -> None:
    url = f"http://{host}:{here}/"
    with public_only(), pytest.raises(OSError) as caught:  # noqa: PT011 - looked at below
        urllib.request.urlopen(url, timeout=5)
    assert isinstance(getattr(caught.value, "reason", caught.value), NotPublic | socket.gaierror | ConnectionError)
    if host == "127.0.0.1":
        with public_only(allow_private=True):
            assert urllib.request.urlopen(url, timeout=5).read() == b"secret"
        assert urllib.request.urlopen(url, timeout=5).read() == b"secret"  # nothing stays behind


def test_a_name_is_resolved_once_and_the_checked_address_is_asked(here: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public at the first look and private at the second, as DNS rebinding has it."""
    from tiktok_dm import network

    answers = iter(["8.8.8.8", "127.0.0.1"])
    asked = []

    def resolve(host: str, port: int, *args: object, **kwargs: object) -> list:
        address = next(answers)
        asked.append(address)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(network, "_resolve", resolve)
    monkeypatch.setattr(socket, "create_connection", _refuse_after_resolving)
    with public_only(), pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://rebinding.example:{here}/", timeout=1)
    assert asked == ["8.8.8.8"]


def _refuse_after_resolving(address: tuple[str, int], *args: object, **kwargs: object) -> None:
    socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
    raise ConnectionRefusedError


def test_other_threads_are_left_alone(here: str) -> None:
    got = []
    with public_only():
        thread = threading.Thread(
            target=lambda: got.append(urllib.request.urlopen(f"http://127.0.0.1:{here}/", timeout=5).read())
        )
        thread.start()
        thread.join()
    assert got == [b"secret"]
