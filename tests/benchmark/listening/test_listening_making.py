"""Studies made from real, small media: pairing, loudness, length, names, anchors, the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
from export_factory import META, make_items, private_cache
from listening_factory import tone
from media_factory import constant, film, numbered
from typer.testing import CliRunner

from tiktok_dm.cli.listen import app
from tiktok_dm.dataset.export import export
from tiktok_dm.errors import ProblemsError, UserError
from tiktok_dm.listening import stimuli
from tiktok_dm.listening import study as studies
from tiktok_dm.listening.making import Wanted, _mismatch, _Paired, make
from tiktok_dm.listening.stimuli import Piece
from tiktok_dm.media import probe, read_audio

RATE = 22_050


def music(hz: float, seconds: float, level: float = 0.3) -> np.ndarray:
    """A tone with a bright noisy upper part, so that low-passing is heard."""
    noise = np.random.default_rng(round(hz)).standard_normal(round(seconds * RATE)).astype(np.float32)
    return tone(seconds, hz, level) + level * 0.3 * noise


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Music of three clips by two systems and the reference, at different loudness and length; films."""
    made = {name: tmp_path / name for name in ("one", "two", "reference", "videos")}
    for folder in made.values():
        folder.mkdir()
    for k in range(3):
        sf.write(made["one"] / f"c{k}.wav", music(300 + 50 * k, 1.4, 0.5), RATE)
        sf.write(made["two"] / f"c{k}.flac", music(500 + 50 * k, 1.7, 0.02), RATE)
        sf.write(made["reference"] / f"c{k}.wav", music(900 + 50 * k, 1.6, 0.1), RATE)
        film(made["videos"] / f"c{k}.mp4", [numbered(n) for n in range(45)], *constant(45, 30))
    return made


def wanted(folders: dict[str, Path], protocol: str = "quality", **more) -> Wanted:
    settings = {"items": 3, "raters": 8, "headphone_trials": 0, "checks": 0, "practice": False} | more
    systems = {name: folders[name] for name in ("one", "two")}
    return Wanted(
        protocol=protocol, systems=systems, reference=folders["reference"], videos=folders["videos"], **settings
    )


