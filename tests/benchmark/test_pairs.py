"""Pairing by id: what is found, and that everything wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_sets import CLIPS, beat_times, clip_sounds, write_dataset, write_wav

from tiktok_dm.benchmark import pairs
from tiktok_dm.benchmark.evaluate import EvaluateOptions, evaluate
from tiktok_dm.benchmark.reference import Item, Reference
from tiktok_dm.errors import ProblemsError, UserError

RATE = 22_050
TONE = (0.3 * np.sin(np.arange(2 * RATE) / 9)).astype(np.float32)
NO_EMBEDDING = EvaluateOptions(embedder=None)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("pairs") / "dances")


def folder(path: Path, **sounds: np.ndarray) -> Path:
    path.mkdir()
    for name, sound in sounds.items():
        write_wav(path / f"{name}.wav", sound)
    return path


# ------------------------------------------------------------------------------------------- pairing


def test_pairs_go_by_name_not_by_order(tmp_path: Path) -> None:
    first, second = TONE, (0.5 * TONE[::-1]).copy()
    reference = pairs.read_reference(folder(tmp_path / "r", b=second, a=first))
    generated, findings = pairs.pair(reference, {"b": Path("x/b.wav"), "a": Path("x/a.flac")})
    assert findings == []
    assert generated == {"b": Path("x/b.wav"), "a": Path("x/a.flac")}
    assert list(reference.items) == ["a", "b"]
    np.testing.assert_array_equal(reference.items["b"].sound(), second)


def test_missing_and_extra_are_named() -> None:
    reference = Reference({name: Item(name, TONE) for name in ("a", "b", "c")}, "three")
    generated, findings = pairs.pair(reference, {"b": TONE, "d": TONE})
    assert list(generated) == ["b"]
    assert [(f.kind, f.id, f.fatal) for f in findings] == [
        ("extra", "d", False),
        ("missing", "a", True),
        ("missing", "c", True),
    ]


def test_a_bare_clip_id_will_do() -> None:
    reference = Reference({f"clip_{k:06d}": Item(f"clip_{k:06d}", TONE) for k in (3, 12, 120)}, "clips")
    generated, findings = pairs.pair(reference, {"12": TONE, "clip_3": TONE, "clip_000120": TONE})
    assert set(generated) == set(reference.items)
    assert findings == []
    _, findings = pairs.pair(reference, {"12": TONE, "000012": TONE, "3": TONE, "120": TONE})
    assert [(f.kind, f.id) for f in findings] == [("ambiguous", "clip_000012")]


def test_the_wrong_folder_is_one_sentence() -> None:
    reference = Reference({"song_a": Item("song_a", TONE)}, "one sound")
    with pytest.raises(UserError, match="look like song_a, those given like x"):
        pairs.pair(reference, {"x": TONE})


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        pairs.sound_files(tmp_path / "gone")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="holds no sound file"):
        pairs.sound_files(tmp_path)
    with pytest.raises(UserError, match="no reference"):
        pairs.read_reference(tmp_path / "gone")


def test_two_files_of_one_id(tmp_path: Path) -> None:
    both = folder(tmp_path / "g", a=TONE)
    write_wav(both / "a.flac", TONE, subtype="PCM_16")
    _, findings = pairs.sound_files(both)
    assert [(f.kind, f.id) for f in findings] == [("ambiguous", "a")]
    with pytest.raises(UserError, match=r"both a\.flac and a\.wav"):
        pairs.read_reference(both)
    reference = folder(tmp_path / "r", a=TONE, b=TONE)
    write_wav(both / "b.wav", TONE)
    with pytest.raises(ProblemsError, match="ambiguous"):
        evaluate(reference, both, NO_EMBEDDING)
    partial = evaluate(reference, both, EvaluateOptions(embedder=None, partial=True))
    assert partial.per_clip["id"].tolist() == ["b"]


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    """One of each kind: missing, extra, unreadable, empty, non-finite, short, silent; and two that are well."""
    names = ("fine", "missing", "unreadable", "empty", "nan", "infinite", "short", "silent", "hop")
    reference = folder(tmp_path / "r", **dict.fromkeys(names, TONE))
    bad = TONE.copy()
    bad[100] = np.nan
    worse = TONE.copy()
    worse[7] = np.inf
    generated = folder(
        tmp_path / "g",
        fine=TONE,
        extra=TONE,
        empty=TONE[:0],
        nan=bad,
        infinite=worse,
        short=TONE[: RATE + 5],
        silent=np.zeros(2 * RATE),
        hop=TONE[:44_032],  # whole hops of 128: not called short
    )
    (generated / "unreadable.wav").write_bytes(b"RIFF of nothing")
    with pytest.raises(ProblemsError) as caught:
        evaluate(reference, generated, NO_EMBEDDING)
    kinds = {problem.file: problem.message.split(":")[0] for problem in caught.value.problems}
    fatal = {
        "missing": "missing",
        "unreadable": "unreadable",
        "empty": "empty",
        "nan": "non-finite",
        "infinite": "non-finite",
    }
    told = {"extra": "extra", "short": "short", "silent": "silent"}
    assert kinds == fatal | told
    assert "1 of its 44100 samples are NaN" in str(caught.value)
    assert "--partial" in str(caught.value)

    result = evaluate(reference, generated, EvaluateOptions(embedder=None, partial=True))
    assert {p.id: p.kind for p in result.problems} == fatal | told
    assert {p.id for p in result.problems if p.fatal} == set(fatal)
    assert result.per_clip["id"].tolist() == ["fine", "hop", "short", "silent"]
    assert result.counts == {"references": 9, "clips": 4, "songs": 0}
    assert result.metrics["beat_f_70ms"].n <= 4


def test_a_reference_that_cannot_be_used_stops(tmp_path: Path) -> None:
    reference = folder(tmp_path / "r", a=TONE, b=TONE)
    (reference / "b.wav").write_bytes(b"nothing")
    with pytest.raises(UserError, match="the reference b cannot be used"):
        evaluate(reference, folder(tmp_path / "g", a=TONE, b=TONE), EvaluateOptions(embedder=None, partial=True))


def test_nothing_left_to_score(tmp_path: Path) -> None:
    reference = folder(tmp_path / "r", a=TONE)
    generated = folder(tmp_path / "g", a=TONE[:0])
    with pytest.raises(UserError, match="not one generated file"):
        evaluate(reference, generated, EvaluateOptions(embedder=None, partial=True))


# ------------------------------------------------------------------------------------------- datasets


def test_clips_of_a_dataset(dataset: Path) -> None:
    reference = pairs.read_reference(dataset, split="test", config="clips")
    assert list(reference.items) == [f"clip_{k:06d}" for k in (1, 2, 3, 4, 5)]
    assert reference.has_songs
    for clip, sound in clip_sounds().items():
        if clip == 0:
            continue
        item = reference.items[f"clip_{clip:06d}"]
        compilation, song, _, bpm, offset, dancers, seconds = CLIPS[clip]
        assert (item.song_id, item.compilation_id, item.n_dancers, item.tempo_bpm) == (song, compilation, dancers, bpm)
        assert item.poses.shape == (round(30 * seconds), dancers, 25, 3)
        assert item.poses[5, dancers - 1, 3, 2] == pytest.approx(0.5 + 0.1 * (dancers - 1))
        assert item.beats_s == pytest.approx(beat_times(bpm, offset, seconds))
        assert item.seen_compilation == (compilation == 0)  # compilation 0 also gives the train clip
        assert item.clip_seconds == seconds
        np.testing.assert_allclose(item.sound(), sound, atol=2e-4)
    assert len(pairs.read_reference(dataset, split="all", config="clips").items) == len(CLIPS)
    assert list(pairs.read_reference(dataset, split="train", config="clips").items) == ["clip_000000"]


def test_segments_of_a_dataset(dataset: Path) -> None:
    reference = pairs.read_reference(dataset, config="segments")
    assert len(reference.items) == 3 + 3 + 3 + 5 + 3
    item = reference.items["000001_3_4_seg5"]
    _, _, _, bpm, offset, _, seconds = CLIPS[4]
    inside = beat_times(bpm, offset, seconds)
    assert item.beats_s == pytest.approx(inside[(inside >= 8) & (inside < 10)] - 8)
    whole = pairs.read_reference(dataset, config="clips").items["clip_000004"]
    assert item.poses.shape == (60, 3, 25, 3)
    np.testing.assert_array_equal(item.poses, whole.poses[240:300])
    assert item.clip_seconds == 11.0
    assert len(item.sound()) == 44_100


def test_the_configuration_is_what_the_ids_look_like(dataset: Path) -> None:
    assert "segments" in pairs.read_reference(dataset, generated=["000001_3_4_seg5", "000001_3_4_seg1"]).name
    assert "clips" in pairs.read_reference(dataset, generated=["clip_000004", "5"]).name
    assert "clips" in pairs.read_reference(dataset).name


def test_what_a_dataset_does_not_have(dataset: Path) -> None:
    for given, message in (
        ({"split": "tset"}, "no split 'tset'"),
        ({"config": "clip"}, "no configuration 'clip'"),
        ({"split": "validation"}, "has no clips of the split 'validation'"),
    ):
        with pytest.raises(UserError, match=message):
            pairs.read_reference(dataset, **given)
