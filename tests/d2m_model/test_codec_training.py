from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from typer.testing import CliRunner

from d2m_model.cli.codec import app
from d2m_model.codec import training
from d2m_model.codec.ema_codebook import EmaCodebook
from d2m_model.codec.files import open_codec, write_codec
from d2m_model.codec.jukebox import Codebook, JukeboxConfig, JukeboxVQVAE
from d2m_model.codec.losses import CodecLosses
from d2m_model.codec.training import COLUMNS, scale_latent, train_codec
from d2m_model.codec.training_config import CodecTrainingConfig, codec_training_config, read_codec_training_config
from d2m_model.codec.training_data import Crops, Sound, hold_out, read_sounds, to_int16
from tiktok_dm.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------------------- the code-book


def test_moving_averages_by_hand():
    # Two codes, decay 1/2, no smoothing to speak of. Row 0 gets latents 2 and 4, row 1 none.
    codebook, ema = Codebook(2, 1), EmaCodebook(2, 1, decay=0.5, epsilon=1e-12)
    ema.adopt(codebook, torch.tensor([[1.0], [10.0]]), n_latents=4)  # N = 2, 2; m = 2, 20
    assert ema.counts.tolist() == [2.0, 2.0]
    ema.update(codebook, torch.tensor([[2.0], [4.0]]), torch.tensor([0, 0]))
    assert ema.counts.tolist() == [2.0, 1.0]  # 1 + 1, 1 + 0
    assert ema.sums[:, 0].tolist() == [4.0, 10.0]  # 1 + 3, 10 + 0
    assert torch.allclose(codebook.k[:, 0], torch.tensor([2.0, 10.0]))
    ema.update(codebook, torch.tensor([[2.0], [10.0], [14.0]]), torch.tensor([0, 1, 1]))
    assert ema.counts.tolist() == [1.5, 1.5]
    assert ema.sums[:, 0].tolist() == [3.0, 17.0]
    assert torch.allclose(codebook.k[:, 0], torch.tensor([2.0, 34 / 3]))


def test_laplace_smoothing_by_hand():
    # N = 3, 1 after the update, epsilon 1: N' = (4, 2) / (4 + 2) * 4 = 8/3, 4/3.
    codebook, ema = Codebook(2, 1), EmaCodebook(2, 1, decay=0.0, epsilon=1.0)
    ema.update(codebook, torch.tensor([[1.0], [1.0], [1.0], [5.0]]), torch.tensor([0, 0, 0, 1]))
    assert ema.counts.tolist() == [3.0, 1.0]
    assert torch.allclose(codebook.k[:, 0], torch.tensor([3 / (8 / 3), 5 / (4 / 3)]))


def test_the_rows_settle_on_the_means_of_their_latents():
    codebook, ema = Codebook(3, 2), EmaCodebook(3, 2, decay=0.8)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0]])
    ema.adopt(codebook, centres + torch.randn(3, 2), 30)
    for _ in range(80):
        latents = centres.repeat(10, 1) + 0.1 * torch.randn(30, 2, generator=generator(1))
        ema.update(codebook, latents, codebook.nearest(latents.t()[None])[0])
    # The same latents each time: every row is their mean within its cluster.
    for row in range(3):
        assert torch.allclose(codebook.k[row], latents[row::3].mean(0), atol=1e-4)


def test_dead_codes_become_latents_of_the_batch():
    codebook, ema = Codebook(4, 2), EmaCodebook(4, 2, dead_below=0.5)
    ema.adopt(codebook, torch.full((4, 2), 9.0), 16)
    ema.counts.copy_(torch.tensor([4.0, 1.0, 10.0, 1.0]))  # even share 4; below 2 is dead
    latents = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    assert ema.restart(codebook, latents, generator()) == 2
    assert codebook.k[[0, 2]].tolist() == [[9.0, 9.0]] * 2
    rows = codebook.k[[1, 3]].tolist()
    assert all(row in latents.tolist() for row in rows)
    assert rows[0] != rows[1]
    assert ema.counts.tolist() == [4.0, 4.0, 10.0, 4.0]
    assert torch.equal(ema.sums[[1, 3]], codebook.k[[1, 3]] * 4)
    assert ema.restart(codebook, latents, generator()) == 0