def test_quality_stimuli_have_one_loudness_and_length_and_random_names(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    folder = tmp_path / "study"
    study, key = make(folder, wanted(folders))
    assert studies.read(folder) == (study, key)
    assert {(c.name, c.kind) for c in key.conditions} == {
        ("one", "system"),
        ("two", "system"),
        ("reference", "reference"),
        ("anchor", "anchor"),
    }
    assert sorted(key.items) == ["c0", "c1", "c2"]
    for row in key.clips:
        for clip in row:
            sound = read_audio(folder / studies.STIMULI / clip.file, sample_rate=48_000)
            assert abs(len(sound) / 48_000 - 1.4) < 0.03  # the shortest of the three
            assert abs(stimuli.loudness(sound) - -23.0) < 0.3
    assert len({round(clip.seconds, 4) for row in key.clips for clip in row}) == 1
    assert key.notes == ()
    files = [path.name for path in (folder / studies.STIMULI).iterdir()]
    assert len(files) == len(set(files)) == 3 * 4 + 3  # and the volume checks
    for name in files:
        assert len(name) == 24 + len(".m4a")
        int(name.split(".")[0], 16)
        with av.open(str(folder / studies.STIMULI / name)) as container:
            tags = {**container.metadata, **container.streams[0].metadata}
        assert not {"title", "comment", "encoder", "creation_time"} & tags.keys()
    design = (folder / studies.STUDY).read_text(encoding="utf-8")
    assert not any(name in design for name in ("one", "two", "c0") if f'"{name}"' in design)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_low_anchor_of_quality_follows_bs1534() -> None:
    from scipy.signal import freqz

    impulse = np.zeros(1 << 15)
    impulse[0] = 1
    hz, response = freqz(stimuli.low_passed(impulse).astype(float), worN=1 << 14, fs=48_000)
    gain = 20 * np.log10(np.abs(response) + 1e-12)
    assert np.abs(gain[hz <= 3490]).max() <= 0.11
    assert gain[hz >= 4000].max() <= -25
    assert gain[hz >= 4500].max() <= -50


def test_coherence_has_the_picture_the_original_and_a_mismatched_anchor(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    folder = tmp_path / "study"
    _, key = make(folder, wanted(folders, "coherence", checks=1, practice=True))
    names = [c.name for c in key.conditions]
    dominant = {}
    for item, row, original in zip(key.items, key.clips, key.originals, strict=True):
        for clip in (*row, original):
            found = probe(folder / studies.STIMULI / clip.file)
            assert found.audio is not None
            assert abs(found.duration_s - 1.4) < 0.05
            assert found.video_codec == "h264"
        for name, clip in zip([*names, "original"], (*row, original), strict=True):
            sound = read_audio(folder / studies.STIMULI / clip.file, sample_rate=48_000)
            dominant[item, name] = float(np.argmax(np.abs(np.fft.rfft(sound))) * 48_000 / len(sound))
    for k, item in enumerate(("c0", "c1", "c2")):
        assert dominant[item, "one"] == pytest.approx(300 + 50 * k, abs=2)
        assert dominant[item, "two"] == pytest.approx(500 + 50 * k, abs=2)
        assert dominant[item, "reference"] == pytest.approx(900 + 50 * k, abs=2)
        assert dominant[item, "original"] == pytest.approx(900 + 50 * k, abs=2)
        other = (dominant[item, "anchor"] - 900) / 50
        assert round(other) in {0, 1, 2} - {k}
    # Each original lends its music about as often as any other.
    assert len({round(dominant[item, "anchor"]) for item in key.items}) >= 2
    practice, check = (next(m for m in key.materials if m.kind == kind) for kind in ("practice", "check"))
    assert practice.original is not None
    assert check.original is not None
    assert probe(folder / studies.STIMULI / practice.clip.file).duration_s == pytest.approx(4, abs=0.05)


def test_every_missing_unreadable_or_short_file_is_named(tmp_path: Path, folders: dict[str, Path]) -> None:
    (folders["one"] / "c0.wav").unlink()
    (folders["two"] / "c1.flac").write_bytes(b"no sound")
    sf.write(folders["reference"] / "c2.wav", music(900, 0.5), RATE)
    sf.write(folders["one"] / "stray.wav", music(900, 2), RATE)
    with pytest.raises(ProblemsError) as caught:
        make(tmp_path / "study", wanted(folders))
    text = str(caught.value)
    assert "c0: missing in system one" in text
    assert "c1: in system two:" in text
    assert "c2: in the reference: 0.50 s is too short" in text
    assert "stray: missing in system two" in text
    assert "stray: missing in the reference" in text
    assert len(caught.value.problems) == 5
    assert not (tmp_path / "study").exists()
    assert not list(tmp_path.glob(".study*"))


def test_midi_systems_are_left_out_of_quality_alone(tmp_path: Path, folders: dict[str, Path]) -> None:
    _, key = make(tmp_path / "q", wanted(folders, midi=frozenset({"two"})))
    assert {c.name for c in key.conditions} == {"one", "reference", "anchor"}
    with pytest.raises(UserError, match="no system of this study"):
        make(tmp_path / "x", wanted(folders, midi=frozenset({"three"})))
    with pytest.raises(UserError, match="every system"):
        make(tmp_path / "x", wanted(folders, midi=frozenset({"one", "two"})))


def test_what_cannot_be_normalised_is_noted_and_never_clips(tmp_path: Path, folders: dict[str, Path]) -> None:
    click = np.zeros(round(1.4 * RATE), np.float32)
    click[RATE // 2] = 0.9
    sf.write(folders["one"] / "c0.wav", click, RATE)
    sf.write(folders["one"] / "c1.wav", np.zeros(round(1.4 * RATE)), RATE)
    _, key = make(tmp_path / "study", wanted(folders))
    assert len(key.notes) == 2
    assert any("c0 by one stays" in note and "dB below" in note for note in key.notes)
    assert "c1 by one is silent and stays so" in key.notes
    sound, lack = stimuli.normalise(np.repeat(click, 2), -23.0)
    assert lack > 3
    assert np.abs(sound).max() <= stimuli.PEAK + 1e-6
    quiet, lack = stimuli.normalise(tone(2, rate=48_000, level=0.01), -23.0)
    assert lack == 0
    assert stimuli.loudness(quiet) == pytest.approx(-23, abs=0.05)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"items": 4}, "3 clips are there for a study of 4"),
        ({"raters": 3}, "without a vote"),
        ({"max_seconds": 0.5}, "--max-seconds"),
        ({"loudness_lufs": 3.0}, "no listening level"),
    ],
)
def test_studies_that_cannot_be_are_one_sentence(
    tmp_path: Path, folders: dict[str, Path], change: dict, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        make(tmp_path / "study", wanted(folders, **change))
    assert not (tmp_path / "study").exists()


def test_nothing_is_overwritten(tmp_path: Path, folders: dict[str, Path]) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        make(tmp_path / "study", wanted(folders))
    assert [path.name for path in (tmp_path / "study").iterdir()] == ["mine.txt"]


def test_the_headphone_check_is_the_published_one() -> None:
    sound = stimuli.headphone_sound(quietest=2, inverted=3)
    third = len(sound) // 3
    tones = [sound[k * third : (k + 1) * third] for k in range(3)]
    level = [20 * math.log10(np.abs(part[:, 0]).max()) for part in tones]
    assert level[0] - level[1] == pytest.approx(6, abs=0.01)
    assert level[0] == pytest.approx(level[2], abs=0.01)
    np.testing.assert_array_equal(tones[2][:, 0], -tones[2][:, 1])
    np.testing.assert_array_equal(tones[0][:, 0], tones[0][:, 1])
    mixed = [np.abs(part.sum(axis=1)).max() for part in tones]
    assert np.argmin(mixed) == 2  # a loudspeaker makes the inverted one the quietest
    with pytest.raises(ValueError, match="not two of"):
        stimuli.headphone_sound(1, 1)
    pips = stimuli.volume_sound(3)
    loud = np.flatnonzero(np.abs(pips) > 0.01)
    assert np.count_nonzero(np.diff(loud) > 4800) + 1 == 3


def test_the_command_takes_systems_in_a_row_and_reports_nobody_yet(tmp_path: Path, folders: dict[str, Path]) -> None:
    runner = CliRunner()
    study = tmp_path / "study"
    done = runner.invoke(
        app,
        [
            *("new", str(study), "--protocol", "quality"),
            *("--systems", f"one={folders['one']}", f"two={folders['two']}"),
            *("--reference", str(folders["reference"]), "--items", "3", "--raters", "8", "--headphone-trials", "0"),
            *("--no-practice", "--checks", "0", "--json"),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert sorted(told["systems"]) == ["one", "two"]
    assert told["votes_a_cell"] == 2.0
    with pytest.raises(UserError, match="nobody has taken part"):
        runner.invoke(app, ["report", str(study)], catch_exceptions=False)
    for arguments, says in (
        (["new", str(tmp_path / "x"), "--systems", "one", "--reference", "r"], "name=DIR"),
        (["new", str(tmp_path / "x"), "--systems", "one=a", "one=b", "--reference", "r"], "two systems"),
        (["new", str(tmp_path / "x"), "--systems", "one=a"], "--reference"),
        (["serve", str(tmp_path / "none")], "holds no study"),
        (["serve", str(study), "--public-url", "nonsense"], "is no address"),
    ):
        with pytest.raises(UserError, match=says):
            runner.invoke(app, arguments, catch_exceptions=False)


def test_a_built_dataset_serves_as_reference_by_clip_or_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = tmp_path / "dataset"
    monkeypatch.chdir(tmp_path)
    private_cache(monkeypatch, tmp_path / "cache")
    export(make_items(tmp_path / "items"), dataset, META)
    # Clips 0 and 1 (song 0), 7 (song 1); 2.5, 4 and 2.03 s. Ids in two ways of writing.
    for system, names in {"one": ("0", "1", "7"), "two": ("clip_000000", "clip_000001", "clip_000007")}.items():
        (tmp_path / system).mkdir()
        for name in names:
            sf.write(tmp_path / system / f"{name}.wav", music(400, 5), RATE)
    systems = {name: tmp_path / name for name in ("one", "two")}
    settings = {"raters": 8, "headphone_trials": 0, "checks": 0, "practice": False}
    _, key = make(tmp_path / "clips", Wanted("coherence", systems, dataset, items=3, **settings))
    lengths = {item: round(row[0].seconds, 1) for item, row in zip(key.items, key.clips, strict=True)}
    assert lengths == {"clip_000000": 2.5, "clip_000001": 4.0, "clip_000007": 2.0}

    sources = {name: tmp_path / f"{name}-segments" for name in systems}
    segments = ("000000_0_1_seg1", "000000_0_1_seg2", "000001_1_7_seg1")
    for folder in sources.values():
        folder.mkdir()
        for name in segments:
            sf.write(folder / f"{name}.wav", music(400, 2), RATE)
    _, key = make(tmp_path / "segments", Wanted("coherence", sources, dataset, items=3, **settings))
    assert sorted(key.items) == sorted(segments)
    assert {round(clip.seconds, 1) for row in key.clips for clip in row} == {2.0}
    with pytest.raises(UserError, match="no split 'nowhere'"):
        make(tmp_path / "x", Wanted("coherence", systems, dataset, split="nowhere", items=3, **settings))


def test_the_mismatched_music_is_of_another_song() -> None:
    pieces = {name: Piece(Path(name), song=song) for name, song in (("a", "1"), ("b", "1"), ("c", "2"), ("d", "3"))}
    lengths = {"a": 2.0, "b": 2.0, "c": 2.0, "d": 1.0}
    chosen = _mismatch(list("abcd"), _Paired({}, pieces, {}), lengths, seed=0)
    assert chosen["a"] in "cd"
    assert chosen["b"] in "cd"
    assert chosen["a"] == "c"  # the other song that is long enough
    assert all(chosen[name] != name for name in "abcd")
    assert chosen == _mismatch(list("abcd"), _Paired({}, pieces, {}), lengths, seed=0)
