"""Content: the same whatever bytes hold it, another in each scored aspect, and known again in another build."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import soxr
from benchmark_sets import CLIPS
from hypothesis import given
from hypothesis import strategies as st
from submission_sets import TEST, demo, edit, music, submission
from typer.testing import CliRunner

from tiktok_dm.benchmark.codec_round_trip import AAC
from tiktok_dm.benchmark.leaderboard import check as submission_check
from tiktok_dm.benchmark.leaderboard import content
from tiktok_dm.benchmark.leaderboard.content import (
    COLUMNS,
    REFERENCE,
    Difference,
    content_identity,
    describe,
    differences,
    instants,
    pose_frames,
    read_sketches,
    shipped_reference,
    sketch,
    sketches_text,
    sound_error,
)
from tiktok_dm.benchmark.leaderboard.open_benchmark import OpenBenchmark, contents, open_benchmark
from tiktok_dm.benchmark.leaderboard.submission import CARD
from tiktok_dm.benchmark.reference import Item, Reference, read_dataset
from tiktok_dm.cli.main import app
from tiktok_dm.errors import UserError
from tiktok_dm.schema import POSE_FPS, SAMPLE_RATE, SEGMENT_POSES, SEGMENT_SAMPLES
from tiktok_dm.synthetic.performance import clip_truth
from tiktok_dm.synthetic.plan import DemoParams

FIRST, SECOND = sorted(TEST)[:2]
OTHER = "1:" + "0" * 64


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo(tmp_path_factory.mktemp("data") / "demo_dances")


@pytest.fixture(scope="module")
def opened(dataset: Path) -> OpenBenchmark:
    return open_benchmark(dataset, "clips")


# ------------------------------------------------------------------------------------------- the identity, of files


def rewritten(dataset: Path, out: Path, *, shards: int, order: int | None, **settings: Any) -> Path:
    """The same rows, written anew by pyarrow with other settings."""
    shutil.copytree(dataset, out, ignore=shutil.ignore_patterns("*.parquet"))
    for config in ("clips", "segments"):
        table = pa.concat_tables(parquet.read_table(path) for path in sorted((dataset / "data" / config).iterdir()))
        rows = np.arange(len(table)) if order is None else np.random.default_rng(order).permutation(len(table))
        for k, part in enumerate(np.array_split(rows, shards)):
            parquet.write_table(table.take(part), out / "data" / config / f"part{k}.parquet", **settings)
    return out


@pytest.mark.parametrize(
    "settings",
    [
        {"shards": 1, "order": None, "row_group_size": 1},
        {"shards": 1, "order": None, "compression": "snappy"},
        {"shards": 1, "order": 3},
        {"shards": 3, "order": None, "version": "1.0", "use_dictionary": False},
        {"shards": 2, "order": 4, "row_group_size": 2, "compression": "gzip"},
    ],
)
def test_the_same_rows_in_other_files_are_the_same_content(dataset: Path, tmp_path: Path, settings: dict) -> None:
    again = rewritten(dataset, tmp_path / "again", **settings)
    assert contents(again) == contents(dataset)


def test_an_identity_is_one_number_for_ever_and_a_train_split_is_no_part_of_it(dataset: Path, tmp_path: Path) -> None:
    sound = hashlib.sha256(struct.pack("<3i", 0, 2**14, -(2**15))).hexdigest()
    poses = hashlib.sha256(struct.pack("<100i", *[10, 21] * 50) + bytes([1] * 50)).hexdigest()
    told = (
        f'{{"config":"clips","dataset":"demo","items":[["clip_000001",7,3,"{sound}",[2,1,25,3],"{poses}"]],'
        '"split":"test","version":1}'
    )
    item = Item(
        "clip_000001",
        np.array([0.0, 0.5, -1.0], np.float32),
        song_id=7,
        poses=np.array([10.4, 20.6, 0.5], np.float32) * np.ones((2, 1, 25, 1), np.float32),
    )
    assert content_identity("demo", "clips", [item]) == f"1:{hashlib.sha256(told.encode()).hexdigest()}"
    without = shutil.copytree(dataset, tmp_path / "without")
    for path in without.glob("data/*/train*"):
        path.unlink()
    assert contents(without) == contents(dataset)


def test_a_dataset_has_an_identity_for_each_configuration(dataset: Path, tmp_path: Path) -> None:
    found = contents(dataset)
    assert list(found) == ["clips", "segments"]
    assert found["clips"].identity == open_benchmark(dataset, "clips").content
    assert found["segments"].identity == open_benchmark(dataset, "segments").content
    assert found["clips"].identity != found["segments"].identity
    nameless = shutil.copytree(dataset, tmp_path / "nameless", ignore=shutil.ignore_patterns("manifest.json"))
    assert contents(nameless) == {}


# ------------------------------------------------------------------------------------------- the identity, of items


def some_items() -> dict[str, Item]:
    """Three items of noise and of poses on whole pixels."""
    rng = np.random.default_rng(5)
    items = {}
    for k in range(3):
        poses = np.zeros((SEGMENT_POSES, 2, 25, 3), np.float32)
        poses[..., :2] = rng.integers(10, 500, poses[..., :2].shape)
        poses[..., 2] = 0.5
        sound = rng.integers(-3000, 3000, SEGMENT_SAMPLES) / 2**15
        items[f"clip_{k:06d}"] = Item(f"clip_{k:06d}", sound.astype(np.float32), song_id=k // 2, poses=poses)
    return items


ITEMS = some_items()
A = "clip_000000"


@given(st.permutations(list(ITEMS.values())))
def test_an_identity_does_not_depend_on_order(items: list[Item]) -> None:
    short = [replace(item, audio=item.audio[:500], poses=item.poses[:3]) for item in items]  # type: ignore[index]
    assert content_identity("demo", "clips", short) == content_identity("demo", "clips", sorted(short, key=str))


def posed(item: Item, change: Callable[[np.ndarray], object]) -> Item:
    assert item.poses is not None
    poses = item.poses.copy()
    change(poses)
    return replace(item, poses=poses)


def sounding(item: Item, change: Callable[[np.ndarray], np.ndarray]) -> Item:
    return replace(item, audio=np.asarray(change(item.sound()), np.float32))


def raised(sound: np.ndarray) -> np.ndarray:
    return sound + (np.arange(len(sound)) == 9) / 2**15


def set_to(index: Any, value: float) -> Callable[[np.ndarray], None]:
    return lambda poses: poses.__setitem__(index, value)


@pytest.mark.parametrize(
    "change",
    [
        lambda item: replace(item, id="clip_000009"),
        lambda item: replace(item, song_id=9),
        lambda item: replace(item, song_id=None),
        lambda item: sounding(item, raised),
        lambda item: sounding(item, lambda sound: sound[:-1]),
        lambda item: posed(item, lambda poses: poses[4, 1, 7].__iadd__([1, 0, 0])),
        lambda item: posed(item, set_to((4, 1, 7, 2), 0)),
        lambda item: replace(item, poses=item.poses[:-1]),
        lambda item: replace(item, poses=item.poses[:, ::-1]),
        lambda item: replace(item, poses=None),
    ],
)
def test_another_value_of_what_is_scored_is_another_identity(change: Callable[[Item], Item]) -> None:
    before = content_identity("demo", "clips", ITEMS.values())
    assert content_identity("demo", "clips", (ITEMS | {A: change(ITEMS[A])}).values()) != before
    assert content_identity("demo", "clips", list(ITEMS.values())[1:]) != before
    assert content_identity("other", "clips", ITEMS.values()) != before
    assert content_identity("demo", "segments", ITEMS.values()) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda item: sounding(item, lambda sound: sound + 0.4 / 2**15),
        lambda item: posed(item, lambda poses: poses[..., :2].__iadd__(0.4)),
        lambda item: posed(item, set_to((..., 2), 0.8)),
        lambda item: replace(item, beats_s=np.array([1.0]), n_dancers=2, compilation_id=4),
    ],
)
def test_what_is_not_scored_or_less_than_a_step_is_no_part_of_it(change: Callable[[Item], Item]) -> None:
    items = ITEMS | {A: change(ITEMS[A])}
    assert content_identity("demo", "clips", items.values()) == content_identity("demo", "clips", ITEMS.values())


# ------------------------------------------------------------------------------------------- sketches


def test_a_sketch_looks_at_each_part_of_a_sound_and_at_few_instants_of_a_long_one() -> None:
    for samples in (0, 1, 50, SEGMENT_SAMPLES, 600 * SAMPLE_RATE):
        chosen = instants(samples)
        assert len(chosen) == min(samples, 1024, round(128 * samples / SAMPLE_RATE))
        assert (np.diff(chosen) >= 0).all()
        assert ((chosen >= 0) & (chosen < max(1, samples))).all()
    assert list(pose_frames(SEGMENT_SAMPLES)) == [3, 11, 18, 26, 33, 41, 48, 56]
    assert len(pose_frames(600 * SAMPLE_RATE)) == 32


def tone(hertz: float, level: float = 0.3, phase: float = 0.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(SEGMENT_SAMPLES) / SAMPLE_RATE + phase)).astype(np.float32)


def test_a_slope_has_the_tones_own_level_in_the_bands_middle_and_nothing_far_above() -> None:
    for band in content.BANDS_HZ[:2]:
        one = sketch(Item("a", tone(band)))
        assert one.band_hz == band
        assert one.peak == pytest.approx(0.3 * 2**15, rel=0.03)
        assert np.abs(one.sound).max() == 31
    assert np.abs(content._slopes(tone(4000), SEGMENT_SAMPLES, 300)[5:-5]).max() < 1


def test_the_error_of_a_gain_is_known_and_silence_has_none() -> None:
    one = sketch(Item("a", tone(300)))
    assert sound_error(one, 2 * tone(300)) == pytest.approx(0.5, abs=0.02)  # (2 - 1) / 2
    assert sound_error(one, tone(300, phase=np.pi)) == pytest.approx(2, abs=0.02)
    assert sound_error(one, tone(300, phase=np.pi / 3)) == pytest.approx(1, abs=0.02)
    silence = sketch(Item("a", np.zeros(SEGMENT_SAMPLES, np.float32)))
    assert sound_error(silence, np.zeros(SEGMENT_SAMPLES, np.float32)) == 0
    assert sound_error(silence, tone(300)) == pytest.approx(1, abs=0.02)
    assert differences([sketch(Item("a", np.zeros(0, np.float32)))], {"a": Item("a", np.zeros(0, np.float32))}) == []


def test_high_music_is_looked_at_in_a_high_band() -> None:
    rng = np.random.default_rng(3)
    one, other = (np.diff(rng.standard_normal(SEGMENT_SAMPLES + 4), 4) * 0.02 for _ in range(2))
    kept = sketch(Item("a", one.astype(np.float32)))
    assert kept.band_hz == 4800
    assert sound_error(kept, one) < 0.1
    assert sound_error(kept, other) > 1
    assert sound_error(kept, AAC(128)(one.astype(np.float32), SAMPLE_RATE)) < content.SOUND_ERROR


# ------------------------------------------------------------------------------------------- the tolerance

Perturbation = Callable[[Item, np.random.Generator], Item]


def as_16_bit(sound: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(sound, -1, 1 - 2**-15) * 2**15) / 2**15


def resampled(sound: np.ndarray, rate: float, quality: str = "HQ") -> np.ndarray:
    there = soxr.resample(sound, SAMPLE_RATE, rate, quality=quality)
    return as_16_bit(soxr.resample(there, rate, SAMPLE_RATE, quality=quality)[: len(sound)])


def shifted(sound: np.ndarray, seconds: float) -> np.ndarray:
    return np.roll(sound, round(seconds * SAMPLE_RATE))


def moved(item: Item, by: np.ndarray) -> Item:
    return posed(item, lambda poses: poses[..., :2].__iadd__(by))


def torso(item: Item) -> float:
    assert item.poses is not None
    return float(np.median(np.linalg.norm(item.poses[:, 0, 1, :2] - item.poses[:, 0, 8, :2], axis=-1)))


def direction(rng: np.random.Generator) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def jittered(item: Item, rng: np.random.Generator, px: float) -> Item:
    assert item.poses is not None
    return moved(item, rng.normal(0, px, item.poses[..., :2].shape))


SAME: dict[str, Perturbation] = {
    "two 16-bit steps of noise": lambda item, rng: sounding(
        item, lambda sound: as_16_bit(sound + rng.integers(-2, 3, len(sound)) / 2**15)
    ),
    "AAC at 128 kbit/s": lambda item, rng: sounding(item, lambda sound: as_16_bit(AAC(128)(sound, SAMPLE_RATE))),
    "resampled to 44.1 kHz and back": lambda item, rng: sounding(item, lambda sound: resampled(sound, 44_100, "LQ")),
    "resampled to 48 kHz and back": lambda item, rng: sounding(item, lambda sound: resampled(sound, 48_000)),
    "one sample more": lambda item, rng: sounding(item, lambda sound: np.append(sound, sound[-1])),
    "poses jitter by 1 px": lambda item, rng: jittered(item, rng, 1),
    "poses jitter by 2 px": lambda item, rng: jittered(item, rng, 2),
    "all poses a pixel aside": lambda item, rng: moved(item, direction(rng)),
}
OTHERS: dict[str, Perturbation] = {
    "20 ms later": lambda item, rng: sounding(item, lambda sound: shifted(sound, 0.02)),
    "20 ms earlier": lambda item, rng: sounding(item, lambda sound: shifted(sound, -0.02)),
    "a frame later": lambda item, rng: sounding(item, lambda sound: shifted(sound, 1 / 30)),
    "3 dB louder": lambda item, rng: sounding(item, lambda sound: sound * 10**0.15),
    "3 dB softer": lambda item, rng: sounding(item, lambda sound: sound * 10**-0.15),
    "1 % faster": lambda item, rng: sounding(
        item, lambda sound: np.resize(soxr.resample(sound, 1.01 * SAMPLE_RATE, SAMPLE_RATE), len(sound))
    ),
    "half a second of something else": lambda item, rng: sounding(
        item, lambda sound: np.concatenate([sound[: SAMPLE_RATE // 2][::-1], sound[SAMPLE_RATE // 2 :]])
    ),
    "30 ms shorter": lambda item, rng: sounding(item, lambda sound: sound[: -round(0.03 * SAMPLE_RATE)]),
    "poses aside by 5 % of the torso": lambda item, rng: moved(item, 0.05 * torso(item) * direction(rng)),
    "poses a frame later": lambda item, rng: posed(item, lambda poses: poses.__setitem__(slice(1, None), poses[:-1])),
    "poses half a second later": lambda item, rng: replace(item, poses=np.roll(item.poses, POSE_FPS // 2, axis=0)),  # type: ignore[type-var]
    "no dancer": lambda item, rng: posed(item, set_to((...,), 0)),
    "no poses": lambda item, rng: replace(item, poses=None),
}


def danced(seed: int, clips: int = 2) -> Iterator[Item]:
    """Items of a demo with another seed: a clip of each song, and its second and third segment."""
    for clip in range(clips):
        poses, sound, _, song = clip_truth(DemoParams(clips=clips, songs=clips, seed=seed), clip)
        whole = Item(f"clip_{clip:06d}", as_16_bit(sound).astype(np.float32), song_id=song, poses=poses)
        yield whole
        for k in (1, 2):
            part = slice(k * SEGMENT_SAMPLES, (k + 1) * SEGMENT_SAMPLES)
            frames = slice(k * SEGMENT_POSES, (k + 1) * SEGMENT_POSES)
            yield replace(whole, id=f"{whole.id}_seg{k + 1}", audio=whole.sound()[part], poses=poses[frames])


@pytest.fixture(scope="module")
def dances() -> dict[str, Item]:
    # No number of `content` was chosen by this seed.
    return {item.id: item for item in danced(2026)}


@pytest.mark.parametrize("name", SAME)
def test_another_build_is_known_again(dances: dict[str, Item], name: str) -> None:
    for k, item in enumerate(dances.values()):
        changed = SAME[name](item, np.random.default_rng([7, k]))
        assert differences([sketch(item)], {item.id: changed}) == [], item.id


@pytest.mark.parametrize("name", OTHERS)
def test_other_content_is_not(dances: dict[str, Item], name: str) -> None:
    kind = "poses" if "poses" in name or "dancer" in name else "length" if "shorter" in name else "sound"
    for k, item in enumerate(dances.values()):
        changed = OTHERS[name](item, np.random.default_rng([8, k]))
        assert differences([sketch(item)], {item.id: changed}) == [Difference(kind, (item.id,))], item.id


def test_other_songs_dances_and_dancers_are_not(dances: dict[str, Item]) -> None:
    clips = [name for name in dances if "seg" not in name]
    segments = [name for name in dances if "seg" in name]
    for names in (clips, segments):
        for mine, theirs in [(a, b) for a in names for b in names if a != b]:
            samples = len(dances[mine].sound())
            other = np.resize(dances[theirs].sound(), samples)
            lead = dances[theirs].poses[:, :1]  # type: ignore[index]
            poses = np.resize(lead, (len(dances[mine].poses), *lead.shape[1:]))  # type: ignore[arg-type]
            changed = replace(dances[mine], audio=other, poses=poses)
            found = differences([sketch(dances[mine])], {mine: changed})
            assert [one.kind for one in found] == ["sound", "poses"], (mine, theirs)
    several = next(item for item in danced(2026, clips=6) if item.poses.shape[1] > 1)  # type: ignore[union-attr]
    swapped = replace(several, poses=several.poses[:, ::-1])  # type: ignore[index]
    assert differences([sketch(several)], {several.id: swapped}) == [Difference("poses", (several.id,))]


def test_a_dataset_is_compared_by_ids_and_songs_too() -> None:
    sketches = [sketch(item) for item in ITEMS.values()]
    assert differences(sketches, ITEMS) == []
    renamed = {name.replace("2", "7"): replace(item, id=name.replace("2", "7")) for name, item in ITEMS.items()}
    assert differences(sketches, renamed) == [
        Difference("missing", ("clip_000002",)),
        Difference("extra", ("clip_000007",)),
    ]
    assert differences(sketches, ITEMS | {A: replace(ITEMS[A], song_id=5)}) == [Difference("song", (A,))]


def test_differences_are_told_with_counts_and_examples() -> None:
    ids = tuple(f"clip_{k:06d}" for k in range(12, 16))
    every = [Difference(kind, ids) for kind in ("missing", "extra", "song", "length", "sound", "poses")]
    assert describe(every) == (
        "it lacks clip_000012 and 3 more, and it has clip_000012 and 3 more besides, and the song of clip_000012 and 3 "
        "more is another, and the length of clip_000012 and 3 more differs, and the music of clip_000012 and 3 more "
        "differs, and the poses of clip_000012 and 3 more differ"
    )
    assert describe([Difference("missing", ids[:1])]) == "it lacks clip_000012"


# ------------------------------------------------------------------------------------------- the file


def test_a_file_gives_back_what_was_written_and_is_small(dances: dict[str, Item], tmp_path: Path) -> None:
    bare = [Item("a", tone(300)), Item("b", np.zeros(0, np.float32), song_id=0, poses=np.zeros((0, 1, 25, 3)))]
    sketches = [sketch(item) for item in [*dances.values(), *bare]]
    path = tmp_path / REFERENCE
    path.write_text(sketches_text(sketches), encoding="utf-8")
    again, problems = read_sketches(path, "x")
    assert problems == []
    assert sketches_text(again) == sketches_text(sketches[::-1])
    by_id = {one.id: one for one in again}
    assert list(by_id) == sorted(one.id for one in sketches)
    for one in sketches:
        found = by_id[one.id]
        assert (found.song_id, found.samples, found.band_hz, found.peak) == (
            one.song_id,
            one.samples,
            one.band_hz,
            one.peak,
        )
        assert (found.sound == one.sound).all()
        assert (found.poses is None) == (one.poses is None)
        assert found.poses is None or (found.poses == one.poses).all()
    sizes = {line.split(",")[1]: len(line) for line in path.read_text(encoding="utf-8").splitlines()[1:]}
    assert max(size for name, size in sizes.items() if "seg" in name) < 600
    longest = sketch(Item("clip_000001", np.zeros(600 * SAMPLE_RATE, np.float32), 1, poses=np.zeros((9, 1, 25, 3))))
    assert len(sketches_text([longest]).splitlines()[1]) < 2200


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / REFERENCE
    path.write_text(sketches_text(sketch(item) for item in ITEMS.values()), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("id", "a b", "column id: 'a b' is no id"),
        ("id", "<b>", "column id: '<b>' is no id"),
        ("id", "x" * 201, "column id: 'xxx"),
        ("song_id", "-1", "column song_id: '-1' is no whole number"),
        ("samples", "1e9", "column samples: '1e9' is no whole number"),
        ("samples", "999999999999", "column sound: it is no sketch of 999999999999 samples"),
        ("band_hz", "301", "column band_hz: 301 is no band: take one of 300, 1200, 4800"),
        ("peak", "0", "column peak: it must be at least 1"),
        ("sound", "", "column sound: it is no sketch of 44100 samples"),
        ("sound", "é" * 256, "column sound: it is no sketch of 44100 samples"),
        ("sound", "_" * 256, "column sound: it is no sketch of 44100 samples"),
        ("poses", "00", "column poses: it is no sketch of the poses of 44100 samples"),
        ("poses", "-" * 256, "column poses: it is no sketch of the poses of 44100 samples"),
        ("version", "2", "column version: it is of version '2' of the identity, and this program compares version 1"),
    ],
)
def test_each_fault_of_a_file_is_named(table: Path, column: str, value: str, message: str) -> None:
    lines = table.read_text(encoding="utf-8").splitlines()
    cells = dict(zip(COLUMNS, lines[2].split(","), strict=True))
    lines[2] = ",".join((cells | {column: value}).values())
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, problems = read_sketches(table, "tunes/1.0/reference.csv")
    assert str(problems[0]).startswith(f"tunes/1.0/reference.csv, line 3, {message}"), problems


def test_a_file_that_is_none_is_told_of(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = table.read_text(encoding="utf-8")
    for raw, message in (
        (b"id\n", "line 1: its first line must be version,id,song_id,samples,band_hz,peak,sound,poses"),
        (b"\xff", "it is not UTF-8 text"),
        (text.encode() + b"1,x\n", "line 5: it has 2 fields and needs 8"),
        ((text + text.splitlines()[1] + "\n").encode(), "line 5, column id: clip_000000 is on an earlier line already"),
        (text.encode() + b'1,"' + b"x" * 200_000, "line 5: it is not valid CSV"),
    ):
        table.write_bytes(raw)
        (problem,) = read_sketches(table, "x")[1]
        assert message in str(problem)
    monkeypatch.setattr(content, "_MOST", 100)
    assert [str(one) for one in read_sketches(table, "x")[1]] == ["x: it is larger than 100 bytes"]


# ------------------------------------------------------------------------------------------- what a check says


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """A submission for another identity: what its reference says decides."""
    folder = tmp_path_factory.mktemp("whole")
    made = submission(folder / "tunes" / "1.0", dataset, music(folder / "music"))
    edit(made / CARD, open_benchmark(dataset, "clips").content, OTHER)
    return made


@pytest.fixture
def mine(tmp_path: Path, whole: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "tunes" / "1.0"))


def checked(folder: Path, opened: OpenBenchmark, **changed: Item | None) -> submission_check.Checked:
    """With some of the dataset's items changed, or left out."""
    items = {name: item for name, item in (opened.reference.items | changed).items() if item is not None}
    other = OpenBenchmark(opened.dataset, opened.identity, "clips", Reference(items, opened.reference.name))
    return submission_check.check_files(folder, opened.dataset, folder.parents[1] / "work", other)[0]


