"""Submissions: a skeleton, and a check that names everything wrong with one, and follows nothing that it says."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from benchmark_sets import write_wav
from http_server import Page, serve
from submission_sets import FIELDS, TEST, demo, edit, fill, music, submission, tune
from typer.testing import CliRunner

from tiktok_dm.benchmark.baseline_folders import make_baselines
from tiktok_dm.benchmark.leaderboard import check as submission_check
from tiktok_dm.benchmark.leaderboard import files as submission_files
from tiktok_dm.benchmark.leaderboard.card import read_card
from tiktok_dm.benchmark.leaderboard.new import new, seed_folders
from tiktok_dm.benchmark.leaderboard.open_benchmark import OpenBenchmark, identity, open_benchmark
from tiktok_dm.benchmark.leaderboard.submission import CARD
from tiktok_dm.benchmark.leaderboard.tables import MANIFEST, read_manifest
from tiktok_dm.cli.main import app
from tiktok_dm.errors import ProblemsError, UserError
from tiktok_dm.schema import SAMPLE_RATE

EXAMPLE = Path(__file__).resolve().parents[2] / "submissions" / "metronome" / "1.0"
FIRST = next(iter(TEST))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo(tmp_path_factory.mktemp("data") / "demo_dances")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A submission without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    return submission(folder / "tunes" / "1.0", dataset, music(folder / "music"))


@pytest.fixture
def mine(tmp_path: Path, whole: Path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(whole, tmp_path / "tunes" / "1.0")
    return tmp_path / "tunes" / "1.0"


@functools.cache
def opened(dataset: Path) -> OpenBenchmark:
    """The small dataset, whose music is fingerprinted once for all tests."""
    return open_benchmark(dataset, "clips")


def problems(folder: Path, dataset: Path, *, listen: bool = False) -> list[str]:
    known = opened(dataset) if dataset.name == "demo_dances" else None
    checked, benchmark = submission_check.check_files(
        folder, dataset, folder.parents[1] / "work", known, allow_private=True
    )
    if listen:
        checked.problems += submission_check.check_sounds(checked, benchmark)
    return [str(problem) for problem in checked.problems]


def heard(folder: Path, dataset: Path) -> list[str]:
    return problems(folder, dataset, listen=True)


def replaced(folder: Path, name: str, sound: np.ndarray, rate: int = SAMPLE_RATE, **more: str) -> None:
    """Another file in place of seed 0's, with its row."""
    path = folder / "predictions" / "0" / f"{name}.wav"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    samples = soundfile.info(path).frames
    soundfile.write(path, sound, rate, **{"subtype": "PCM_16", **more})
    row = f"{name},0,{before},{SAMPLE_RATE},{samples}"
    after = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(folder / MANIFEST, row, f"{name},0,{after},{rate},{len(sound)}")


# ------------------------------------------------------------------------------------------- new


