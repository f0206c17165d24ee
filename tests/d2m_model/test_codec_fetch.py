"""Fetching against a small server on loopback; the public address is never asked."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from http_server import Page, Server, serve
from typer.testing import CliRunner

from d2m_model.cli.codec import app
from d2m_model.codec import files as fetching
from d2m_model.codec.files import fetch, open_codec, record_path
from d2m_model.codec.jukebox import LICENCE, JukeboxVQVAE
from tiktok_dm.errors import UserError

PATH = "/vqvae.pth.tar"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve({}) as server:
        yield server


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_data_path", lambda *a, **k: tmp_path / "data")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *a, **k: tmp_path / "cache")


def checkpoint(seed: int = 0) -> bytes:
    """A random state of full size in the public layout."""
    torch.manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for level in range(3):
        state |= JukeboxVQVAE(level).state_dict()
        for running, shape in (("k_sum", (2048, 64)), ("k_elem", (2048,))):
            state[f"bottleneck.level_blocks.{level}.{running}"] = torch.zeros(shape)
    file = io.BytesIO()
    torch.save({"model": state, "step": 1}, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def public() -> bytes:
    return checkpoint()


@pytest.fixture(scope="module")
def other() -> bytes:
    return checkpoint(1)


def test_without_the_word_nothing_is_asked_of_anyone(server: Server, tmp_path: Path):
    out = tmp_path / "vqvae.pth.tar"
    with pytest.raises(UserError) as caught:
        fetch(out, accept_licence=False, url=server.url(PATH))
    assert str(caught.value) == f"{LICENCE} If that suits you, fetch its weights with --accept-licence."
    result = CliRunner().invoke(app, ["fetch", "--out", str(out), "--url", server.url(PATH)])
    assert result.exit_code == 1
    assert isinstance(result.exception, UserError)
    assert server.log == []
    assert list(tmp_path.iterdir()) == []


def test_the_first_fetch_records_what_it_got(server: Server, tmp_path: Path, public: bytes):
    server.pages[PATH] = Page(public)
    out = tmp_path / "weights" / "vqvae.pth.tar"
    told: list[tuple[int, int]] = []
    path, sha256 = fetch(out, accept_licence=True, url=server.url(PATH), progress=lambda *now: told.append(now))
    assert path == out
    assert out.read_bytes() == public
    assert sha256 == hashlib.sha256(public).hexdigest()
    assert (out.parent / "vqvae.pth.tar.sha256").read_text() == f"{sha256}  vqvae.pth.tar\n"
    assert f'"{server.url(PATH)}": "{sha256}"' in record_path().read_text()
    assert told[-1] == (len(public), len(public))
    assert sorted(p.name for p in out.parent.iterdir()) == ["vqvae.pth.tar", "vqvae.pth.tar.sha256"]
    assert open_codec(out, 2).hop == 128
    # Again: it is there, so nobody is asked.
    assert fetch(out, accept_licence=True, url=server.url(PATH)) == (out, sha256)
    assert len(server.log) == 1


def test_the_default_place_is_the_users_cache(server: Server, tmp_path: Path, public: bytes):
    server.pages[PATH] = Page(public)
    result = CliRunner().invoke(app, ["fetch", "--accept-licence", "--url", server.url(PATH)])
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "cache" / "jukebox" / "vqvae.pth.tar").read_bytes() == public
    assert LICENCE in result.stdout
    megabytes = f"{len(public) / 1e6:.1f}"
    assert f"{megabytes} of {megabytes} MB" in result.stderr


def test_other_bytes_from_the_same_address_are_refused(server: Server, tmp_path: Path, public: bytes, other: bytes):
    server.pages[PATH] = Page(public)
    first, second = tmp_path / "first.tar", tmp_path / "second.tar"
    fetch(first, accept_licence=True, url=server.url(PATH))
    record = record_path().read_text()
    server.pages[PATH] = Page(other)
    with pytest.raises(UserError, match="now gives another file than at the first fetch"):
        fetch(second, accept_licence=True, url=server.url(PATH))
    assert not second.exists()
    assert first.read_bytes() == public
    assert record_path().read_text() == record
    # Another address may give another file.
    server.pages["/mirror"] = Page(other)
    fetch(second, accept_licence=True, url=server.url("/mirror"))
    assert second.read_bytes() == other


def test_a_file_that_is_there_is_never_overwritten(server: Server, tmp_path: Path, public: bytes):
    server.pages[PATH] = Page(public)
    out = tmp_path / "vqvae.pth.tar"
    out.write_bytes(b"mine")
    with pytest.raises(UserError, match="was not fetched from"):
        fetch(out, accept_licence=True, url=server.url(PATH))
    assert out.read_bytes() == b"mine"
    out.unlink()
    fetch(out, accept_licence=True, url=server.url(PATH))
    out.write_bytes(b"changed")
    with pytest.raises(UserError, match="has been changed since it was fetched"):
        fetch(out, accept_licence=True, url=server.url(PATH))
    assert out.read_bytes() == b"changed"


def test_without_the_users_record_the_one_beside_the_file_counts(server: Server, tmp_path: Path, public: bytes):
    server.pages[PATH] = Page(public)
    out = tmp_path / "vqvae.pth.tar"
    _, sha256 = fetch(out, accept_licence=True, url=server.url(PATH))
    record_path().unlink()
    assert fetch(out, accept_licence=True, url=server.url(PATH)) == (out, sha256)


@pytest.mark.parametrize("body", [b"<html>not found</html>", b"", "half a model", "other sizes"])
def test_what_is_no_vqvae_is_not_kept(server: Server, tmp_path: Path, body: bytes | str):
    if body == "other sizes":
        file = io.BytesIO()
        torch.save({"model": JukeboxVQVAE(2).state_dict()}, file)  # level 1 is missing
        body = file.getvalue()
    elif isinstance(body, str):
        body = checkpoint()[:100_000]
    server.pages[PATH] = Page(body)
    with pytest.raises(UserError, match=r"is not JukeBox's VQ-VAE .*nothing was kept") as caught:
        fetch(tmp_path / "vqvae.pth.tar", accept_licence=True, url=server.url(PATH))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_passing_failure_is_tried_again(server: Server, tmp_path: Path, public: bytes):
    server.pages[PATH] = Page(public, statuses=(503, 200), send=(None, 1000, None))
    out, _ = fetch(tmp_path / "vqvae.pth.tar", accept_licence=True, url=server.url(PATH), pause_s=0.0)
    assert len(server.log) == 3  # busy; broken off; whole
    assert out.read_bytes() == public


def test_a_lasting_failure_is_one_sentence(server: Server, tmp_path: Path):
    out = tmp_path / "vqvae.pth.tar"
    with pytest.raises(UserError, match=r"answers with status 404; give a mirror with --url\."):
        fetch(out, accept_licence=True, url=server.url(PATH))
    assert len(server.log) == 1
    server.pages[PATH] = Page(statuses=(500,))
    with pytest.raises(UserError, match=r"could not be fetched in 4 attempts \(status 500\)"):
        fetch(out, accept_licence=True, url=server.url(PATH), pause_s=0.0)
    for url in ("file:///etc/passwd", "vqvae.pth.tar", "ftp://host/file"):
        with pytest.raises(UserError, match="is no address to fetch from"):
            fetch(out, accept_licence=True, url=url)
    assert list(tmp_path.iterdir()) == []


def test_far_too_much_is_broken_off(server: Server, tmp_path: Path, public: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetching, "_MOST_BYTES", 1 << 20)
    server.pages[PATH] = Page(public)
    with pytest.raises(UserError, match="gives more than 1 MiB"):
        fetch(tmp_path / "vqvae.pth.tar", accept_licence=True, url=server.url(PATH))
    assert list(tmp_path.iterdir()) == []