def told(folder: Path, opened: OpenBenchmark, **changed: Item | None) -> str:
    """What it says of the card's content."""
    line = (folder / CARD).read_text(encoding="utf-8").split("  content:")[0].count("\n") + 1
    found = [str(one) for one in checked(folder, opened, **changed).problems]
    (sentence,) = [text for text in found if text.startswith(f"tunes/1.0/{CARD}, line {line}: ")]
    return sentence.split(": ", 1)[1]


def test_new_writes_the_reference_that_is_the_datasets(whole: Path, dataset: Path) -> None:
    sketches, problems = read_sketches(whole / REFERENCE, "x")
    assert problems == []
    assert [one.id for one in sketches] == sorted(TEST)
    assert differences(sketches, read_dataset(dataset, "test", "clips").items) == []


def test_an_equal_identity_needs_no_reference(whole: Path, opened: OpenBenchmark, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "tunes" / "1.0"))
    edit(folder / CARD, OTHER, opened.content)
    (folder / REFERENCE).write_text("nothing of a table")
    found = checked(folder, opened)
    assert (found.problems, found.notes) == ([], [])


def test_another_build_is_accepted_with_a_note(whole: Path, opened: OpenBenchmark) -> None:
    rng = np.random.default_rng(1)
    changed = {
        name: SAME["two 16-bit steps of noise"](jittered(item, rng, 1), rng)
        for name, item in opened.reference.items.items()
    }
    found = checked(whole, opened, **changed)
    assert found.problems == []
    given = content_identity("demo", "clips", changed.values())
    assert given != opened.content
    assert found.notes == [
        "the dataset at hand is another build of it with the same content within tolerance: this one is "
        f"{given[:14]}..., and it was made for 1:000000000000..."
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda items: {FIRST: None}, f"it lacks {FIRST}; let"),
        (lambda items: {FIRST: None, SECOND: None}, f"it lacks {FIRST} and 1 more; let"),
        (lambda items: {"clip_000077": replace(items[FIRST], id="clip_000077")}, "it has clip_000077 besides; let"),
        (lambda items: {FIRST: replace(items[FIRST], song_id=77)}, f"the song of {FIRST} is another; let"),
        (lambda items: {FIRST: sounding(items[FIRST], lambda s: s[::-1])}, f"the music of {FIRST} differs; let"),
        (lambda items: {FIRST: sounding(items[FIRST], lambda s: s[:-999])}, f"the length of {FIRST} differs; let"),
        (lambda items: {FIRST: moved(items[FIRST], np.array([40.0, 0]))}, f"the poses of {FIRST} differ; let"),
        (
            lambda items: {
                FIRST: sounding(items[FIRST], lambda s: s[::-1]),
                SECOND: replace(sounding(items[SECOND], lambda s: s[::-1]), song_id=77),
            },
            f"the song of {SECOND} is another, and the music of {FIRST} and 1 more differs; let",
        ),
    ],
)
def test_other_content_is_refused_with_what_differs(
    whole: Path, opened: OpenBenchmark, change: Callable[[dict[str, Item]], dict[str, Item | None]], says: str
) -> None:
    sentence = told(whole, opened, **change(opened.reference.items))
    assert sentence.startswith("it was made for another build of demo (1:000000000000...; the one given is 1:")
    assert f"and the one given holds something else: {says} the system make its music for this one" in sentence