def test_a_new_card_says_what_is_known_and_the_check_names_the_rest_by_line(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tunes" / "1.0"
    steps = new(folder, dataset, seed_folders(music(tmp_path / "music")))
    assert [step.split()[0] for step in steps] == ["fill", "run"]
    found = problems(folder, dataset)
    lines = (folder / CARD).read_text(encoding="utf-8").splitlines()
    blank = [k + 1 for k, line in enumerate(lines) if "FILL IN" in line]
    assert len(blank) == len(FIELDS)
    assert [int(text.split("line ")[1].split(":")[0]) for text in found] == blank
    assert found[0] == f"tunes/1.0/{CARD}, line {blank[0]}: `authors[0]` is not filled in yet: replace it"
    fill(folder / CARD)
    assert problems(folder, dataset) == []


def test_a_new_manifest_lists_every_file(whole: Path) -> None:
    entries, bad = read_manifest(whole)
    assert bad == []
    assert [(entry.seed, entry.id) for entry in entries] == [(seed, name) for seed in (0, 1, 2) for name in TEST]
    for entry in entries:
        path = whole / "predictions" / str(entry.seed) / f"{entry.id}.wav"
        assert entry.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (entry.sample_rate, entry.samples) == (SAMPLE_RATE, TEST[entry.id])


def test_new_takes_bare_clip_ids_and_leaves_what_is_there_alone(dataset: Path, tmp_path: Path) -> None:
    for name, samples in TEST.items():
        (tmp_path / "music").mkdir(exist_ok=True)
        write_wav(tmp_path / "music" / f"{int(name[5:])}.wav", tune(name, 0, samples))
    folder = tmp_path / "tunes" / "1.0"
    new(folder, dataset, seed_folders(tmp_path / "music"))
    assert sorted(path.stem for path in (folder / "predictions" / "0").iterdir()) == list(TEST)
    assert "standing: secondary" in (folder / CARD).read_text(encoding="utf-8")
    before = (folder / CARD).read_bytes()
    with pytest.raises(UserError, match="exists already"):
        new(folder, dataset, seed_folders(tmp_path / "music"))
    assert (folder / CARD).read_bytes() == before


def test_new_names_what_it_cannot_list_and_leaves_nothing(dataset: Path, tmp_path: Path) -> None:
    played = music(tmp_path / "music", (0,))
    write_wav(played / "0" / "clip_000077.wav", np.zeros(100))
    (played / "0" / f"{FIRST}.wav").rename(played / "0" / f"{FIRST}.flac")
    with pytest.raises(ProblemsError) as told:
        new(tmp_path / "tunes" / "1.0", dataset, {0: played / "0"})
    assert [problem.message.split(":")[0] for problem in told.value.problems] == ["it is no wav file", "clip_000077"]
    assert list((tmp_path).iterdir()) == [played]


# ------------------------------------------------------------------------------------------- the card


def test_a_whole_submission_is_fit(whole: Path, dataset: Path) -> None:
    assert heard(whole, dataset) == []


@pytest.mark.parametrize(
    ("old", "told", "line", "message"),
    [
        ("hardware:", "hardwear:", "hardwear:", "there is no key `hardwear`: the nearest is `hardware`"),
        ("  commit:", "  comit:", "comit:", "there is no key `code.comit`: the nearest is `commit`"),
        ("pretrained:", "scores: {fad: 0.1}\npretrained:", "scores:", "the leaderboard computes every score itself"),
        (
            "pretrained:",
            "beat_hit_d2m: 1\npretrained:",
            "beat_hit_d2m:",
            "`beat_hit_d2m` is not taken from a submission",
        ),
        ("code: MIT", "code: MYT", "code: MYT", "`licence.code` is 'MYT', which is no SPDX licence"),
        ("track: closed", "track: clozed", "track:", "`track` is 'clozed': take closed or open"),
        ("parameters: 1234567", "parameters: many", "parameters:", "`parameters` is 'many' and must be a whole number"),
        ("real_time_factor: 0.25", "real_time_factor: -1", "real_time_factor:", "is -1 and must be at least 0"),
        ('version: "1.0"', "version: 1.0", "version:", "`version` is 1.0 and must be text (put it in quotes"),
        (
            'version: "1.0"',
            'version: "2.0"',
            "version:",
            "`version` is '2.0' and the folder is '1.0': make them the same",
        ),
        ('system: "tunes"', 'system: "../x"', "system:", "`system` is the name of a folder too"),
        ("paper: https://", "paper: javascript://", "paper:", "must be a link that begins with https:// or http://"),
        ("commit: 0123abc", "commit: HEAD", "commit:", "`code.commit` must be a commit's 7 to 64 hexadecimal digits"),
        ("  - A. Author", "", "authors:", "`authors` is empty and must be a list ([] for none)"),
        ("hardware: one", "hardware: '' #", "hardware:", "`hardware` is empty: fill it in"),
        ("seeds: [0, 1, 2]", "seeds: [0, 1]", "seeds:", "`seeds` has 2 and the main track wants at least 3"),
        ("seeds: [0, 1, 2]", "seeds: [0, 1, 2, 1]", "seeds:", "`seeds` names a seed twice"),
        ("standing: main", "standing: deterministic", "seeds:", "a deterministic system has one result"),
        ("split: train}", "split: train}\n    - {name: Hits, split: all}", "track:", "but there is also Hits all"),
        ("hardware: one", "parameters: 1\nhardware: one", "parameters: 1\n", "`parameters` comes twice"),
        ("seeds: [0, 1, 2]", "seeds: [0, 1, 2", "parameters:", "it is not valid YAML"),
        ("seeds: [0, 1, 2]", "seeds: &a [0, 1, 2]\nx: *a", "seeds:", "it uses YAML aliases"),
        ("  split: test", "  split: train", "split: train\n", "`benchmark.split` is 'train': take test"),
        ('  content: "1:', '  content: "', "content:", "`benchmark.content` must be a version and a SHA-256 checksum"),
        ('  content: "1:', '  contents: "1:', "contents:", "no key `benchmark.contents`: the nearest is `content`"),
        ("  folder: predictions", "  folder: ../other", "folder:", "must be a folder beside submission.yaml"),
        ("  folder: predictions", "  url: https://example.org/a.zip", "predictions:\n", "must name one place"),
    ],
)
def test_each_fault_of_a_card_is_one_sentence_with_its_line(
    mine: Path, dataset: Path, old: str, told: str, line: str | None, message: str
) -> None:
    edit(mine / CARD, old, told)
    found = read_card(mine).problems
    right = [problem for problem in found if message in problem.message]
    assert len(right) == 1, [str(problem) for problem in found]
    text = (mine / CARD).read_text(encoding="utf-8").splitlines(keepends=True)
    at = [k + 1 for k, one in enumerate(text) if line is not None and one.strip(" ").startswith(line)]
    assert right[0].row == (at[-1] if at else None)
    assert (line is None) == (not at)
    assert right[0].file == f"tunes/1.0/{CARD}"


def test_all_faults_come_at_once_and_the_command_says_so(mine: Path, dataset: Path) -> None:
    edit(mine / CARD, "track: closed", "track: clozed")
    edit(mine / CARD, "hardware:", "hardwear:")
    (mine / "predictions" / "1" / f"{FIRST}.wav").unlink()
    replaced(mine, FIRST, np.full(TEST[FIRST], np.nan, np.float32), subtype="FLOAT")
    done = CliRunner().invoke(app, ["submit", "check", str(mine), "--dataset", str(dataset)])
    assert done.exit_code == 1
    told = done.output.splitlines()
    wanted = ["`track` is", "`hardware` is missing", "no key `hardwear`", f"no file 1/{FIRST}.wav", "NaN or infinite"]
    assert all(sum(words in line for line in told) == 1 for words in wanted), told
    assert told[-1].endswith("5 problems (14 files of 3 seeds)")


def test_without_its_files_a_folder_is_no_submission(mine: Path, dataset: Path) -> None:
    (mine / CARD).rename(mine / "elsewhere")
    (mine / CARD).symlink_to(mine / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        problems(mine, dataset)
    (mine / CARD).unlink()
    with pytest.raises(UserError, match="tiktok-dm submit new"):
        problems(mine, dataset)


# ------------------------------------------------------------------------------------------- the dataset


def test_other_bytes_of_the_same_content_are_the_same_dataset_and_another_name_is_not(
    mine: Path, dataset: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(dataset, tmp_path / "other")
    manifest = (other / "manifest.json").read_text(encoding="utf-8")
    changed = hashlib.sha256((other / "README.md").read_bytes()).hexdigest()
    (other / "manifest.json").write_text(manifest.replace(changed, "0" * 64), encoding="utf-8")
    assert identity(other) == identity(dataset)  # a card's words don't make another dataset
    data = hashlib.sha256(next((other / "data" / "clips").glob("test*")).read_bytes()).hexdigest()
    (other / "manifest.json").write_text(manifest.replace(data, "0" * 64), encoding="utf-8")
    assert identity(other) != identity(dataset)  # what is kept between runs is exact
    assert problems(mine, other) == []
    (other / "manifest.json").write_text(manifest.replace('"demo"', '"tiktok"'), encoding="utf-8")
    (told,) = problems(mine, other)
    assert told.endswith("`benchmark.dataset` is 'demo', and the dataset given is 'tiktok'")
    (other / "manifest.json").unlink()
    with pytest.raises(UserError, match="no dataset with a manifest"):
        problems(mine, other)


def test_a_card_with_the_older_key_is_told_once_what_replaced_it(mine: Path, dataset: Path) -> None:
    text = (mine / CARD).read_text(encoding="utf-8")
    line = text.split("  content:")[0].count("\n") + 1
    edit(mine / CARD, f'  content: "{opened(dataset).content}"', f"  manifest_sha256: '{'0' * 64}'")
    assert [str(problem) for problem in read_card(mine).problems] == [
        f"tunes/1.0/{CARD}, line {line}: `benchmark.manifest_sha256` was replaced by `benchmark.content`, which holds "
        "for every build with the same content: `tiktok-dm submit new` writes it"
    ]


# ------------------------------------------------------------------------------------------- the manifest


def rows(folder: Path) -> list[list[str]]:
    with open(folder / MANIFEST, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def rewrite(folder: Path, table: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(table)
    (folder / MANIFEST).write_text(text.getvalue(), encoding="utf-8")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, "clip_000099", "line 2, column id: 'clip_000099' is no id of the test split: the nearest is clip_00000"),
        (0, "../../secret", "line 2, column id: '../../secret' is no id of the test split: ids look like clip_000001"),
        (0, "clip_000002", "line 3, column id: clip_000002 of seed 0 is on line 2 already: leave one of them"),
        (1, "7", "line 2, column seed: seed 7 is not among the `seeds` of the card (0, 1, 2)"),
        (1, "x", "line 2, column seed: 'x' is no whole number"),
        (2, "0" * 64, f"line 2, column sha256: 0/{FIRST}.wav has another checksum, "),
        (2, "abc", "line 2, column sha256: 'abc' is no SHA-256 checksum in lower case"),
        (3, "44100", "line 2, column sample_rate: the rate is 44100 Hz and must be 22050"),
        (
            4,
            "100",
            "line 2, column samples: 100 samples are 6.00 s shorter than the reference's 132300, and 0.05 s are",
        ),
    ],
)
def test_each_fault_of_a_row_is_named(mine: Path, dataset: Path, column: int, value: str, message: str) -> None:
    table = rows(mine)
    table[1][column] = value
    rewrite(mine, table)
    found = problems(mine, dataset)
    assert any(text.startswith(f"tunes/1.0/{MANIFEST}, {message}") for text in found), found


def test_missing_rows_and_files_without_rows_are_named_together(mine: Path, dataset: Path) -> None:
    table = rows(mine)
    rewrite(mine, table[:1] + table[3:])
    write_wav(mine / "predictions" / "2" / "more.wav", np.zeros(10))
    first, second = list(TEST)[:2]
    assert problems(mine, dataset) == [
        f"tunes/1.0/{MANIFEST}: seed 0 has no row for 2 of 5 test ids: {first}, {second}",
        f"tunes/1.0/predictions: the manifest has no row for 0/{first}.wav, 0/{second}.wav, 2/more.wav: remove the "
        "files, or add the rows",
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"id,sha256\n", "its first line must be id,seed,sha256,sample_rate,samples"),
        (b"", "its first line must be"),
        (b"id,seed,sha256,sample_rate,samples\na,b\n", "line 2: it has 2 fields and needs 5"),
        (b"\xff\xfe", "it is not UTF-8 text"),
        (b'id,seed,sha256,sample_rate,samples\n"a', "it is not valid CSV"),
    ],
)
def test_a_manifest_that_is_none_is_told_of(mine: Path, raw: bytes, message: str) -> None:
    (mine / MANIFEST).write_bytes(raw)
    entries, (problem,) = read_manifest(mine)
    assert entries == []
    assert message in str(problem)


