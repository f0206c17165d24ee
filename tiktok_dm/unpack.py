"""Archives that strangers made: named files taken out of a zip, tar or tar.gz, and nothing else, whatever it states.

Imported by itself in a process with limits (`tiktok_dm.runtime.sandbox`), so that it needs little memory of its own.
"""

from __future__ import annotations

import errno
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

_END = 66_000  # bytes at the end of a zip in which its directory is announced
_DIRECTORY = 400  # bytes that a member may take in that directory
_MORE = 1000  # members beside the wanted ones: folders


class Unusable(Exception):
    """An archive that cannot be used, in words."""


def unpack(archive: Path, wanted: Mapping[str, int], out: Path, below: str = "") -> None:
    """Write the files named in `wanted` into the empty folder `out`.

    Args:
        wanted: greatest size in bytes, by name in the archive with `/` between folders.
        below: a folder at the archive's top that the names may stand in.

    Raises:
        Unusable: it is no such archive or damaged, holds something else, a link, a file twice, or more than it may.
    """
    seen = set()
    most = 2 * len(wanted) + _MORE
    try:
        for count, (member, size, read) in enumerate(_members(archive, most)):
            if count >= most:
                raise Unusable(f"it holds more than {most} members: pack the wanted files only")
            if read is None:
                continue
            parts = PurePosixPath(member).parts
            key = "/".join(parts[1:] if parts and below and parts[0] == below else parts)
            if key not in wanted:
                raise Unusable(f"it holds {member[:100]}, for which the manifest has no row: pack SEED/ID.wav only")
            if key in seen:
                raise Unusable(f"it holds {key} twice: pack each file once")
            if size > wanted[key]:
                raise Unusable(f"{key} has {size} bytes, which is more than it can need ({wanted[key]})")
            seen.add(key)
            place = out / key
            place.parent.mkdir(parents=True, exist_ok=True)
            with read() as source, open(place, "wb") as target:
                left = wanted[key] + 1
                while left > 0 and (block := source.read(min(1 << 20, left))):
                    target.write(block)
                    left -= len(block)
                if left <= 0:
                    raise Unusable(f"{key} has more than {wanted[key]} bytes")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error) as error:
        raise Unusable(f"it cannot be unpacked ({error}): pack a zip, a tar or a tar.gz") from error
    except OSError as error:
        # A place before the file's start, or gzip's own errors, which have no number.
        if error.errno not in (errno.EINVAL, None):
            raise
        raise Unusable("it is damaged: pack a zip, a tar or a tar.gz") from error
    except (EOFError, RuntimeError, NotImplementedError, ValueError, IndexError, UnicodeError, OverflowError) as error:
        raise Unusable(f"it is damaged ({error}): pack a zip, a tar or a tar.gz") from error


def _members(archive: Path, most: int) -> Iterator[tuple[str, int, Any]]:
    """(name, size, how to open it, None for a folder) of each member; links are refused."""
    with open(archive, "rb") as file:
        head = file.read(512)
        file.seek(max(0, archive.stat().st_size - _END))
        tail = file.read()
    if b"PK\x05\x06" in tail and head[:2] == b"PK":
        if _directory_bytes(tail) > most * _DIRECTORY:
            raise Unusable(f"it holds more than {most} members: pack the wanted files only")
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise Unusable(f"it holds {info.filename[:100]}, which is a link: pack the file itself")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise Unusable("it is packed by another method than stored or deflated: pack it again")
                yield info.filename, info.file_size, None if info.is_dir() else lambda info=info: zipped.open(info)
        return
    if head[:2] != b"\x1f\x8b" and head[257:262] != b"ustar":
        raise Unusable("it cannot be unpacked (neither zip nor tar): pack a zip, a tar or a tar.gz")
    with tarfile.open(archive, "r:gz" if head[:2] == b"\x1f\x8b" else "r:") as tarred:
        for member in tarred:
            tarred.members = []  # type: ignore[attr-defined]  # of millions of members none is kept
            if not (member.isdir() or member.isfile()):
                raise Unusable(f"it holds {member.name[:100]}, which is no plain file: pack the file itself")
            opened = None if member.isdir() else lambda member=member: _opened(tarred, member)
            yield member.name.removeprefix("./"), member.size, opened


def _directory_bytes(tail: bytes) -> int:
    """Size of a zip's directory, as announced at its end; the largest that any announcement there says."""
    sizes = [0]
    at = tail.find(b"PK\x05\x06")
    while at >= 0:
        if at + 16 <= len(tail):
            sizes.append(struct.unpack_from("<L", tail, at + 12)[0] & 0xFFFFFFFF)
        at = tail.find(b"PK\x05\x06", at + 1)
    at = tail.find(b"PK\x06\x06")
    while at >= 0:
        if at + 48 <= len(tail):
            sizes.append(struct.unpack_from("<Q", tail, at + 40)[0])
        at = tail.find(b"PK\x06\x06", at + 1)
    return max(size for size in sizes if size != 0xFFFFFFFF)


@contextmanager
def _opened(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[IO[bytes]]:
    source = tarred.extractfile(member)
    if source is None:
        raise Unusable(f"it holds {member.name[:100]}, which is no plain file: pack the file itself")
    with source:
        yield source