def test_starting_from_data():
    codebook, ema = Codebook(8, 3), EmaCodebook(8, 3)
    latents = torch.randn(50, 3)
    ema.start(codebook, latents, generator())
    rows = {tuple(row) for row in codebook.k.tolist()}
    assert len(rows) == 8
    assert rows <= {tuple(row) for row in latents.tolist()}
    assert torch.allclose(ema.sums / ema.counts[:, None], codebook.k)
    assert float(ema.counts.sum()) == pytest.approx(50)
    # Fewer latents than codes: all of them, and the rest near them.
    few = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    ema.start(codebook, few, generator())
    assert {tuple(row) for row in codebook.k[:3].tolist()} == {tuple(row) for row in few.tolist()}
    assert len({tuple(row) for row in codebook.k.tolist()}) == 8
    assert (codebook.k - codebook.k.round()).abs().max() < 0.05


def test_scaling_the_latent_changes_no_bit_of_what_is_heard(small_codec: JukeboxVQVAE):
    audio = torch.randn(1, 1, 2048)
    latent = small_codec.encode(audio)
    codes, rows = small_codec.quantise(latent)
    again = small_codec.decode(rows)
    scale_latent(small_codec, 8.0)
    assert torch.equal(small_codec.encode(audio), 8 * latent)
    after = small_codec.quantise(small_codec.encode(audio))
    assert torch.equal(after.codes, codes)
    assert torch.equal(small_codec.decode(after.latent), again)


# -------------------------------------------------------------------------------------------------------- losses


def test_the_total_is_the_weighted_sum(small_codec: JukeboxVQVAE):
    config = settings(waveform_weight=2.0, spectral_weight=3.0, commitment_weight=0.5, waveform="l2")
    audio = 0.3 * torch.randn(2, 1, 2048)
    out = CodecLosses(small_codec, config)(audio)
    latent = small_codec.encode(audio)
    rows = small_codec.quantise(latent).latent
    assert float(out["waveform"]) == pytest.approx(float(((small_codec.decode(rows) - audio) ** 2).mean()))
    assert float(out["commitment"]) == pytest.approx(float(((latent - rows) ** 2).mean()))
    total = 2 * out["waveform"] + 3 * out["spectral"] + 0.5 * out["commitment"]
    assert float(out["total"]) == pytest.approx(float(total))
    assert out["latent"].shape == (2 * 16, 8)
    assert torch.equal(out["latent"][:16], latent[0].t())
    unquantised = CodecLosses(small_codec, config)(audio, False)
    assert "commitment" not in unquantised
    assert float(unquantised["waveform"]) == pytest.approx(float(((small_codec.decode(latent) - audio) ** 2).mean()))


def test_the_encoder_learns_through_the_code_book(small_codec: JukeboxVQVAE):
    small_codec.requires_grad_(True)
    CodecLosses(small_codec, settings(commitment_weight=0.0))(torch.randn(1, 1, 2048))["total"].backward()
    gradients = [parameter.grad for parameter in small_codec.encoders.parameters()]
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients)
    assert not small_codec.codebook.k.requires_grad


# ---------------------------------------------------------------------------------------------------------- data


def sound(name: str, samples: int, group: str = "", value: float = 0.1) -> Sound:
    return Sound(name, group or name, to_int16(np.full(samples, value)))


def test_a_batch_is_a_function_of_seed_and_step():
    ramp = Sound("ramp", "ramp", np.arange(10_000, dtype=np.int16))
    crops = Crops([ramp, sound("empty", 0)], 256, 4, seed=3)
    again = Crops([ramp, sound("empty", 0)], 256, 4, seed=3)
    again.at(0)
    assert np.array_equal(crops.at(7), again.at(7))
    assert not np.array_equal(crops.at(7), crops.at(8))
    assert not np.array_equal(crops.at(7), Crops([ramp], 256, 4, seed=4).at(7))
    batch = crops.at(7) * 32767
    assert batch.shape == (4, 1, 256)
    assert np.allclose(np.diff(batch, axis=-1), 1, atol=1e-2)  # whole stretches of the ramp
    assert len(set(batch[:, 0, 0].round())) == 4