# ------------------------------------------------------------------------------------------- the sounds


def test_length_may_differ_by_a_twentieth_of_a_second(mine: Path, dataset: Path) -> None:
    names = list(TEST)
    for name, more in zip(names, (-1102, 1102, -1103, 1103), strict=False):
        replaced(mine, name, tune(name, 0, TEST[name] + more))
    found = heard(mine, dataset)
    assert [text.split("column ")[1].split(" are ")[1][:14] for text in found[:2]] == [
        "0.05 s shorter",
        "0.05 s longer ",
    ]
    assert len(found) == 4  # each by its row and by its file
    assert all(f"line {row}," in text for text, row in zip(found, (4, 5, 4, 5), strict=True))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda sound: {"sound": np.stack([sound, sound], 1)}, "it has 2 channels: mix it down to one yourself"),
        (lambda sound: {"sound": np.where(np.arange(len(sound)) == 5, np.inf, sound), "subtype": "FLOAT"}, "1 of its"),
        (lambda sound: {"sound": sound, "rate": 44_100}, "the rate is 44100 Hz and must be 22050"),
        (lambda sound: {"sound": sound, "format": "FLAC"}, "it is FLAC inside: write a wav file"),
    ],
)
def test_each_fault_of_a_file_is_named(mine: Path, dataset: Path, spoil, message: str) -> None:
    replaced(mine, FIRST, **spoil(tune(FIRST, 0, TEST[FIRST])))
    found = heard(mine, dataset)
    assert any(message in text and f"0/{FIRST}.wav" in text for text in found), found


