"""A codec as a folder (`codec.safetensors`, `codec.yaml`), a public checkpoint opened, JukeBox's VQ-VAE fetched.

The project ships no weights. Nobody published a checksum of this file; so the first fetch records the SHA-256 of what
it got from an address, in the user's data folder and in `<file>.sha256` beside the file, and every later one is held to
it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from d2m_model.codec.hub import PREFIX, HubCodec, open_hub_codec
from d2m_model.codec.jukebox import LICENCE, JukeboxConfig, JukeboxVQVAE
from d2m_model.config import LEVELS, from_mapping
from tiktok_dm.errors import UserError
from tiktok_dm.files import write_atomic

WEIGHTS_FILE = "codec.safetensors"
CONFIG_FILE = "codec.yaml"


def write_codec(codec: JukeboxVQVAE, folder: Path) -> None:
    """Write a level's two files into an existing folder, each appearing only when it is whole."""
    import yaml
    from safetensors.torch import save

    state = {name: value.detach().cpu().contiguous() for name, value in codec.state_dict().items()}
    sizes = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(codec.config).items()
    }
    # One entry of metadata only: the library writes several in an order of its own, and the bytes would differ.
    metadata = {"licence": codec.licence} if codec.licence else {"format": "pt"}
    write_atomic(folder / WEIGHTS_FILE, save(state, metadata=metadata))
    text = yaml.safe_dump({"level": codec.level, "licence": codec.licence, "codec": sizes}, sort_keys=False, width=120)
    write_atomic(folder / CONFIG_FILE, text.encode())


def read_codec_config(path: Path) -> tuple[int, str, JukeboxConfig]:
    """Level, licence sentence and sizes from a folder's `codec.yaml`.

    Raises:
        UserError: a file that cannot be read or does not say what it should.
    """
    import yaml

    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        level, licence, sizes = int(values["level"]), str(values["licence"] or ""), dict(values["codec"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not describe a codec (level, licence, codec).") from error
    sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    return level, licence, from_mapping(JukeboxConfig, sizes, str(path))


def open_codec(path: str | Path, level: int) -> JukeboxVQVAE | HubCodec:
    """A frozen codec of the model, on the CPU: `open_vqvae`, or by `hf:NAME` one of transformers, of any level.

    Raises:
        UserError: as these do.
    """
    return open_hub_codec(str(path)) if is_hub_codec(path) else open_vqvae(path, level)


def is_hub_codec(path: str | Path) -> bool:
    """Whether a codec's place is the name of one of transformers."""
    return str(path).startswith(PREFIX)


def open_vqvae(path: str | Path, level: int) -> JukeboxVQVAE:
    """A frozen level of a VQ-VAE, on the CPU.

    Args:
        path: a folder with `codec.safetensors` and `codec.yaml`, or a file in the public checkpoint's layout.
        level: 0 bottom, 1 middle, 2 top.

    Raises:
        UserError: nothing there, not a codec, or a folder that holds another level.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise UserError(
                f"There is no codec at {path}: give a folder that `d2m codec train` wrote, JukeBox's vqvae.pth.tar "
                "(`d2m codec fetch` gets it), or hf:NAME for one of the Hugging Face hub."
            )
        return JukeboxVQVAE.from_checkpoint(path, level, licence=LICENCE)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (path / name).is_file():
            raise UserError(f"{path} is no codec folder: it lacks {name}.")
    found, licence, config = read_codec_config(path / CONFIG_FILE)
    if found != level:
        raise UserError(f"The codec in {path} is of level {found}; level {level} is needed.")
    return JukeboxVQVAE.from_checkpoint(path / WEIGHTS_FILE, level, config, licence)


def fingerprint(codec: JukeboxVQVAE | HubCodec) -> str:
    """SHA-256 of a codec's sizes, level and weights: what cached latents and codes depend on."""
    if isinstance(codec, HubCodec):
        digest = hashlib.sha256(codec.description.encode())
    else:
        digest = hashlib.sha256(repr((codec.level, dataclasses.astuple(codec.config))).encode())
    for name, value in sorted(codec.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().to(torch.float32).numpy().tobytes())
    return digest.hexdigest()


URL = "https://openaipublic.azureedge.net/jukebox/models/5b/vqvae.pth.tar"
FILE_NAME = "vqvae.pth.tar"
RECORD_NAME = "codec_checksums.json"

# The public file has about 7.2 MiB; something far larger is not it, and must not fill a disk.
_MOST_BYTES = 64 << 20
_BLOCK = 1 << 16
_TIMEOUT_S = 30.0
_ATTEMPTS = 4


class _Broken(Exception):
    """A failure that another attempt may mend."""


def default_path() -> Path:
    """Where the checkpoint goes unless told: the user's cache folder."""
    import platformdirs

    return platformdirs.user_cache_path("tiktok-dm") / "jukebox" / FILE_NAME


def record_path() -> Path:
    """The file that remembers what came from which address: address to SHA-256, JSON."""
    import platformdirs

    return platformdirs.user_data_path("tiktok-dm") / RECORD_NAME


def fetch(
    out: Path | None = None,
    *,
    accept_licence: bool,
    url: str = URL,
    progress: Callable[[int, int], None] | None = None,
    pause_s: float = 1.0,
) -> tuple[Path, str]:
    """Download the checkpoint, or find it there already; its path and SHA-256.

    The file takes its name only when it is whole, has the recorded checksum if there is one, and opens (without
    executing anything in it) as a VQ-VAE with the two levels that the model uses.

    Args:
        out: the file to write; `default_path()` if None.
        accept_licence: the user's word.
        url: where it lies, http or https.
        progress: called with bytes so far and in all (0 if not known).
        pause_s: before the second attempt, doubled before each further one.

    Raises:
        UserError: no word given, an address that does not answer or gives something else than before, a file at `out`
            that is not the recorded one, a place that cannot be written.
    """
    if not accept_licence:
        raise UserError(f"{LICENCE} If that suits you, fetch its weights with --accept-licence.")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UserError(f"{url!r} is no address to fetch from; give one that begins with https:// or http://.")
    out = Path(out) if out is not None else default_path()
    known = _read_record().get(url)
    if out.exists():
        return out, _already(out, known, url)
    unfinished = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
        os.close(handle)
        unfinished = Path(name)
        sha256 = _download(url, unfinished, progress or (lambda done, total: None), pause_s)
        if known is not None and sha256 != known:
            raise UserError(
                f"{url} now gives another file than at the first fetch (SHA-256 {sha256[:12]}..., recorded "
                f"{known[:12]}... in {record_path()}); nothing was kept. Delete that record only if you trust "
                "the new one."
            )
        for level in LEVELS.values():
            try:
                JukeboxVQVAE.from_checkpoint(unfinished, level.codec_level)
            except UserError as error:
                raise UserError(
                    f"What {url} gives is not JukeBox's VQ-VAE ({str(error).replace(str(unfinished), 'it')}); nothing "
                    "was kept."
                ) from error
        # The record first: a file without one could later be replaced by any other.
        _write_record(url, sha256)
        unfinished.chmod(0o644)
        os.replace(unfinished, out)
        write_atomic(_checksum_path(out), f"{sha256}  {out.name}\n".encode())
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}.") from error
    finally:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
    return out, sha256


def _checksum_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.sha256")


def _already(out: Path, known: str | None, url: str) -> str:
    """The checksum of a file that is there, if it is the recorded one."""
    try:
        sha256 = hashlib.sha256(out.read_bytes()).hexdigest()
        beside = _checksum_path(out)
        if known is None and beside.is_file():
            known = beside.read_text(encoding="utf-8").split(" ")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{out} exists already and cannot be read; remove it or give another --out.") from error
    if known is None:
        raise UserError(f"{out} exists already and was not fetched from {url}; remove it or give another --out.")
    if sha256 != known:
        raise UserError(
            f"{out} has been changed since it was fetched (SHA-256 {sha256[:12]}..., recorded {known[:12]}...); remove "
            "it to fetch it again."
        )
    return sha256


def _read_record() -> dict[str, str]:
    path = record_path()
    try:
        record: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"The record of checksums {path} cannot be read; remove it if you can do without.") from error
    if not isinstance(record, dict) or not all(isinstance(value, str) for value in record.values()):
        raise UserError(f"The record of checksums {path} is not what was written; remove it if you can do without.")
    return record