def test_short_sounds_are_followed_by_silence_and_gains_stay_in_bounds():
    batch = Crops([sound("short", 100, value=0.5)], 256, 64, seed=0, quietest=0.25).at(0)
    assert (batch[:, 0, 100:] == 0).all()
    levels = batch[:, 0, 0]
    assert (batch[:, 0, :100] == levels[:, None]).all()
    assert levels.min() >= 0.125 - 1e-4
    assert levels.max() <= 0.5 + 1e-4
    assert levels.max() - levels.min() > 0.2


def test_long_sounds_are_heard_in_proportion():
    sounds = [sound("long", 9000, value=0.1), sound("short", 1000, value=0.9)]
    crops = Crops(sounds, 100, 100, seed=0)
    share = np.mean([(crops.at(step)[:, 0, 0] > 0.5).mean() for step in range(20)])
    assert share == pytest.approx(0.1, abs=0.03)


def test_whole_songs_are_held_out():
    sounds = [sound(f"s{song}_{k}", 1000, f"song {song}") for song in range(5) for k in range(4)]
    train, held = hold_out(sounds, 0.3, seed=0)
    assert len(held) == 8  # 0.3 of 20 is 6; whole songs of 4
    assert not {one.group for one in train} & {one.group for one in held}
    assert sorted(one.name for one in train + held) == sorted(one.name for one in sounds)
    assert hold_out(sounds, 0.3, seed=0)[1] == held
    assert len(hold_out(sounds, 0.999, seed=0)[0]) == 4  # one song is left to train on
    train, held = hold_out([sound("only", 1000)], 0.1, seed=0)
    assert (len(train[0].samples), len(held[0].samples)) == (900, 100)
    assert hold_out(sounds, 0.0, seed=0) == (sounds, [])