def test_a_file_that_is_no_sound_is_named(mine: Path, dataset: Path) -> None:
    path = mine / "predictions" / "0" / f"{FIRST}.wav"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"no sound at all")
    edit(mine / MANIFEST, before, hashlib.sha256(b"no sound at all").hexdigest())
    (told,) = heard(mine, dataset)
    assert f"column id: 0/{FIRST}.wav: it cannot be read as sound" in told


def test_the_truth_is_found_as_it_is_and_written_anew(mine: Path, dataset: Path) -> None:
    names = list(TEST)
    true = {name: item.sound() for name, item in opened(dataset).reference.items.items()}
    step = np.random.default_rng(0).choice([-1, 0, 1], len(true[names[0]])) / 2**15  # as dither would
    replaced(mine, names[0], true[names[0]] + step, subtype="FLOAT")
    replaced(mine, names[1], true[names[1]], subtype="FLOAT")
    assert [text.split(": ", 1)[1] for text in heard(mine, dataset)] == [
        f"0/{names[0]}.wav: it holds the samples of its own ground truth, written anew",
        f"0/{names[1]}.wav: it holds the very samples of its own ground truth",
    ]


def busy(seconds: float, seed: int) -> np.ndarray:
    """Sound with many spectral peaks, as music has."""
    samples = round(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(seed).standard_normal(samples)
    return np.tanh(tune("clip_000001", seed + 50, samples) + 0.05 * noise).astype(np.float32)


def test_known_music_is_found_by_fingerprint_also_when_it_is_other_and_softer() -> None:
    from tiktok_dm.benchmark.leaderboard.open_benchmark import KnownMusic
    from tiktok_dm.benchmark.reference import Item

    one, other = busy(8, 1), busy(8, 2)
    known = KnownMusic([Item("clip_000001", one), Item("clip_000009", other)], {"clip_000001"})
    own = Item("clip_000001", one)
    assert known.find(0.4 * one, own).startswith("its fingerprint is that of its own ground truth (score ")
    assert known.find(0.5 * other[SAMPLE_RATE:], own).startswith(
        "its fingerprint is that of the dataset's clip clip_000009"
    )
    assert known.find(other, own) == "it holds the very samples of the dataset's clip clip_000009"
    assert known.find(one, Item("clip_000002", other)) == "it holds the very samples of the test music clip_000001"
    assert known.find(busy(8, 3), own) is None
    assert known.find(np.zeros(8 * SAMPLE_RATE, np.float32), own) is None


def test_seeds_that_are_copies_of_one_another_are_named(tmp_path: Path, dataset: Path) -> None:
    played = music(tmp_path / "music", (0, 1))
    shutil.copytree(played / "0", played / "5")
    folder = submission(tmp_path / "tunes" / "1.0", dataset, played)
    (told,) = heard(folder, dataset)
    assert "seeds 0 and 5 have the very same files" in told


def test_silence_is_told_of_and_scored(mine: Path, dataset: Path) -> None:
    replaced(mine, FIRST, np.zeros(TEST[FIRST]))
    checked = submission_check.check(mine, dataset, mine.parents[1] / "work")
    assert checked.problems == []
    assert checked.notes == ["seed 0: 1 of 5 files are silent; they are scored"]


def test_links_are_not_followed(mine: Path, dataset: Path, tmp_path: Path) -> None:
    path = mine / "predictions" / "0" / f"{FIRST}.wav"
    path.rename(tmp_path / "elsewhere.wav")
    path.symlink_to(tmp_path / "elsewhere.wav")
    assert any(f"there is no file 0/{FIRST}.wav" in text for text in problems(mine, dataset))
    (mine / "predictions").rename(tmp_path / "elsewhere")
    (mine / "predictions").symlink_to(tmp_path / "elsewhere")
    (told,) = problems(mine, dataset)
    assert "there is no folder predictions beside it (links don't count)" in told


# ------------------------------------------------------------------------------------------- at a URL


def packed(folder: Path, prefix: str = "") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tarred:
        for path in sorted((folder / "predictions").rglob("*.wav")):
            tarred.add(path, prefix + path.relative_to(folder / "predictions").as_posix())
    return raw.getvalue()


def at(folder: Path, url: str, raw: bytes) -> Path:
    """The submission with its predictions at a URL instead of beside it."""
    shutil.rmtree(folder / "predictions")
    edit(folder / CARD, "  folder: predictions", f"  url: {url}\n  sha256: {hashlib.sha256(raw).hexdigest()}")
    return folder


def test_an_archive_is_fetched_once_and_is_as_good_as_a_folder(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tunes" / "1.0"
    archive = tmp_path / "music.zip"
    new(folder, dataset, seed_folders(music(tmp_path / "music")), archive=archive)
    assert not (folder / "predictions").exists()
    with serve({"/music.zip": Page(archive.read_bytes(), content_type="application/zip")}) as server:
        edit(folder / CARD, "  url: FILL IN            # where you put music.zip", f"  url: {server.url('/music.zip')}")
        fill(folder / CARD)
        assert heard(folder, dataset) == []
        assert heard(folder, dataset) == []
        assert server.asked("/music.zip") == 1


def test_a_tar_under_a_folder_does_too(mine: Path, dataset: Path) -> None:
    raw = packed(mine, "predictions/")
    with serve({"/a.tar.gz": Page(raw)}) as server:
        assert problems(at(mine, server.url("/a.tar.gz"), raw), dataset) == []


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ({"statuses": (404,)}, "the server answers 404"),
        ({"location": "file:///etc/passwd"}, "is not allowed"),
        ({"location": "ftp://127.0.0.1/a"}, "it leads on to ftp://127.0.0.1/a, which is no web address"),
        ({"length": 10_000_000, "body": b"x" * 5000}, "only 5000 of 10000000 bytes came"),
        ({"body": b"another file"}, "and not the one given: it was changed since"),
        ({"endless": True, "length": None, "body": b"x" * 2**20}, "which is more than its manifest can need"),
    ],
)
def test_an_archive_that_cannot_be_had_is_told_of(mine: Path, dataset: Path, page: dict, message: str) -> None:
    raw = packed(mine)
    with serve({"/a": Page(**{"body": raw, **page})}) as server:
        found = problems(at(mine, server.url("/a"), raw), dataset)
    assert len(found) == 1
    assert message in found[0]
    assert f"tunes/1.0/{CARD}, line 3" in found[0]


