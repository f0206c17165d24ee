"""Fetching the authors' archives from a Google Drive on loopback, and unpacking archives that mean harm."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from google_drive import Drive
from preprocessed_factory import write_many
from typer.testing import CliRunner

from tiktok_dm.cli.main import app
from tiktok_dm.errors import DiskFull, UserError
from tiktok_dm.importers import archive_files as preprocessed_fetch
from tiktok_dm.importers.archive_files import ARCHIVES, fetch_archives, unpack
from tiktok_dm.importers.archives import _expected


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return stream.getvalue()


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, bytes]]:
    """The three archives of the first twelve released segments, each packed in another way."""
    root = tmp_path_factory.mktemp("archives") / "tiktok"
    write_many(root, [segment.name for segment in _expected(None)[:12]])
    files = {
        folder: {f"tiktok/{folder}/{path.name}": path.read_bytes() for path in sorted((root / folder).iterdir())}
        for folder in ("motion_s2", "video_s2", "audio_s2")
    }
    loose = {name.rpartition("/")[2]: data for name, data in files["video_s2"].items()}  # without a top folder
    return {
        ARCHIVES["motion"]: ("motion_s2.zip", zipped(files["motion_s2"])),
        ARCHIVES["visual"]: ("features.tar.gz", tarred(loose)),
        ARCHIVES["audio"]: ("audio_s2.tar", tarred(files["audio_s2"], "w")),
    }


def share(drive: Drive, archives: dict[str, tuple[str, bytes]]) -> None:
    for file_id, (name, body) in archives.items():
        drive.share(file_id, name, body)


def test_the_command_fetches_unpacks_and_imports_and_asks_once(
    tmp_path: Path, drive: Drive, archives: dict[str, tuple[str, bytes]]
) -> None:
    share(drive, archives)
    words = ["import", "archives", "--fetch", "--out", str(tmp_path / "out"), "--json", "--allow-missing"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["segments"] == 12
    assert told["report"]["visual"]
    assert told["report"]["extra"] == told["report"]["broken"] == []
    assert [file_id for file_id, _ in drive.asked] == list(ARCHIVES.values())
    download = tmp_path / "out.download"
    name, body = archives[ARCHIVES["motion"]]
    assert (download / "motion" / name).read_bytes() == body
    entry = json.loads((download / "motion.json").read_text())
    assert (entry["id"], entry["file"], entry["bytes"]) == (ARCHIVES["motion"], name, len(body))
    # Again: nothing is asked for, nothing is written.
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = CliRunner().invoke(app, words)
    assert json.loads(again.stdout)["unchanged"]
    assert len(drive.asked) == 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_a_download_that_broke_off_goes_on_where_it_was(
    tmp_path: Path, drive: Drive, archives: dict[str, tuple[str, bytes]]
) -> None:
    share(drive, archives)
    name, body = archives[ARCHIVES["audio"]]
    assert len(body) > 2**20  # gdown writes blocks of half of that
    drive.share(ARCHIVES["audio"], name, body, send=(700_000, None))
    with pytest.raises(UserError, match=r"the download broke off .*: open https://drive.google.com/file/d/.*/audio,"):
        fetch_archives(tmp_path, retries=0, timeout_s=5)
    assert (tmp_path / "unpacked" / "motion_s2").is_dir()
    (part,) = (tmp_path / "audio").iterdir()
    assert part.suffix == ".part"
    assert part.stat().st_size == 2**19
    root = fetch_archives(tmp_path, retries=0, timeout_s=5)
    asked = [where for file_id, where in drive.asked if file_id == ARCHIVES["audio"]]
    assert asked[-1] == f"bytes={2**19}-"
    assert [path.name for path in (tmp_path / "audio").iterdir()] == [name]
    assert (tmp_path / "audio" / name).read_bytes() == body
    assert len(list((root / "audio_s2").rglob("*.wav"))) == 12


def test_an_archive_saved_by_hand_is_taken_and_one_that_changed_is_not(
    tmp_path: Path, drive: Drive, archives: dict[str, tuple[str, bytes]]
) -> None:
    share(drive, archives)
    (tmp_path / "motion").mkdir()
    by_hand = tmp_path / "motion" / "download (1).zip"
    by_hand.write_bytes(archives[ARCHIVES["motion"]][1])
    fetch_archives(tmp_path)
    assert ARCHIVES["motion"] not in [file_id for file_id, _ in drive.asked]
    by_hand.write_bytes(by_hand.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is no longer the file that was fetched .*: remove it and run the same"):
        fetch_archives(tmp_path)
    by_hand.unlink()
    fetch_archives(tmp_path)
    assert drive.asked[-1][0] == ARCHIVES["motion"]


def test_what_is_no_archive_or_a_damaged_one_is_told(
    tmp_path: Path, drive: Drive, archives: dict[str, tuple[str, bytes]]
) -> None:
    share(drive, {**archives, ARCHIVES["audio"]: ("audio.rar", b"Rar!\x1a\x07")})
    with pytest.raises(UserError, match=r"audio\.rar is neither a zip nor a tar archive"):
        fetch_archives(tmp_path / "rar")
    body = bytearray(archives[ARCHIVES["motion"]][1])
    body[2_000] ^= 0xFF
    share(drive, {**archives, ARCHIVES["motion"]: ("motion_s2.zip", bytes(body))})
    with pytest.raises(UserError, match=r"motion_s2\.zip is damaged \(.*\): remove it, then run the same command"):
        fetch_archives(tmp_path / "damaged")
    assert not list((tmp_path / "damaged" / "unpacked").iterdir())
    drive.share("0123456789abcdef", "gone", b"", statuses=(404,))
    with pytest.raises(UserError, match="no longer there"):
        fetch_archives(tmp_path / "gone", ids={"motion": "0123456789abcdef"}, retries=0)


@pytest.mark.parametrize("name", ["../out.npy", "a/../../out.npy", "/tmp/out.npy", "..\\out.npy", "C:\\out.npy"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_lead_out_are_refused_and_nothing_is_written(tmp_path: Path, name: str, pack) -> None:
    archive = tmp_path / "in" / "a"
    archive.parent.mkdir()
    archive.write_bytes(pack({"first.npy": b"1", name: b"2"}))
    (tmp_path / "place").mkdir()
    with pytest.raises(UserError, match="which leads out of its folder"):
        unpack(archive, tmp_path / "place")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "in", "place"]


def test_links_are_not_written(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tarred({"one.npy": b"1"}, "w", {"link": "/etc", "link/passwd": "x"}))
    (tmp_path / "place").mkdir()
    assert unpack(archive, tmp_path / "place") == 1
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["one.npy"]
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(info, "/etc")
        opened.writestr("two.npy", b"2")
    (tmp_path / "other").mkdir()
    assert unpack(tmp_path / "a.zip", tmp_path / "other") == 1
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["two.npy"]


def test_far_too_much_is_refused_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "bomb.zip"
    archive.write_bytes(zipped({"zeros.npy": bytes(1_000_000)}))
    (tmp_path / "place").mkdir()
    monkeypatch.setattr(preprocessed_fetch, "MAX_BYTES", 999_999)
    with pytest.raises(UserError, match=r"unpacks to 1 files of 0\.0 GB, far more than the published data"):
        unpack(archive, tmp_path / "place")
    monkeypatch.setattr(preprocessed_fetch, "MAX_FILES", 0)
    with pytest.raises(UserError, match="far more than the published data"):
        unpack(archive, tmp_path / "place")
    assert not list((tmp_path / "place").iterdir())


def test_a_full_disk_while_unpacking(tmp_path: Path, drive: Drive, archives, monkeypatch: pytest.MonkeyPatch) -> None:
    share(drive, archives)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(preprocessed_fetch, "unpack", full)
        with pytest.raises(DiskFull, match="no room left to write motion_s2 in"):
            fetch_archives(tmp_path)
    assert not list((tmp_path / "unpacked").iterdir())
    assert (fetch_archives(tmp_path) / "motion_s2").is_dir()
    assert len(drive.asked) == 3, "what was fetched was kept"
