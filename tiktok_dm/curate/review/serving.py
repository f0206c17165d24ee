"""Holding a review: is the folder fit for it, which videos belong to it, the port, the browser, until the end.

What would spoil a sitting is said before it begins, while nothing is changed yet: no proposals, mistakes in the tables,
a place that cannot be written, videos that are gone or are others by now. Not for what is answered (`server`).
"""

from __future__ import annotations

import socket
import sys
import tempfile
import threading
import webbrowser
from pathlib import Path

from tiktok_dm.curate.proposals import Proposals, read_proposals, read_sources, work_folder, write_sources
from tiktok_dm.curate.review.assets import Assets
from tiktok_dm.curate.review.server import create_app
from tiktok_dm.errors import UserError
from tiktok_dm.web_guard import LOOPBACK


def opened(folder: Path) -> Proposals:
    """The proposals of a folder that can be reviewed.

    Raises:
        UserError: it is no folder of proposals, or nothing can be saved there.
        ProblemsError: anything is wrong in its tables.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the one that `tiktok-dm propose --out` wrote")
    # A change that was cut off lies in `.pending` until the tables are read.
    if not any((folder / name).exists() for name in ("clips.csv", ".pending")):
        raise UserError(f"{folder} holds no clips.csv: give the folder that `tiktok-dm propose --out` wrote")
    for place in (folder, work_folder(folder)):
        try:
            place.mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            raise UserError(
                f"{place} cannot be written ({error.strerror}): a review saves every edit there, so allow it first"
            ) from error
    try:
        return read_proposals(folder)
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be read ({error.strerror}): allow it first") from error


def find_sources(folder: Path, media: Path | None) -> dict[int, Path]:
    """The videos of a folder's compilations: in `media` by their names, else where they were when it was proposed.

    Raises:
        UserError: `media` is not a folder or holds none of them, or several of its files could be one compilation.
    """
    from tiktok_dm.pipeline.acquire import find_local

    known = read_sources(folder)
    if media is None:
        return known
    if not media.is_dir():
        raise UserError(f"{media} is not a folder: give the one that holds the videos")
    table = read_proposals(folder).annotations.compilations
    found = {}
    for number, file in zip(table.compilation_id, table.file, strict=True):
        path = find_local(media, int(number), file if isinstance(file, str) else None)
        if path is not None:
            found[int(number)] = path
    if not found:
        raise UserError(
            f"{media} holds none of the videos of {folder}: give the folder with the files of compilations.csv"
        )
    return known | found


def check_sources(proposals: Proposals, sources: dict[int, Path]) -> list[int]:
    """Whether the videos are those that the proposals were made from.

    Checksums are kept in the work folder, so that they are computed again only for files that changed.

    Returns:
        Compilations whose video is not on this machine.

    Raises:
        UserError: none is, or one is another file by now.
    """
    folder, table = proposals.root, proposals.annotations.compilations
    missing = [int(number) for number in table.compilation_id if int(number) not in sources]
    if not sources:
        raise UserError(
            f"none of the videos of {folder} is where it was when it was proposed: name the folder that holds them "
            "with --media"
        )
    assets = Assets(work_folder(folder), sources)
    for number, known in zip(table.compilation_id, table.sha256, strict=True):
        if isinstance(known, str) and int(number) in sources and assets.checksum(int(number)) != known.lower():
            raise UserError(
                f"{sources[int(number)]} is not the video that compilation {number} was proposed from (its SHA-256 is "
                "another): name the folder that holds that one with --media, or propose the new one into a new folder"
            )
    return missing


def serve(
    folder: Path, *, media: Path | None = None, host: str = "127.0.0.1", port: int = 0, open_browser: bool = True
) -> None:
    """Hold a review until it is interrupted; prints the page's address.

    Args:
        folder: of proposals.
        media: folder with the videos; by default they are looked for where they were when it was proposed.
        host: of the loopback interface.
        port: 0 for any that is free.

    Raises:
        UserError: as `opened` and `check_sources`; or the port is taken.
    """
    import uvicorn

    folder = Path(folder)
    if host not in LOOPBACK:
        raise UserError(f"{host} is not this machine's own: a review is held on 127.0.0.1 alone")
    proposals = opened(folder)
    sources = find_sources(folder, media)
    missing = check_sources(proposals, sources)
    if media is not None:
        write_sources(folder, sources)
    listening = socket.socket(socket.AF_INET6 if host == "::1" else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # by now, so that no second server binds the port: only one can listen
    except OSError as error:
        listening.close()
        raise UserError(f"port {port} cannot be had ({error.strerror}): choose another with --port") from error
    address = f"http://{'[::1]' if host == '::1' else host}:{listening.getsockname()[1]}/"
    print(
        f"Review of {folder} at {address} (end it with Ctrl+C; every edit is saved at once)",
        file=sys.stderr,
        flush=True,
    )
    if missing:
        told = f"compilation{'' if len(missing) == 1 else 's'} {', '.join(map(str, missing))}"
        print(f"note: the videos of {told} are not here: name their folder with --media", file=sys.stderr, flush=True)
    if open_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        create_app(folder, sources), log_level="warning", access_log=False, timeout_graceful_shutdown=1
    )
    try:
        uvicorn.Server(config).run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