def hostile(kind: str) -> bytes:
    raw = io.BytesIO()
    if kind == "link":
        with tarfile.open(fileobj=raw, mode="w") as tarred:
            info = tarfile.TarInfo(f"0/{FIRST}.wav")
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tarred.addfile(info)
        return raw.getvalue()
    if kind == "noise":
        return os.urandom(2000)
    name = {"path": "../../evil.wav", "other": "readme.txt"}.get(kind, f"0/{FIRST}.wav")
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, bytes(4_000_000) if kind == "bomb" else b"x")
        if kind == "twice":
            zipped.writestr(f"predictions/0/{FIRST}.wav", b"y")
    return raw.getvalue()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("path", "it holds ../../evil.wav, for which the manifest has no row"),
        ("other", "it holds readme.txt, for which the manifest has no row"),
        ("link", "which is no plain file"),
        ("bomb", f"0/{FIRST}.wav has 4000000 bytes, which is more than it can need"),
        ("twice", f"it holds 0/{FIRST}.wav twice"),
        ("noise", "it cannot be unpacked"),
    ],
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(mine: Path, dataset: Path, kind: str, message: str) -> None:
    raw = hostile(kind)
    with serve({"/a": Page(raw)}) as server:
        found = problems(at(mine, server.url("/a"), raw), dataset)
    assert len(found) == 1
    assert message in found[0]
    assert list((mine.parents[1] / "work" / "unpacked").iterdir()) == []
    assert not list(mine.parents[1].rglob("*evil*"))


