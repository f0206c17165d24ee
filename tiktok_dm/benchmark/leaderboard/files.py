"""The predictions of a submission as files by seed and id: from its folder, out of an archive at a URL, or made again.

Nothing of a submission is trusted: no link is followed, no path of an archive is used, nothing larger than its manifest
says is unpacked, and no command of its own is run. Not for what the files hold (`submission_check`).
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tiktok_dm.benchmark.leaderboard.card import CardFile
from tiktok_dm.benchmark.leaderboard.open_benchmark import OpenBenchmark
from tiktok_dm.benchmark.leaderboard.submission import FOLDER
from tiktok_dm.benchmark.leaderboard.tables import MANIFEST, Entry
from tiktok_dm.errors import Problem, UserError, is_no_room
from tiktok_dm.files import no_room, sha256_file
from tiktok_dm.network import NotPublic, public_only
from tiktok_dm.runtime.sandbox import OverLimit, run_limited
from tiktok_dm.runtime.store import content_key
from tiktok_dm.unpack import Unusable, unpack

_HEADER = 65_536  # bytes of a wav file beside its samples
_WIDEST = 8  # bytes a sample
_WAIT_S = 30.0
_DEADLINE_S = 3600.0
_BLOCK = 1 << 20
_MANY = 10
_MEMORY_MB = 256  # for unpacking
_UNPACK_S = 300.0

Wanted = dict[tuple[int, str], Entry]


@dataclass
class Files:
    """What was found.

    Args:
        paths: by seed and id.
        digests: SHA-256 of each.
        problems: everything wrong with where they are.
        notes: what to know about them, a sentence each.
    """

    paths: dict[int, dict[str, Path]] = field(default_factory=dict)
    digests: dict[int, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def obtain(
    card: CardFile, entries: Sequence[Entry], benchmark: OpenBenchmark, work: Path, allow_private: bool = False
) -> Files:
    """The files that the manifest names, with their checksums held against it.

    Args:
        card: the submission's.
        entries: rows of its manifest, each (seed, id) at most once; an id that is none of the benchmark's is left
            alone, and its path never looked at.
        benchmark: predictions that are made again are made for it.
        work: folder for archives and what is made again.
        allow_private: fetch from addresses that are not public, too.

    Raises:
        DiskFull: no room in `work`.
    """
    # A manifest may claim any length: no file is let in that is much longer than its reference.
    wanted = {
        (entry.seed, entry.id): replace(entry, samples=min(entry.samples, 2 * benchmark.samples[entry.id]))
        for entry in entries
        if entry.id in benchmark.samples
    }
    files = Files()
    submission = card.submission
    if submission is None or submission.predictions.folder is not None:
        name = FOLDER if submission is None else submission.predictions.folder or FOLDER
        root: Path | None = _beside(card, name, files)
    elif submission.predictions.url is not None:
        sha256 = submission.predictions.sha256 or ""
        root = _fetched(card, submission.predictions.url, sha256, wanted, work, files, allow_private)
    else:
        root = _made_again(card, benchmark, work)
    if root is None:
        return files
    manifest = f"{card.label}/{MANIFEST}"
    again = submission is not None and submission.is_baseline
    same = 0
    for (seed, name), entry in sorted(wanted.items()):
        path = root / str(seed) / f"{name}.wav"
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            message = f"there is no file {seed}/{name}.wav among the predictions"
            files.problems.append(Problem(manifest, entry.line, "id", message))
            continue
        digest = sha256_file(path)
        same += digest == entry.sha256
        if digest != entry.sha256 and not again:
            message = f"{seed}/{name}.wav has another checksum, {digest}: the file or the manifest was changed since"
            files.problems.append(Problem(manifest, entry.line, "sha256", message))
        files.paths.setdefault(seed, {})[name] = path
        files.digests.setdefault(seed, {})[name] = digest
    if again:
        files.notes.append(f"predictions were made again: {same} of {len(wanted)} are the manifest's, byte for byte")
    elif submission is None or submission.predictions.folder is not None:
        _extra(card, root, wanted, files)
    return files


# ------------------------------------------------------------------------------------------- beside the card


def _beside(card: CardFile, name: str, files: Files) -> Path | None:
    root = card.folder / name
    links = [root, *root.parents][: len(Path(name).parts)]
    if any(path.is_symlink() for path in links) or not root.is_dir():
        message = f"there is no folder {name} beside it (links don't count): put the predictions there, as SEED/ID.wav"
        files.problems.append(card.problem(("predictions", "folder"), message))
        return None
    return root


def _extra(card: CardFile, root: Path, wanted: Wanted, files: Files) -> None:
    known = {f"{seed}/{name}.wav" for seed, name in wanted}
    found = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    extra = [name for name in found if name not in known]
    if extra:
        shown = ", ".join(extra[:_MANY]) + (f" and {len(extra) - _MANY} more" if len(extra) > _MANY else "")
        message = f"the manifest has no row for {shown}: remove the files, or add the rows"
        files.problems.append(Problem(f"{card.label}/{root.name}", None, None, message))


# ------------------------------------------------------------------------------------------- at a URL


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Redirects lead to http and https only, never to files."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it leads on to {newurl[:100]}, which is no web address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetched(
    card: CardFile, url: str, sha256: str, wanted: Wanted, work: Path, files: Files, allow_private: bool
) -> Path | None:
    unpacked = work / "unpacked" / f"{sha256}-{content_key('unpacked', 1, sorted(map(str, wanted)), {})}"
    if unpacked.is_dir():
        return unpacked
    most = sum(_largest(entry) for entry in wanted.values()) + _BLOCK
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".unpack-", dir=unpacked.parent))
    names = {f"{seed}/{name}.wav": _largest(entry) for (seed, name), entry in wanted.items()}
    try:
        with public_only(allow_private):
            archive = _downloaded(url, sha256, most, work / "archives")
        run_limited(unpack, archive, names, folder, FOLDER, memory_mb=_MEMORY_MB, seconds=_UNPACK_S)
        folder.chmod(0o755)
        if not unpacked.exists():
            folder.replace(unpacked)
    except (_Unusable, Unusable, OverLimit) as error:
        place = error.field if isinstance(error, _Unusable) else "url"
        files.problems.append(card.problem(("predictions", place), f"{url}: {error}"))
        return None
    except OSError as error:
        if is_no_room(error):
            raise no_room(unpacked) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return unpacked


class _Unusable(Exception):
    """An archive that cannot be used, in words; `field` of `predictions` is to blame."""

    def __init__(self, message: str, field: str = "url") -> None:
        super().__init__(message)
        self.field = field


def _downloaded(url: str, sha256: str, most: int, folder: Path) -> Path:
    """The archive, whose checksum is what the submission says; fetched once."""
    path = folder / sha256
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    opener = urllib.request.build_opener(_OnlyWeb)
    request = urllib.request.Request(url, headers={"User-Agent": "tiktok-dm"})
    deadline = time.monotonic() + _DEADLINE_S
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-") as part:
        try:
            with opener.open(request, timeout=_WAIT_S) as answer:
                while block := answer.read1(_BLOCK):
                    size += len(block)
                    if size > most:
                        raise _Unusable(f"it is larger than {most:,} bytes, which is more than its manifest can need")
                    if time.monotonic() > deadline:
                        raise _Unusable(f"it was not there after {_DEADLINE_S:.0f} s")
                    digest.update(block)
                    part.write(block)
                length = answer.headers.get("Content-Length")
        except urllib.error.HTTPError as error:
            raise _Unusable(
                f"the server answers {error.code} ({error.reason}): give a link to the file itself"
            ) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            if is_no_room(error):
                raise
            if isinstance(getattr(error, "reason", error), NotPublic):
                raise _Unusable("the link is refused: it leads to an address that is not public") from None
            raise _Unusable(
                f"it cannot be fetched ({getattr(error, 'reason', None) or error}): try again later"
            ) from error
        if length is not None and length.isdigit() and size < int(length):
            raise _Unusable(f"only {size} of {length} bytes came: try again")
        if digest.hexdigest() != sha256:
            raise _Unusable(
                f"its checksum is {digest.hexdigest()} and not the one given: it was changed since", "sha256"
            )
        part.flush()
        shutil.copyfile(part.name, folder / f".{sha256}.part")
    (folder / f".{sha256}.part").replace(path)
    return path


def _largest(entry: Entry) -> int:
    return entry.samples * _WIDEST + _HEADER


# ------------------------------------------------------------------------------------------- made again


def _made_again(card: CardFile, benchmark: OpenBenchmark, work: Path) -> Path:
    """What `tiktok-dm baselines` writes for the benchmark, one seed after the other."""
    from tiktok_dm.benchmark import baselines
    from tiktok_dm.benchmark.codec_round_trip import open_codec
    from tiktok_dm.media import encode_audio
    from tiktok_dm.schema import SAMPLE_RATE

    submission = card.submission
    assert submission is not None
    assert submission.predictions.baseline is not None
    name, codec, seeds = submission.predictions.baseline, submission.predictions.codec, submission.seeds
    parameters = {"baseline": name, "codec": codec, "seeds": seeds, "config": benchmark.config}
    key = content_key("generated", baselines.VERSION, parameters, {"dataset": benchmark.identity.sha256})
    out = work / "generated" / key
    if out.is_dir():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".made-", dir=out.parent))
    items = list(benchmark.reference.items.values())
    try:
        for seed in seeds:
            (folder / str(seed)).mkdir()
            all_of_them = baselines.baselines(items, benchmark.training, codec=open_codec(codec), seed=seed)
            chosen = next((one for one in all_of_them if one.name == name), None)
            if chosen is None:
                raise UserError(f"the baseline {name} cannot be made of this dataset (without train split, or codec)")
            for item in items:
                wav = encode_audio(chosen.make(item), SAMPLE_RATE, "wav")
                (folder / str(seed) / f"{item.id}.wav").write_bytes(wav)
        folder.chmod(0o755)
        folder.replace(out)
    except OSError as error:
        if is_no_room(error):
            raise no_room(out) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out