def test_without_a_reference_and_with_another_version_the_way_out_is_told(mine: Path, opened: OpenBenchmark) -> None:
    (mine / REFERENCE).unlink()
    sentence = told(mine, opened)
    assert "and without reference.csv beside the card nobody can tell whether both hold the same: run" in sentence
    assert "`tiktok-dm submit new` again with the dataset that it was made for" in sentence
    edit(mine / CARD, OTHER, f"2{OTHER[1:]}")
    assert told(mine, opened) == (
        "`benchmark.content` is of version 2 of the identity, and this program computes version 1: run this program's "
        "`tiktok-dm submit new` again"
    )


def test_a_reference_is_not_trusted(mine: Path, opened: OpenBenchmark, tmp_path: Path) -> None:
    edit(mine / REFERENCE, f"1,{FIRST},1,", f"1,{FIRST},many,")
    (problem,) = checked(mine, opened).problems
    assert str(problem) == "tunes/1.0/reference.csv, line 2, column song_id: 'many' is no whole number"
    (mine / REFERENCE).rename(tmp_path / "elsewhere")
    (mine / REFERENCE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"reference\.csv is a link: put the file itself there"):
        checked(mine, opened)
    (mine / REFERENCE).unlink()
    (mine / REFERENCE).mkdir()
    with pytest.raises(UserError, match=r"reference\.csv cannot be read"):
        checked(mine, opened)