# ------------------------------------------------------------------------------------------- the shipped example


@pytest.fixture
def example(tmp_path: Path, dataset: Path) -> Path:
    """The shipped example with rows for the small dataset's ids; its card is as shipped."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "metronome" / "1.0")
    table = [rows(folder)[0]]
    table += [[name, str(seed), "0" * 64, "22050", "1"] for seed in range(3) for name in TEST]
    rewrite(folder, table)
    return folder


def test_the_shipped_example_is_in_order() -> None:
    card = read_card(EXAMPLE)
    assert card.problems == []
    entries, bad = read_manifest(EXAMPLE)
    assert bad == []
    assert {entry.seed for entry in entries} == {0, 1, 2}
    assert sum(path.stat().st_size for path in EXAMPLE.rglob("*") if path.is_file()) < 10_000


def test_the_shipped_example_is_made_again_for_the_dataset_at_hand(
    example: Path, dataset: Path, tmp_path: Path
) -> None:
    checked = submission_check.check(example, dataset, tmp_path / "work")
    assert checked.problems == []
    assert "for which its predictions are made again" in checked.notes[0]
    assert checked.notes[1] == "predictions were made again: 0 of 15 are the manifest's, byte for byte"
    make_baselines(dataset, tmp_path / "baselines", seed=2)
    for name in TEST:
        theirs = (tmp_path / "baselines" / "metronome_true_tempo" / f"{name}.wav").read_bytes()
        assert checked.files.paths[2][name].read_bytes() == theirs


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf OUT",
        "tiktok-dm baselines DATASET --out /etc --seed SEED",
        "tiktok-dm baselines DATASET --out OUT --seed SEED --codec os:system:id",
        "tiktok-dm baselines DATASET --out OUT; id",
        "tiktok-dm baselines DATASET --out 'OUT",
    ],
)
def test_no_other_command_of_a_submission_is_run(example: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(example / CARD, "tiktok-dm baselines DATASET --out OUT --seed SEED", f'"{command}"')
    (problem,) = read_card(example).problems
    assert problem.message.startswith("`predictions`")


def test_what_is_made_again_must_be_a_baseline(example: Path, dataset: Path, tmp_path: Path) -> None:
    edit(example / CARD, "baseline: metronome_true_tempo", "baseline: metronom")
    (problem,) = read_card(example).problems
    assert "take one of ground_truth, " in problem.message
    edit(example / CARD, "baseline: metronom", "baseline: ground_truth")
    found = heard(example, dataset)
    assert all("its own ground truth" in text for text in found[:15])
    assert "very same files" in found[-1]


def test_nothing_much_longer_than_its_reference_is_unpacked(whole: Path, dataset: Path) -> None:
    assert opened(dataset).samples == TEST
    assert submission_files._largest(read_manifest(whole)[0][0]) == TEST[FIRST] * 8 + 65_536


@pytest.fixture(scope="module")
def songs() -> list[np.ndarray]:
    """Eight seconds of six songs of one generator, past their beginnings; the last three are in no dataset."""
    import soxr

    from tiktok_dm.synthetic.music import render_song

    part = slice(8 * SAMPLE_RATE, 16 * SAMPLE_RATE)
    return [soxr.resample(render_song(17, k), 44_100, SAMPLE_RATE)[part].astype(np.float32) for k in range(6)]


def test_edited_music_is_found_and_other_music_of_the_kind_is_not(songs: list[np.ndarray]) -> None:
    import librosa
    import soxr

    from tiktok_dm.benchmark.leaderboard.open_benchmark import KnownMusic
    from tiktok_dm.benchmark.reference import Item

    items = {f"clip_{k:06}": Item(f"clip_{k:06}", song, song_id=k) for k, song in enumerate(songs[:3])}
    known = KnownMusic(items.values(), {"clip_000000"})
    rng = np.random.default_rng(0)
    edits = {
        "0.5 semitones higher": librosa.effects.pitch_shift(songs[1], sr=SAMPLE_RATE, n_steps=0.5),
        "2.0 semitones lower": librosa.effects.pitch_shift(songs[1], sr=SAMPLE_RATE, n_steps=-2),
        "played 1.10 times": soxr.resample(songs[1], 1.1 * SAMPLE_RATE, SAMPLE_RATE),
        "played 0.90 times as fast at the same pitch": librosa.effects.time_stretch(songs[1], rate=0.9),
        "at the same speed": songs[1] + songs[1].std() * rng.standard_normal(len(songs[1])).astype(np.float32),
        "backwards": songs[1][::-1],
    }
    for words, sound in edits.items():
        told = known.find_edited({"clip_000000": sound.astype(np.float32)}, items)
        assert told["clip_000000"].startswith("its music is that of the dataset's clip clip_000001 ("), words
        assert words in told["clip_000000"]
    fresh = {name: song for name, song in zip(items, songs[3:], strict=True)}
    assert known.find_edited(fresh, items) == {}
    assert known.find_edited({"clip_000000": np.zeros(SAMPLE_RATE, np.float32)}, items) == {}


def test_edited_segments_are_found_together(songs: list[np.ndarray]) -> None:
    import librosa

    from tiktok_dm.benchmark.leaderboard.open_benchmark import KnownMusic
    from tiktok_dm.benchmark.reference import Item

    def segments(song: np.ndarray) -> list[np.ndarray]:
        return list(song[: 8 * SAMPLE_RATE].reshape(4, -1))

    items = {
        f"{k}_{n}": Item(f"{k}_{n}", part, song_id=k, clip_id=k)
        for k, song in enumerate(songs[:3])
        for n, part in enumerate(segments(song))
    }
    known = KnownMusic(items.values(), set(items))
    moved = [librosa.effects.pitch_shift(part, sr=SAMPLE_RATE, n_steps=1) for part in segments(songs[0])]
    told = known.find_edited({f"0_{n}": part for n, part in enumerate(moved)}, items)
    assert sorted(told) == ["0_0", "0_1", "0_2", "0_3"]
    assert "its own ground truth" in told["0_0"]
    assert known.find_edited({f"0_{n}": part for n, part in enumerate(segments(songs[4]))}, items) == {}