def test_audio_that_is_none_is_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="There is no audio at"):
        read_sounds(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no sound files"):
        read_sounds(tmp_path)
    (tmp_path / "broken.wav").write_bytes(b"no sound at all")
    with pytest.raises(UserError, match=r"broken\.wav cannot be used as audio"):
        read_sounds(tmp_path)


def test_a_dataset_gives_its_training_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import io

    from datasets import Dataset, DatasetDict

    from tiktok_dm import reading

    def encoded(value: float) -> dict[str, Any]:
        file = io.BytesIO()
        soundfile.write(file, np.full(44100, value, np.float32), 22050, format="FLAC")
        return {"bytes": file.getvalue(), "path": "a.flac"}

    rows = {
        "train": [{"segment_id": "a", "song_id": 3, "audio": encoded(0.25), "motion": [0.0]}],
        "test": [{"segment_id": "b", "song_id": 4, "audio": encoded(0.5), "motion": [0.0]}],
    }
    opened = DatasetDict({split: Dataset.from_list(each) for split, each in rows.items()})
    asked = []
    monkeypatch.setattr(reading, "open_dataset", lambda path, config, streaming: asked.append(config) or opened)
    (tmp_path / "README.md").write_text("card")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.parquet").touch()
    (one,) = read_sounds(tmp_path)
    assert asked == ["segments"]
    assert (one.name, one.group) == ("a", "song 3")
    assert one.samples.shape == (44100,)
    assert np.allclose(one.audio(), 0.25, atol=1e-4)
    del opened["train"]
    with pytest.raises(UserError, match="has no training split"):
        read_sounds(tmp_path)


# ------------------------------------------------------------------------------------------------- configuration

SIZES = {"width": 8, "depth": 1, "latent_channels": 8, "n_codes": 16}
VALUES: dict[str, Any] = {
    "audio": "music",
    "out": "run",
    "codec": SIZES,
    "crop_frames": 16,
    "batch": 4,
    "steps": 6,
    "learning_rate": 1e-3,
    "warmup": 2,
    "ffts": [512, 256],
    "quantise_from": 1,
    "log_every": 1,
    "validate_every": 3,
    "save_every": 3,
    "validation_batches": 2,
    "accelerator": "cpu",
    "threads": 1,
    "logger": "none",
}


def settings(**changes: Any) -> CodecTrainingConfig:
    return codec_training_config({**VALUES, **changes}, "a test")


def test_configuration_from_a_file_with_settings_on_top(tmp_path: Path):
    path = tmp_path / "small.yaml"
    path.write_text("audio: music\ncodec:\n  width: 8\n  downs: [3, 2, 2]\nffts: [512]\n")
    config = read_codec_training_config(path, ["codec.n_codes=64", "learning_rate=1e-4", "steps=10", "clip=2"])
    assert config.codec == JukeboxConfig(width=8, n_codes=64)
    assert (config.learning_rate, config.steps, config.clip, config.ffts) == (1e-4, 10, 2.0, (512,))
    assert config.out == "runs/small"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("learning_rat=1", "did you mean 'learning_rate'?"),
        ("codec.widht=1", "did you mean 'width'?"),
        ("steps=many", "'steps' in the configuration of .* is 'many'; it must be of type int"),
        ("steps=0", "steps is 0; give 1 or more"),
        ("quantise_from=6", "quantise_from is 6; give a number below steps"),
        ("level=hihg", "did you mean 'high'?"),
        ("codec.downs=[3,2,1]", "make a hop of 64; level high has a hop of 128"),
        ("codec.n_codes=0", "n_codes is 0"),
        ("precision=16", "precision"),
        ("waveform=l3", "choose one of l1, l2"),
        ("steps", "write key=value"),
        ("audio=", "has no audio|'audio'"),
    ],
)
def test_mistakes_in_a_configuration_are_one_sentence(tmp_path: Path, setting: str, said: str):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(VALUES))
    with pytest.raises(UserError, match=said.replace("?", r"\?")) as caught:
        read_codec_training_config(path, [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["demo", "jukebox_high", "jukebox_low"])
def test_shipped_configurations_explain_every_line(name: str):
    path = ROOT / "d2m_model" / "configs" / "codec" / f"{name}.yaml"
    config = read_codec_training_config(path)
    assert config.out == f"runs/codec_{name}"
    for line in path.read_text().splitlines():
        assert not line.strip() or line.strip() == "codec:" or "#" in line, f"{path.name}: {line!r} explains nothing"
    if name != "demo":
        assert config.codec == JukeboxConfig()
        assert config.level == name.removeprefix("jukebox_")


# ------------------------------------------------------------------------------------------------------ training


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        time = np.arange(22050) / 22050
        audio = 0.4 * np.sin(2 * np.pi * 220 * 2 ** (number / 6) * time) + 0.01 * rng.standard_normal(22050)
        soundfile.write(folder / f"{number}.wav", audio, 22050)
    return folder


def losses(run: Path) -> list[list[str]]:
    with (run / "losses.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_a_killed_and_continued_run_gives_the_same_numbers(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed at step 5, between the checkpoints of steps 3 and 6: steps 4 and 5 are done twice."""
    config = settings(audio=str(music), out=str(tmp_path / "whole"), quietest_gain=0.5, ema=0.5, dead_below=0.5)
    train_codec(config)
    whole, broken = tmp_path / "whole", tmp_path / "broken"

    class Killed(BaseException):
        pass

    one_step = training._Run._one_step

    def dies(run: training._Run) -> dict[str, Any]:
        if run.step == 5:
            raise Killed
        return one_step(run)

    again = dataclasses.replace(config, out=str(broken))
    monkeypatch.setattr(training._Run, "_one_step", dies)
    with pytest.raises(Killed):
        train_codec(again)
    assert json.loads((broken / "last" / "training.json").read_text())["step"] == 3
    assert [row[0] for row in losses(broken)] == ["step", "1", "2", "3", "3", "4", "5"]
    monkeypatch.setattr(training._Run, "_one_step", one_step)
    torch.manual_seed(99)  # a new process has another random state
    train_codec(again)

    assert losses(broken) == losses(whole)
    rows = losses(whole)
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "3", "4", "5", "6", "6"]
    restarted = rows[0].index("restarted")
    assert sum(float(row[restarted] or 0) for row in rows[1:]) > 0  # restarts are part of what is the same
    for name in ("last", "best"):
        for file in ("codec.safetensors", "codec.yaml", "training.json"):
            assert (broken / name / file).read_bytes() == (whole / name / file).read_bytes()
    mine, theirs = (torch.load(run / "last" / "state.pt", weights_only=True) for run in (broken, whole))
    assert torch.equal(mine["ema"]["sums"], theirs["ema"]["sums"])
    for index, moments in theirs["optimiser"]["state"].items():
        assert torch.equal(mine["optimiser"]["state"][index]["exp_avg_sq"], moments["exp_avg_sq"])


def test_the_folder_of_a_run(tmp_path: Path, music: Path):
    run = tmp_path / "run"
    train_codec(settings(audio=str(music), out=str(run), logger="tensorboard"))
    codec = open_codec(run / "best", 2)
    assert (codec.hop, codec.n_codes, codec.licence) == (128, 16, "")
    # The best codec is the one of the last checkpoint here, with a latent scaled to about 1.
    last = open_codec(run / "last", 2)
    sounds = torch.from_numpy(np.concatenate([one.audio() for one in read_sounds(music)]))[None, None, :44100]
    latent, unscaled = codec.encode(sounds), last.encode(sounds)
    assert 0.5 < float(latent.std()) < 2
    assert float(unscaled.std()) < 0.25
    assert torch.equal(codec.quantise(latent).codes, last.quantise(unscaled).codes)
    training_json = json.loads((run / "best" / "training.json").read_text())
    assert training_json["finished"]
    assert training_json["quality"]["held_out"]
    assert len(training_json["quality"]["sounds"]) == 1  # one of four files
    assert training_json["quality"]["mean"]["mel_l1"] > 0
    assert yaml.safe_load((run / "config.yaml").read_text())["codec"]["width"] == 8
    assert list((run / "tensorboard").glob("events.*"))
    # The same command on a finished run changes nothing.
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    train_codec(settings(audio=str(music), out=str(run), logger="tensorboard"))
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path in before}
    assert after == before