# ------------------------------------------------------------------------------------------- what stats says


def stats(dataset: Path, *options: str) -> str:
    done = CliRunner().invoke(app, ["stats", str(dataset), *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_stats_prints_the_content_of_each_configuration(dataset: Path) -> None:
    held = {config: found.identity for config, found in contents(dataset).items()}
    lines = stats(dataset).splitlines()
    assert lines[-2:] == [f"content of the test {config}: {identity}" for config, identity in held.items()]
    told = json.loads(stats(dataset, "--json"))
    assert told["content"] == held
    assert "reference" not in told  # nothing is shipped for a dataset of this name


def test_stats_compares_with_the_reference_that_is_shipped(
    dataset: Path, opened: OpenBenchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "SHIPPED", tmp_path)
    items = opened.reference.items
    path = tmp_path / "demo-clips.csv"
    path.write_text(sketches_text(sketch(item) for item in items.values()), encoding="utf-8")
    assert "  beside the shipped reference: the same content" in stats(dataset).splitlines()
    assert json.loads(stats(dataset, "--json"))["reference"] == {"clips": {"same": True, "differences": ""}}
    other = dict(items) | {FIRST: sounding(items[FIRST], lambda sound: sound[::-1])}
    path.write_text(sketches_text(sketch(item) for item in other.values()), encoding="utf-8")
    assert f"  beside the shipped reference: other content: the music of {FIRST} differs" in stats(dataset)
    told = json.loads(stats(dataset, "--json"))["reference"]
    assert told == {"clips": {"same": False, "differences": f"the music of {FIRST} differs"}}
    path.write_text("broken", encoding="utf-8")
    with pytest.raises(UserError, match="the shipped reference cannot be used"):
        contents(dataset)


def test_a_datasets_name_leads_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret-clips.csv").write_text("x")
    monkeypatch.setattr(content, "SHIPPED", tmp_path / "inside")
    assert shipped_reference("../secret", "clips") is None
    assert shipped_reference("secret", "clips") is None


def test_stats_of_segments_alone(dataset: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(dataset, tmp_path / "alone")
    shutil.rmtree(alone / "data" / "clips")
    lines = stats(alone).splitlines()
    test = [row for row in CLIPS.values() if row[2] == "test"]
    segments = sum(int(row[6] // 2) for row in test)
    cells = {line.split("  ")[0]: line for line in lines}
    assert f"{len({row[1] for row in test})} songs, {segments} segments" in cells["test"]
    assert cells["test"].endswith("43 songs, 307 segments")
    assert lines[-1].startswith("content of the test segments: 1:")
    told = json.loads(stats(alone, "--json"))
    assert told["splits"]["test"] == {"songs": 4, "segments": segments}
    assert list(told["content"]) == ["segments"]