def _write_record(url: str, sha256: str) -> None:
    path = record_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**_read_record(), url: sha256}
    write_atomic(path, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def _download(url: str, path: Path, progress: Callable[[int, int], None], pause_s: float) -> str:
    """Stream into a file, several attempts; the SHA-256 of what came."""
    import tenacity

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(_ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=pause_s, max=30),
        retry=tenacity.retry_if_exception_type(_Broken),
        reraise=True,
    )
    try:
        return retrying(_attempt, url, path, progress)
    except _Broken as error:
        raise UserError(f"{url} could not be fetched in {_ATTEMPTS} attempts ({error}); try again later.") from error


def _attempt(url: str, path: Path, progress: Callable[[int, int], None]) -> str:
    digest, done = hashlib.sha256(), 0
    request = urllib.request.Request(url, headers={"User-Agent": "tiktok-dm"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, path.open("wb") as file:
            if urlsplit(answer.url).scheme not in ("http", "https"):
                raise UserError(f"{url} leads on to {answer.url}, which is neither http nor https.")
            total = int(answer.length or 0)
            while block := answer.read(_BLOCK):
                done += len(block)
                if done > _MOST_BYTES:
                    raise UserError(f"{url} gives more than {_MOST_BYTES >> 20} MiB, which is not JukeBox's VQ-VAE.")
                digest.update(block)
                file.write(block)
                progress(done, total)
    except urllib.error.HTTPError as error:
        if error.code in (408, 425, 429) or error.code >= 500:
            raise _Broken(f"status {error.code}") from error
        raise UserError(f"{url} answers with status {error.code}; give a mirror with --url.") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Broken(str(getattr(error, "reason", "") or error)) from error
    if total and done != total:
        raise _Broken(f"{done} of {total} bytes came")
    return digest.hexdigest()