def test_a_run_killed_while_it_measures_is_measured_afterwards(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch
):
    config = settings(audio=str(music), out=str(tmp_path / "run"), steps=2)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "measure", interrupted)
        with pytest.raises(UserError, match=r"Stopped; the same command goes on from step 2\."):
            train_codec(config)
    path = tmp_path / "run" / "last" / "training.json"
    assert json.loads(path.read_text())["quality"] is None
    train_codec(config)
    assert json.loads(path.read_text())["quality"]["mean"]["seconds"] > 0


def test_half_precision_gives_nearly_the_same_losses(tmp_path: Path, music: Path):
    rows = []
    for precision in ("32-true", "bf16-mixed"):
        run = tmp_path / precision
        train_codec(settings(audio=str(music), out=str(run), steps=2, precision=precision))
        rows.append(losses(run)[1])
    column = ["step", *COLUMNS].index("total")
    assert float(rows[0][column]) != float(rows[1][column])
    assert float(rows[0][column]) == pytest.approx(float(rows[1][column]), rel=0.02)


def test_a_mistake_claims_no_folder(tmp_path: Path, music: Path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="A crop of 2 frames has 256 samples, fewer than the longest FFT of 512"):
        train_codec(settings(audio=str(music), out=str(run), crop_frames=2))
    with pytest.raises(UserError, match="There is no audio"):
        train_codec(settings(audio=str(tmp_path / "absent"), out=str(run)))
    assert not run.exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, music: Path):
    run = tmp_path / "run"
    config = settings(audio=str(music), out=str(run), steps=1, quantise_from=0)
    train_codec(config)
    with pytest.raises(UserError, match=r"another configuration \(batch is 2, was 4\); give another out=FOLDER\."):
        train_codec(dataclasses.replace(config, batch=2))
    with pytest.raises(UserError, match=r"\(codec\.n_codes is 32, was 16\)"):
        train_codec(dataclasses.replace(config, codec=dataclasses.replace(config.codec, n_codes=32)))
    # Where the learning rate does not depend on it, more steps are the same run.
    train_codec(dataclasses.replace(config, steps=2))
    assert json.loads((run / "last" / "training.json").read_text())["step"] == 2
    soundfile.write(music / "more.wav", np.zeros(3000), 22050)
    with pytest.raises(UserError, match=r"is not what the run in .* was trained on"):
        train_codec(dataclasses.replace(config, steps=3))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="exists already and holds no codec training"):
        train_codec(dataclasses.replace(config, out=str(other)))
    assert [path.name for path in other.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("where", ["loss", "weights"])
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, music: Path, monkeypatch: pytest.MonkeyPatch, where: str
):
    run = tmp_path / "run"
    one_step = training._Run._one_step

    def breaks(self: training._Run) -> dict[str, Any]:
        if where == "loss" and self.step == 4:
            with torch.no_grad():
                next(self.codec.parameters()).fill_(float("nan"))
        result = one_step(self)
        if where == "weights" and self.step == 6:
            with torch.no_grad():
                next(self.codec.parameters()).fill_(float("inf"))
        return result

    monkeypatch.setattr(training._Run, "_one_step", breaks)
    said = {"loss": "The loss is not a number at step 5", "weights": "The weights are not numbers after step 6"}[where]
    # In the second case the validation of the broken weights gives no number, so nothing takes the place of the best.
    with pytest.raises(UserError, match=rf"{said}: the last good checkpoint, of step 3, is in .*last") as caught:
        train_codec(settings(audio=str(music), out=str(run)))
    assert "\n" not in str(caught.value)
    for name in ("last", "best"):
        assert json.loads((run / name / "training.json").read_text())["step"] == 3
        assert all(torch.isfinite(value).all() for value in open_codec(run / name, 2).state_dict().values())


