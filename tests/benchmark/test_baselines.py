"""Baselines: each sounds as it says, files are whole, named by id, and the same every time."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import mir_eval
import numpy as np
import pytest
import soundfile
import typer
from export_factory import META, make_items
from typer.testing import CliRunner

from tiktok_dm.benchmark import baselines as b
from tiktok_dm.benchmark import codec_round_trip
from tiktok_dm.benchmark.baseline_folders import make_baselines
from tiktok_dm.benchmark.baselines import DIM, LAGS_S, motion_descriptor, nearest_by_motion
from tiktok_dm.benchmark.codec_round_trip import AAC, CodecRoundTrip, open_codec
from tiktok_dm.benchmark.metronome import click_track
from tiktok_dm.benchmark.motion_pulse import DancePulse, clicks_at, dance_pulse, drum_beat
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.cli import evaluate as evaluate_cli
from tiktok_dm.dataset.export import export
from tiktok_dm.errors import UserError
from tiktok_dm.media import encode_audio
from tiktok_dm.synthetic import performance
from tiktok_dm.synthetic.accuracy import as_estimated
from tiktok_dm.synthetic.plan import DemoParams, make_plan

RATE = 22_050


def hum(hz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def walker(period_s: float, seconds: float = 4.0, size: float = 100.0, speed: float = 1.0) -> np.ndarray:
    """Poses of a body with a torso of `size` px that sways with a period; (frames, 1, 25, 3)."""
    frames = round(30 * seconds)
    pose = np.ones((frames, 1, 25, 3), np.float32)
    pose[..., :2] = np.random.default_rng(0).uniform(0, size, (25, 2))
    pose[:, :, 1, :2], pose[:, :, 8, :2] = (0, 0), (0, size)
    sway = size * speed * np.sin(2 * np.pi * np.arange(frames) / 30 / period_s)
    pose[..., 0] += sway[:, None, None]
    return pose


def item(name: str, song: int, seconds: float = 2.0, hz: float = 220.0, **more: object) -> Item:
    return Item(name, encode_audio(hum(hz, seconds), RATE), song_id=song, **more)  # type: ignore[arg-type]


def items_of(songs: list[int]) -> list[Item]:
    return [item(f"c{k}", song, hz=100 + 50 * k) for k, song in enumerate(songs)]


def by_name(items: list[Item], training: list[Item], **more: object) -> dict[str, b.Baseline]:
    return {found.name: found for found in b.baselines(items, training, **more)}  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- each one


def test_all_of_them_in_the_order_of_tables() -> None:
    found = by_name(items_of([0, 1]), items_of([2]), codec=AAC(32))
    assert list(found) == list(b.TITLES)
    assert list(by_name(items_of([0, 1]), [])) == [
        name for name in b.TITLES if name not in ("ground_truth_codec", "nearest_motion", "retrieval_aligned")
    ]


def test_ground_truth_and_silence() -> None:
    one = item("a", 0, 1.7)
    found = by_name([one, item("b", 1)], [])
    assert (found["ground_truth"].make(one) == one.sound()).all()
    assert not found["silence"].make(one).any()
    assert len(found["silence"].make(one)) == len(one.sound())


@pytest.mark.parametrize("songs", [[0, 0, 1, 1], [0, 1, 2, 2, 2, 3], list(range(7))])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffling_is_a_derangement_of_songs(songs: list[int], seed: int) -> None:
    items = items_of(songs)
    found = b.shuffled(items, seed=seed)
    partners = {name: choice["music_of"] for name, choice in found.clips.items()}
    song_of = {one.id: one.song_id for one in items}
    assert sorted(partners.values()) == sorted(song_of)  # each once
    assert all(song_of[name] != song_of[partner] for name, partner in partners.items())
    assert found.notes == ()
    assert b.shuffled(items, seed=seed).clips == found.clips
    other = {one.id: one for one in items}[partners["c0"]]
    assert (found.make(items[0]) == other.sound()).all()


def test_shuffling_depends_on_the_seed() -> None:
    items = items_of(list(range(9)))
    assert b.shuffled(items, seed=0).clips != b.shuffled(items, seed=1).clips


def test_shuffling_where_one_song_dominates() -> None:
    items = items_of([0, 0, 0, 1])
    found = b.shuffled(items)
    assert [found.clips[f"c{k}"]["music_of"] for k in range(3)] == ["c3"] * 3
    assert "more than half" in found.notes[0]
    training = [item("t0", 0), item("t5", 5)]
    alone = b.shuffled(items[:3], training)
    assert {choice["music_of"] for choice in alone.clips.values()} == {"t5"}
    assert "drawn from training" in alone.notes[0]
    with pytest.raises(UserError, match="needs a second one"):
        b.shuffled(items[:3], training[:1])


def test_lengths_are_fitted() -> None:
    sound = np.arange(5.0)
    assert b.fit(sound, 3).tolist() == [0, 1, 2]
    assert b.fit(sound, 12).tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert b.fit(sound, 7, loop=False).tolist() == [0, 1, 2, 3, 4, 0, 0]
    items = [item("long", 0, 3.0), item("short", 1, 1.0)]
    found = b.shuffled(items)
    assert len(found.make(items[0])) == 3 * RATE
    assert (found.make(items[0])[RATE : 2 * RATE] == items[1].sound()).all()
    assert len(found.make(items[1])) == RATE


def attacks(sound: np.ndarray) -> np.ndarray:
    """Seconds at which clicks begin."""
    loud = np.flatnonzero(np.abs(sound) > 0.03)
    return loud[np.concatenate([[True], np.diff(loud) > RATE // 50])] / RATE


def test_the_metronomes() -> None:
    items = [
        item("known", 0, 6.0, tempo_bpm=90.0),
        item("counted", 1, 6.0, beats_s=np.array([0.3, 0.7, 1.1])),
        Item("tracked", encode_audio(click_track(6.0, 100 / 60), RATE), song_id=2),
        Item("flat", encode_audio(np.zeros(6 * RATE), RATE), song_id=3),
    ]
    found = by_name(items, [], seed=3)
    true = found["metronome_true_tempo"]
    for one, bpm in zip(items, (90, 150, 100, 120), strict=True):
        assert true.clips[one.id]["bpm"] == pytest.approx(bpm, rel=5e-3)
        bpm = true.clips[one.id]["bpm"]
        times = attacks(true.make(one))
        assert np.diff(times) == pytest.approx(60 / bpm, abs=1e-3)
        assert times[0] == pytest.approx(true.clips[one.id]["phase"] * 60 / bpm, abs=2e-3)
        assert len(true.make(one)) == len(one.sound())
    assert "1 of 4 dances have no known tempo and got 120 bpm: flat" in true.notes[0]
    fixed = found["metronome_120"]
    assert all(np.diff(attacks(fixed.make(one))) == pytest.approx(0.5, abs=1e-3) for one in items)
    assert len({choice["phase"] for choice in fixed.clips.values()}) == 4
    assert by_name(items, [], seed=3)["metronome_120"].clips == fixed.clips
    assert by_name(items, [], seed=4)["metronome_120"].clips != fixed.clips
    # What one dance gets does not depend on which others there are.
    few = by_name([items[0], item("x", 9)], [], seed=3)
    assert (few["noise"].make(items[0]) == found["noise"].make(items[0])).all()


def test_segments_of_a_clip_have_one_tempo() -> None:
    whole = click_track(8.0, 100 / 60)
    items = [
        Item(f"s{k}", encode_audio(whole[k * 2 * RATE : (k + 1) * 2 * RATE], RATE), song_id=0, clip_id=5)
        for k in range(4)
    ]
    tempos = b.true_tempos(items)
    assert list(tempos.values()) == pytest.approx([100] * 4, rel=5e-3)
    assert len(set(tempos.values())) == 1


def test_noise_is_pink_and_as_loud_as_the_music() -> None:
    import pyloudnorm

    music = 0.3 * hum(300, 5.0)
    noise = b.pink_noise(music, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert len(noise) == len(music)
    meter = pyloudnorm.Meter(RATE, block_size=0.4)
    assert meter.integrated_loudness(noise.astype(float)) == pytest.approx(
        meter.integrated_loudness(music.astype(float)), abs=0.01
    )
    power = np.abs(np.fft.rfft(noise)) ** 2
    hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].sum() for low in (100, 200, 400, 800, 1600, 3200)]
    assert np.array(octaves) / np.mean(octaves) == pytest.approx(1, abs=0.25)  # equal power an octave
    assert power[hertz < 19].sum() < 1e-6 * power.sum()


def test_noise_beside_silence_and_beside_very_loud_music() -> None:
    assert not b.pink_noise(np.zeros(9000, np.float32), np.random.default_rng(0)).any()
    square = np.sign(hum(1000, 2.0))
    assert np.abs(b.pink_noise(square, np.random.default_rng(0))).max() == pytest.approx(0.99)
    short = b.pink_noise(hum(1000, 0.1), np.random.default_rng(0))
    assert np.sqrt(np.mean(short**2)) == pytest.approx(np.sqrt(np.mean(hum(1000, 0.1) ** 2)), rel=1e-3)


# ------------------------------------------------------------------------------------------- by motion


def test_a_descriptor_by_hand() -> None:
    # All joints sway alike, amplitude one torso, period 1 s: the mean of |speed| is 4 torsos a second, its standard
    # deviation over its mean sqrt(pi^2 / 8 - 1); speed repeats every half second.
    found = motion_descriptor(walker(1.0)[:, 0])
    assert found is not None
    assert found.shape == (DIM,)
    assert found[0:8:2] == pytest.approx(np.log(5), abs=0.01)
    assert found[1:8:2] == pytest.approx(np.sqrt(np.pi**2 / 8 - 1), abs=0.02)
    pulse = found[8:]
    assert pulse[np.abs(LAGS_S - 0.5).argmin()] > 0.7
    assert pulse[np.abs(LAGS_S - 0.25).argmin()] < -0.5


def test_a_descriptor_sees_neither_size_nor_place() -> None:
    near, far = walker(0.8), walker(0.8, size=40.0)
    far[..., 0] += 500
    first, second = motion_descriptor(near[:, 0]), motion_descriptor(far[:, 0])
    assert first is not None
    assert second == pytest.approx(first, abs=1e-3)


def test_dances_of_which_nothing_is_seen() -> None:
    assert motion_descriptor(np.zeros((60, 25, 3))) is None
    assert motion_descriptor(walker(1.0)[:2, 0]) is None
    hidden = walker(1.0)
    hidden[20:, ..., 2] = 0
    hidden[20:, ..., :2] = 0
    partly = motion_descriptor(hidden[:, 0])
    assert partly is not None
    assert np.isfinite(partly).all()
    a, c = motion_descriptor(walker(0.6)[:, 0]), motion_descriptor(walker(1.0)[:, 0])
    found = nearest_by_motion([c, None], [None, a, c])
    assert found[0] == (2, 0.0)
    assert found[1][0] in (1, 2)
    assert np.isnan(found[1][1])
    assert nearest_by_motion([c], [None, None])[0][0] == 0


def test_the_nearest_dance_gives_its_music() -> None:
    training = [
        item(f"t{k}", k + 5, hz=100 + 100 * k, poses=walker(period, speed=speed))
        for k, (period, speed) in enumerate([(0.6, 0.5), (0.9, 0.5), (1.4, 0.5), (0.9, 2.0)])
    ]
    wanted = [item("w0", 0, poses=walker(0.92, size=50.0, speed=0.5)), item("w1", 1)]
    found = b.nearest_motion(wanted, training)
    assert found.clips["w0"]["music_of"] == "t1"
    assert (found.make(wanted[0]) == training[1].sound()).all()
    assert found.clips["w1"]["distance"] is None
    assert "1 of 2 dances show too little" in found.notes[0]
    itself = b.nearest_motion(training, training, leave_out_itself=True)
    assert all(name != choice["music_of"] for name, choice in itself.clips.items())


# ------------------------------------------------------------------------------------------- codecs


def test_aac_keeps_place_and_length() -> None:
    sound = (0.2 * np.random.default_rng(0).standard_normal(30_000)).astype(np.float32)
    sound = np.convolve(sound, np.ones(24) / 24, "same").astype(np.float32)
    codec = AAC(64)
    assert isinstance(codec, CodecRoundTrip)
    back = codec(sound, RATE)
    assert len(back) == len(sound)
    lag = np.correlate(back, sound, "full").argmax() - (len(sound) - 1)
    assert lag == 0
    assert np.corrcoef(back, sound)[0, 1] > 0.95
    assert (back != sound).any()
    assert (codec(sound, RATE) == back).all()
    worse = AAC(16)(sound, RATE)
    assert np.mean((worse - sound) ** 2) > np.mean((back - sound) ** 2)


class Halved:
    name, licence = "halved", "non-commercial"

    def __init__(self, factor: str = "0.5") -> None:
        self.factor = float(factor)

    def __call__(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        return self.factor * audio[:-5]


def test_codecs_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_codec("none") is None
    aac = open_codec("aac:48")
    assert isinstance(aac, AAC)
    assert aac.kilobits == 48
    module = ModuleType("somebodys.codecs")
    module.Halved = Halved  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys.codecs", module)
    here = "somebodys.codecs:Halved"
    assert open_codec(here).factor == 0.5  # type: ignore[union-attr]
    assert open_codec(f"{here}:0.25").factor == 0.25  # type: ignore[union-attr]

    class Point:
        name = "d2m"

        def load(self) -> type:
            return Halved

    monkeypatch.setattr(codec_round_trip, "added", lambda kind: {"d2m": Point()} if kind == "codecs" else {})
    monkeypatch.setattr(codec_round_trip, "load", lambda kind, name: Point().load())
    assert open_codec("d2m:0.75").factor == 0.75  # type: ignore[union-attr]
    for spec, words in {
        "mp3": "choose one of none, aac, d2m",
        "aac:loud": "8 to 256",
        "no.such.module:load": "cannot be imported",
        "json.decoder:nothing": "cannot be imported",
        "builtins.x:y": "cannot be imported",
        "pathlib.Path:x": "cannot be imported",
        "os.path:join:x": "gives no codec",
    }.items():
        with pytest.raises(UserError, match=words):
            open_codec(spec)


def test_a_codec_that_gives_less_is_filled_up() -> None:
    one = item("a", 0)
    found = by_name([one, item("b", 1)], [], codec=Halved())
    sound = found["ground_truth_codec"].make(one)
    assert sound == pytest.approx(np.concatenate([0.5 * one.sound()[:-5], np.zeros(5)]))
    assert found["ground_truth_codec"].parameters == {"codec": "halved", "licence": "non-commercial"}


# ------------------------------------------------------------------------------------------- that watch the dance


def demo_dances(seed: int, clips: int = 12, groove: str = "human") -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Lead dancers' true poses (frames, 25, 3) as an estimator sees them, beats that they dance to, seconds."""
    params = DemoParams(clips=clips, songs=clips // 2, compilations=2, seed=seed, groove=groove)
    rng, found = np.random.default_rng(seed), []
    for clip in (clip for compilation in make_plan(params) for clip in compilation.clips):
        seconds = clip.frames / params.fps
        joints = performance.joints_px(params, clip, np.arange(int(30 * seconds)) / 30)[:, :1]
        poses = as_estimated(np.concatenate([joints, np.ones((*joints.shape[:3], 1))], axis=-1), rng)
        beats = np.asarray(performance.beats_of(params, clip))
        found.append((poses[:, 0], beats[(beats >= 0) & (beats < seconds)], seconds))
    return found


@pytest.mark.parametrize(("groove", "mean_f", "tempo_right"), [("exact", 0.85, 0.85), ("human", 0.65, 0.8)])
def test_the_pulse_of_drawn_dances_is_that_of_their_music(groove: str, mean_f: float, tempo_right: float) -> None:
    """On dances of seeds that no constant was chosen on, which move at half and double time too."""
    scores, ratios = [], []
    for poses, beats, seconds in (dance for seed in (10, 11, 12) for dance in demo_dances(seed, groove=groove)):
        pulse = dance_pulse(poses)
        assert pulse is not None
        scores.append(mir_eval.beat.f_measure(beats, pulse.beats_s(seconds)))
        octaves = np.log2(pulse.bpm * np.median(np.diff(beats)) / 60)
        ratios.append(abs(octaves - round(octaves)))
    assert np.mean(scores) > mean_f
    assert np.mean(np.array(ratios) < np.log2(1.04)) > tempo_right


def test_a_pulse_is_known_whatever_its_phase() -> None:
    """A body that stops at 0.1 s, 0.6 s and so on: 120 a minute."""
    time = np.arange(300) / 30
    pose = np.ones((300, 25, 3))
    pose[:, :, 0] = np.cumsum(np.abs(np.sin(2 * np.pi * (time - 0.1 - 1 / 60))))[:, None] * 10
    pulse = dance_pulse(pose)
    assert pulse is not None
    assert pulse.bpm == pytest.approx(120, rel=0.01)
    assert pulse.first_s % 0.5 == pytest.approx(0.1, abs=0.02)
    assert pulse.beats_s(1.6) == pytest.approx(pulse.first_s + 60 / pulse.bpm * np.arange(len(pulse.beats_s(1.6))))
    assert dance_pulse(np.ones((300, 25, 3))) is None
    assert dance_pulse(pose * [1, 1, 0]) is None
    assert dance_pulse(pose[:2]) is None


def test_drums_and_clicks_lie_on_the_pulse() -> None:
    pulse = DancePulse(120.0, 0.25)
    drums = drum_beat(pulse, 2 * RATE)
    assert np.abs(drums).max() == pytest.approx(0.9)
    low = np.array([np.abs(drums[round(t * RATE) : round((t + 0.05) * RATE)]).max() for t in (0.25, 0.75, 1.25, 1.75)])
    assert (low > 0.5).all()
    assert not drums[: round(0.25 * RATE)].any()
    hats = np.array([np.abs(drums[round(t * RATE) : round((t + 0.01) * RATE)]).max() for t in (0.5, 1.0, 1.5)])
    assert (hats > 0.05).all()
    assert (hats < 0.5).all()
    clicks = clicks_at(np.array([0.1, 1.999]), 2 * RATE)
    assert np.flatnonzero(np.abs(clicks) > 0.01)[0] / RATE == pytest.approx(0.1, abs=0.001)


def test_what_watches_the_dance_sounds_where_it_beats() -> None:
    time = np.arange(240) / 30
    poses = np.ones((240, 1, 25, 3), np.float32)
    poses[..., 0] = (np.cumsum(np.abs(np.sin(2 * np.pi * (time - 0.2 - 1 / 60)))) * 10)[:, None, None]
    dance = item("d", 0, 8.0, poses=poses)
    beats = np.arange(0.3, 12, 0.6)
    known = item("t", 1, 12.0, poses=poses, beats_s=beats, tempo_bpm=100.0)
    known = replace(known, audio=encode_audio(clicks_at(beats, 12 * RATE), RATE))
    found = by_name([dance], [known])

    def onsets(name: str) -> np.ndarray:
        sound = np.abs(found[name].make(dance))
        assert len(sound) == 8 * RATE
        loud = np.flatnonzero(sound > 0.3 * sound.max()) / RATE
        return loud[np.r_[True, np.diff(loud) > 0.15]]

    wanted = np.arange(0.2, 8, 0.5)
    for name in ("motion_metronome", "motion_drums", "retrieval_aligned"):
        scored = mir_eval.beat.f_measure(wanted, onsets(name), f_measure_threshold=0.05)
        assert scored > 0.93, name
    assert found["retrieval_aligned"].clips["d"] == {"music_of": "t", "rate": pytest.approx(1.2, rel=0.01)}
    assert mir_eval.beat.f_measure(wanted[1:-1], onsets("motion_hits"), f_measure_threshold=0.05) > 0.93


# ------------------------------------------------------------------------------------------- files

CLIPS = (
    (0, 0, 0, "train", 75, 1, 1),
    (1, 0, 3, "train", 120, 2, None),
    (4, 1, 1, "test", 61, 1, 1),
    (7, 1, 2, "test", 90, 1, 1),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baselines")
    export(make_items(folder / "items", CLIPS), folder / "tiny", META)
    return folder / "tiny"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        ("clips", {"clip_000004": 61 / 30, "clip_000007": 3.0}),
        ("segments", {"000001_1_4_seg1": 2.0, "000001_2_7_seg1": 2.0}),
    ],
)
def test_the_folders(dataset: Path, tmp_path: Path, config: str, ids: dict[str, float]) -> None:
    names = make_baselines(dataset, tmp_path / "out", config=config, codec=AAC(32), seed=5)
    assert names == list(b.TITLES)
    files = contents(tmp_path / "out")
    assert set(files) == {f"{name}/{file}" for name in names for file in ["baseline.json", *(f"{k}.wav" for k in ids)]}
    for name in names:
        for k, seconds in ids.items():
            sound, rate = soundfile.read(io.BytesIO(files[f"{name}/{k}.wav"]))
            assert (rate, sound.shape) == (RATE, (round(seconds * RATE),)), name
            assert np.isfinite(sound).all()
        about = json.loads(files[f"{name}/baseline.json"])
        assert (about["baseline"], about["title"], about["n"], about["seed"]) == (name, b.TITLES[name], 2, 5)
        assert about["dataset"]["split"] == "test"
        assert about["dataset"]["config"] == config
        assert len(about["dataset"]["export"]) > 8
        assert about["what"]
    about = {name: json.loads(files[f"{name}/baseline.json"]) for name in names}
    shuffle = about["shuffled"]["clips"]
    assert {k: v["music_of"] for k, v in shuffle.items()} == dict(zip(ids, reversed(ids), strict=True))
    nearest = {choice["music_of"] for choice in about["nearest_motion"]["clips"].values()}
    assert all(("clip_00000" in k) if config == "clips" else k.startswith("000000_") for k in nearest)
    assert about["metronome_true_tempo"]["clips"][next(iter(ids))]["bpm"] == 104
    assert "AAC-LC 32 kbit/s" in about["ground_truth_codec"]["parameters"]["codec"]
    again = tmp_path / "again"
    make_baselines(dataset, again, config=config, codec=AAC(32), seed=5)
    assert contents(again) == files


def test_the_verb(dataset: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    evaluate_cli.register(app)
    app.command("other")(lambda: None)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["baselines", str(dataset), "--out", str(out), "--codec", "none", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert list(told["baselines"]) == [name for name in b.TITLES if name != "ground_truth_codec"]
    assert told["baselines"]["noise"] == {"n": 2, "title": "noise", "notes": []}
    before = contents(out)
    again = CliRunner().invoke(app, ["baselines", str(dataset), "--out", str(out)])
    assert isinstance(again.exception, UserError)
    assert "exists already" in str(again.exception)
    assert contents(out) == before


def test_what_cannot_be_made(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, more, words in (
        (tmp_path, {}, "holds no dataset"),
        (dataset, {"split": "validation"}, "has no clips of the split"),
        (dataset, {"split": "x"}, "no split"),
        (dataset, {"config": "songs"}, "no configuration"),
    ):
        with pytest.raises(UserError, match=words):
            make_baselines(folder, tmp_path / "none", **more)  # type: ignore[arg-type]
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        make_baselines(dataset, tmp_path / "file")

    def broken(*_: object) -> np.ndarray:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(b, "pink_noise", broken)
    with pytest.raises(UserError, match="No space left"):
        make_baselines(dataset, tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