def test_going_on_from_a_codec(tmp_path: Path, music: Path):
    given = JukeboxVQVAE(2, JukeboxConfig(**SIZES))
    given.licence = "Only on Sundays."
    (tmp_path / "given").mkdir()
    write_codec(given, tmp_path / "given")
    values = {key: value for key, value in VALUES.items() if key != "codec"}
    values |= {
        "audio": str(music),
        "out": str(tmp_path / "run"),
        "init": str(tmp_path / "given"),
        "steps": 1,
        "quantise_from": 0,
    }
    values |= {"learning_rate": 1e-6, "ema": 0.9999, "dead_below": 0.0}
    train_codec(codec_training_config(values, "a test"))
    with pytest.raises(UserError, match="has other sizes than the codec section"):
        train_codec(codec_training_config({**values, "codec": {**SIZES, "width": 4}, "out": "x"}, "a test"))
    codec = open_codec(tmp_path / "run" / "last", 2)
    assert codec.licence == "Only on Sundays."  # what is made from weights keeps their licence
    for name, value in codec.state_dict().items():
        assert torch.allclose(value, given.state_dict()[name], atol=1e-2 if name.endswith(".k") else 1e-5), name


def test_a_small_codec_learns_to_give_a_tone_back(tmp_path: Path):
    time = np.arange(44100) / 22050
    noise = 0.005 * np.random.default_rng(0).standard_normal(44100)
    soundfile.write(tmp_path / "tone.wav", 0.4 * np.sin(2 * np.pi * 220 * time) + noise, 22050)
    config = settings(
        audio=str(tmp_path / "tone.wav"),
        out=str(tmp_path / "run"),
        codec={"width": 16, "depth": 1, "latent_channels": 8, "n_codes": 32},
        steps=120,
        learning_rate=4e-3,
        schedule="cosine",
        warmup=10,
        quantise_from=50,
        log_every=10,
        validate_every=120,
        save_every=120,
        spectral_weight=0.0,
        ffts=[],
    )
    train_codec(config)
    rows = losses(tmp_path / "run")
    column = rows[0].index("waveform")
    waveform = [float(row[column]) for row in rows[1:] if row[1] == "train"]
    assert waveform[0] > 0.2  # a sine of amplitude 0.4 has a mean modulus of 0.25
    assert waveform[-1] < 0.25 * waveform[0]
    # On the tone's last tenth, which was held out.
    quality = json.loads((tmp_path / "run" / "best" / "training.json").read_text())["quality"]["mean"]
    assert quality["seconds"] == pytest.approx(4410 // 128 * 128 / 22050)
    assert quality["si_sdr_db"] > 10.0
    assert quality["perplexity"] > 4.0


def test_the_train_verb(tmp_path: Path, music: Path):
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(VALUES))
    arguments = ["train", str(path), f"audio={music}", f"out={tmp_path / 'run'}", "steps=1", "quantise_from=0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    assert result.stdout.strip().splitlines()[-1] == str(tmp_path / "run" / "best")
    stopped = CliRunner().invoke(app, [*arguments, "batch=3"])
    assert isinstance(stopped.exception, UserError)
