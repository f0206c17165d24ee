"""The training loop: going on exactly, many processes as one, what is written, what a user may get wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file
from segments_factory import write_segments
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typer.testing import CliRunner

from d2m_model.checkpoint import save_model
from d2m_model.cli.main import app
from d2m_model.codec.files import open_codec, write_codec
from d2m_model.codec.interface import freeze
from d2m_model.codec.jukebox import LICENCE, JukeboxConfig, JukeboxVQVAE
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.training import trainer
from d2m_model.training.config import TrainingConfig, rate, training_config
from d2m_model.training.data import TrainingBatches, load_segments
from d2m_model.training.losses import ReconstructionLosses, make_target
from d2m_model.training.plot import plot, running_mean
from d2m_model.training.run_folder import LossTable, read_losses
from d2m_model.training.trainer import decoded_part, load_data, train
from tiktok_dm.errors import UserError

LOSSES = {"hinge": 1.0, "feature_matching": 3.0, "latent": 5.0, "commitment": 8.0, "waveform": 4.0, "mel": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a codec beside each other."""
    folder = tmp_path_factory.mktemp("training")
    write_segments(folder / "set")
    torch.manual_seed(1)
    codec = JukeboxVQVAE(2, JukeboxConfig(width=8, depth=2, latent_channels=8, n_codes=16))
    freeze(codec)
    (folder / "codec").mkdir()
    write_codec(codec, folder / "codec")
    return folder


def values(folder: Path, out: Path, **changes: object) -> dict:
    return {
        "dataset": str(folder / "set"),
        "codec": str(folder / "codec"),
        "cache": str(folder / "cache"),
        "out": str(out),
        "model": {
            "preset": "paper",
            "level": "high",
            "visual_features": 0,
            "latent_channels": 8,
            "pose_axis": 80,
            "motion_embedding": 32,
            "output_scale": 2.0,
            "width": 0.03125,
        },
        "losses": dict(LOSSES),
        "gains": [1.0, 0.7],
        "batch": 4,
        "steps": 6,
        "learning_rate": 0.001,
        "ema": 0.5,
        "threads": 1,
        "seed": 5,
        "validation_songs": 1,
        "log_every": 1,
        "validate_every": 3,
        "save_every": 3,
        "samples": 2,
        "accelerator": "cpu",
        **changes,
    }


def config(folder: Path, out: Path, **changes: object) -> TrainingConfig:
    return training_config(values(folder, out, **changes), "the test")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """A run of six steps that nothing disturbed."""
    torch.set_num_threads(1)
    return train(config(folder, folder / "whole"))


def same_runs(one: Path, other: Path) -> None:
    assert (one / "losses.csv").read_text() == (other / "losses.csv").read_text()
    for name in ("last", "best"):
        assert (one / name / "model.safetensors").read_bytes() == (other / name / "model.safetensors").read_bytes()
    states = [torch.load(run / "last" / "state.pt", weights_only=True) for run in (one, other)]
    for key in states[0]["model"]:
        assert torch.equal(states[0]["model"][key], states[1]["model"][key]), key


class Stop(Exception):
    pass


def test_a_run_that_stops_between_checkpoints_goes_on_with_the_same_losses(folder, whole, tmp_path):
    def stop_at_five(done: int, losses: dict) -> None:
        if done == 5:
            raise Stop

    with pytest.raises(Stop):
        train(config(folder, tmp_path / "run"), stop_at_five)
    assert [row["step"] for row in read_losses(tmp_path / "run" / "losses.csv")] == [1, 2, 3, 3, 4, 5]
    train(config(folder, tmp_path / "run"))
    same_runs(tmp_path / "run", whole)
    # Taking up what is finished changes nothing, and more steps are an extension of it.
    train(config(folder, tmp_path / "run"))
    same_runs(tmp_path / "run", whole)
    longer = train(config(folder, tmp_path / "run", steps=7))
    assert read_losses(longer / "losses.csv")[: len(read_losses(whole / "losses.csv"))] == read_losses(
        whole / "losses.csv"
    )


def test_a_killed_run_goes_on_with_the_same_losses(folder, whole, tmp_path):
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(["d2m_model.training.trainer"])
    process = forked.Process(target=train, args=(config(folder, tmp_path / "run"),))
    process.start()
    table = tmp_path / "run" / "losses.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive():
        if table.is_file() and len(table.read_text().splitlines()) > 4:
            process.kill()
        time.sleep(0.01)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    train(config(folder, tmp_path / "run"))
    same_runs(tmp_path / "run", whole)


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(folder, tmp_path):
    """After one step Adam's first moment is (1 - beta1) times the gradient, and a checkpoint holds it."""
    states = []
    for devices in (1, 2):
        chosen = values(folder, tmp_path / f"run{devices}", devices=devices, steps=1, ema=0.0, samples=0)
        (tmp_path / f"{devices}.yaml").write_text(yaml.safe_dump(chosen))
        command = [sys.executable, "-m", "d2m_model.cli.main", "train", str(tmp_path / f"{devices}.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        states.append(torch.load(tmp_path / f"run{devices}" / "last" / "state.pt", weights_only=True))
    rows = [read_losses(tmp_path / f"run{devices}" / "losses.csv")[0] for devices in (1, 2)]
    for name in ("discriminator", "latent", "commitment", "waveform", "mel", "discriminator_gradient_norm"):
        assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-5), name
    # The generator's adversarial terms come after the discriminator's first update, in which components without a
    # gradient take either sign (Adam divides by their size), so that its gradients are less exact.
    for part, tolerance in (("discriminator", 1e-5), ("generator", 2e-3)):
        one, two = (moments(state, part) for state in states)
        assert len(one) == len(two) > 20
        # A gradient that is zero but for rounding (the discriminator's last biases) has no size of its own. There the
        # hinge sums +-1/n over n scores of the truth and of the made, a sum of absolute values of 2, of which the
        # moment has half: it is rounded to one unit of float32, in an order that the processor chooses.
        least = 1e-2 * max(float(gradient.abs().max()) for gradient in one.values())
        unit = torch.finfo(torch.float32).eps
        for key, gradient in one.items():
            scale = max(float(gradient.abs().max()), least)
            assert float((two[key] - gradient).abs().max()) <= tolerance * scale + unit, (part, key)

    # What one process began two may go on with, and are told what that changes.
    command = [sys.executable, "-m", "d2m_model.cli.main", "train", str(tmp_path / "1.yaml"), "devices=2", "steps=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "goes on with devices is 2, was 1: the gradients are the same but for rounding" in done.stderr
    assert read_losses(tmp_path / "run1" / "losses.csv")[-1]["step"] == 2


def moments(state: dict, part: str) -> dict:
    whole = state["optimiser"] if part == "generator" else state["adversarial"]["_extra_state"]["optimiser"]
    return {key: entry["exp_avg"] for key, entry in whole["state"].items()}


def test_learning_rates_by_hand():
    assert [rate(step, 100, "constant", 4) for step in (0, 1, 3, 50)] == [0.25, 0.5, 1.0, 1.0]
    assert [rate(step, 100, "cosine", 0) for step in (0, 50, 100)] == pytest.approx([1.0, 0.5, 0.0])


def test_what_a_run_writes(folder, whole):
    rows = read_losses(whole / "losses.csv")
    steps = [row for row in rows if "total" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4, 5, 6]
    for row in steps:
        weighted = sum(LOSSES[name] * row[name] for name in LOSSES)
        assert row["total"] == pytest.approx(weighted, rel=1e-5)
        assert row["gradient_norm"] > 0
    held = [row for row in rows if "validation/total" in row]
    assert [row["step"] for row in held] == [3, 6]
    best = json.loads((whole / "best" / "training.json").read_text())
    assert best["validation"]["total"] == min(row["validation/total"] for row in held)
    assert best["segments"] == {**best["segments"], "train": 9, "validation": 3}
    assert list(whole.glob("tensorboard/events*"))

    # The level of the truth through the codec, by hand.
    codec = open_codec(folder / "codec", 2)
    segments = load_segments(str(folder / "set"), "train", codec, D2MGAN.from_pretrained(whole / "best").config,
                             [1.0, 0.7], folder / "cache")  # fmt: skip
    held_rows = np.flatnonzero(np.isin(segments.songs, best["segments"]["validation_songs"]))
    batch = segments.batch(held_rows)
    rows_of_codes = codec.dequantise(batch.codes.long())
    assert best["codec_level"]["latent"] == 0
    assert best["codec_level"]["commitment"] == pytest.approx(float((rows_of_codes - batch.latent).abs().mean()))
    assert batch.audio is not None
    difference = codec.decode(rows_of_codes) - batch.audio[..., : 344 * 128]
    assert best["codec_level"]["waveform"] == pytest.approx(float(difference.abs().mean()), rel=1e-5)

    # The published weights are the moving average, and give the validation's numbers again.
    model = D2MGAN.from_pretrained(whole / "best")
    latent = model(*batch.inputs()).detach()
    assert float((latent - batch.latent).abs().mean()) == pytest.approx(best["validation"]["latent"], rel=1e-4)

    # Fixed samples are what the model of that step says.
    last = D2MGAN.from_pretrained(whole / "last")
    name = segments.ids[held_rows[0]]
    made, rate = soundfile.read(whole / "samples" / name / "step_000006.wav", dtype="float32")
    expected = codec.decode(codec.quantise(last(batch.motion)[:1]).latent)[0, 0].detach().numpy()
    assert rate == 22050
    assert np.abs(made - np.clip(expected, -1, 1)).max() < 1e-3
    assert (whole / "samples" / "step_000006.png").read_bytes()[:4] == b"\x89PNG"


def test_the_average_is_kept_as_its_formula_says(folder, tmp_path):
    """After each step: average = decay * average + (1 - decay) * model; the first update copies the model."""
    weights = []
    for steps in (1, 2, 3):
        run = train(config(folder, tmp_path / str(steps), steps=steps, samples=0, validation_songs=1))
        weights.append(
            (
                torch.load(run / "last" / "state.pt", weights_only=True)["model"],
                load_file(run / "last/model.safetensors"),
            )
        )
    key = "generator.lin.weight"
    by_hand = weights[0][0][key]
    assert torch.equal(weights[0][1][key], by_hand)
    for plain, average in weights[1:]:
        by_hand = 0.5 * by_hand + 0.5 * plain[key]
        torch.testing.assert_close(average[key], by_hand)


def test_a_training_starts_from_any_model_folder(folder, whole, tmp_path):
    """One step from `init`: its first loss is that of the weights that were given, and their spread of motion stays."""
    start = tmp_path / "start"
    model = D2MGAN.from_pretrained(whole / "last")
    model.motion_spread.mul_(3)
    save_model(model, start)
    before = {path.name: path.read_bytes() for path in start.iterdir()}
    run = train(config(folder, tmp_path / "run", init=str(start), steps=1, samples=0, gains=[1.0]))
    chosen = config(folder, tmp_path / "run", gains=[1.0])
    data = load_data(chosen, open_codec(folder / "codec", 2))
    batch = TrainingBatches(data.train_segments, data.train, chosen.batch, chosen.seed, True)[0]
    with torch.no_grad():
        expected = float((model(*batch.inputs()) - batch.latent).abs().mean())
    row = read_losses(run / "losses.csv")[0]
    assert row["latent"] == pytest.approx(expected, rel=1e-5)
    assert torch.equal(load_file(run / "last/model.safetensors")["motion_spread"], model.motion_spread)
    assert {path.name: path.read_bytes() for path in start.iterdir()} == before
    # It goes on without the folder that it started from, and another start is another run.
    shutil.rmtree(start)
    train(config(folder, tmp_path / "run", init=str(start), steps=2, samples=0, gains=[1.0]))
    with pytest.raises(UserError, match="init is '', was "):
        train(config(folder, tmp_path / "run", steps=3, samples=0, gains=[1.0]))
    wider = {**values(folder, tmp_path)["model"], "motion_embedding": 48}
    with pytest.raises(UserError, match="has motion_embedding 32, and the training's has 48; set model"):
        train(config(folder, tmp_path / "other", init=str(whole / "last"), model=wider))


def test_a_converted_checkpoint_of_the_authors_is_tuned_further(folder, tmp_path):
    model = {**values(folder, tmp_path)["model"], "preset": "released", "motion_units": "as_given"}
    theirs = D2MGAN(config(folder, tmp_path, model=model).model)
    theirs.motion_encoder.lin2.weight.data.mul_(7)
    save_model(theirs, tmp_path / "converted")
    chosen = config(folder, tmp_path / "run", model=model, init=str(tmp_path / "converted"), steps=1, samples=0)
    run = train(dataclasses.replace(chosen, learning_rate=1e-9, ema=0.0))
    after = load_file(run / "last/model.safetensors")
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-8)


def test_a_finished_run_says_so_and_is_given_more_under_any_schedule(folder, tmp_path):
    said: list[str] = []
    short = {"schedule": "cosine", "samples": 0, "validate_every": 9, "save_every": 9}
    train(config(folder, tmp_path / "run", steps=2, **short), notify=said.append)
    assert said == []
    train(config(folder, tmp_path / "run", steps=2, **short), notify=said.append)
    assert said == [f"The run in {tmp_path / 'run'} has made its 2 steps already; give it more with steps=NUMBER."]

    def stop_at_three(done: int, losses: dict) -> None:
        if done == 3:
            raise Stop

    # Rates of the further steps are those of a run of the new length, also where they are taken up again.
    with pytest.raises(Stop):
        train(config(folder, tmp_path / "run", steps=4, **{**short, "save_every": 3}), stop_at_three)
    run = train(config(folder, tmp_path / "run", steps=4, **short))
    rates = [row["learning_rate"] for row in read_losses(run / "losses.csv") if "learning_rate" in row]
    assert rates == [0.001 * rate(step, steps, "cosine", 0) for step, steps in ((0, 2), (1, 2), (2, 4), (3, 4))]


def test_a_run_goes_on_with_other_threads_and_parts(folder, tmp_path):
    """A machine with another number of cores goes on, and is told what that changes."""
    said: list[str] = []
    train(config(folder, tmp_path / "run", steps=1, samples=0), notify=said.append)
    run = train(config(folder, tmp_path / "run", steps=2, samples=0, threads=0, accumulate=2), notify=said.append)
    assert len(said) == 1
    assert "goes on with threads is 0, was 1, accumulate is 2, was 1: the gradients are the same" in said[0]
    straight = train(config(folder, tmp_path / "straight", steps=2, samples=0))
    torch.set_num_threads(1)
    rows = ([row for row in read_losses(each / "losses.csv") if "total" in row] for each in (run, straight))
    mine, other = (steps[1] for steps in rows)
    for name in ("discriminator", "latent", "commitment", "waveform", "mel"):
        # Adam's first steps follow the gradient's sign where rounding decides it: 1e-3 of a step, and no more.
        assert mine[name] == pytest.approx(other[name], rel=1e-3), name


def test_without_held_out_songs_the_last_words_name_what_is_there(folder, tmp_path):
    chosen = values(folder, tmp_path / "run", validation_songs=0, steps=1, samples=0)
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(chosen))
    for words in (f"sample with `d2m sample {tmp_path / 'run' / 'last'} VIDEO", "has made its 1 steps already"):
        done = CliRunner().invoke(app, ["train", str(tmp_path / "one.yaml")])
        assert done.exit_code == 0, done.output
        assert words in done.output
    assert not (tmp_path / "run" / "best").exists()


def test_what_pays_on_a_gpu_only_is_refused_or_warned_of(folder, tmp_path):
    with pytest.raises(UserError, match="precision tf32 needs an NVIDIA GPU, and the training runs on cpu"):
        train(config(folder, tmp_path / "run", precision="tf32"))
    with pytest.raises(UserError, match="cuda_graphs needs an NVIDIA GPU, and the training runs on cpu"):
        train(config(folder, tmp_path / "run", compile=True, cuda_graphs=True))
    said: list[str] = []
    trainer._set_device(config(folder, tmp_path / "run", compile=True), "cpu", said.append)
    assert len(said) == 1
    assert "compile takes minutes on a processor" in said[0]
    for precision, rounded in (("tf32", True), ("32-true", False)):
        trainer._set_device(config(folder, tmp_path / "run", precision=precision), "cuda", said.append)
        assert torch.backends.cudnn.allow_tf32 is rounded
        assert torch.backends.cuda.matmul.allow_tf32 is rounded


def test_the_average_never_asks_the_device(small):
    """On the meta device any value that the host reads is an error."""
    model = D2MGAN(small).to("meta")
    average = trainer.MovingAverage(model, 0.9, torch.device("meta"))
    for _ in range(3):
        average.update_parameters(model)
    assert int(average.n_averaged) == 3
    theirs = AveragedModel(D2MGAN(small), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    assert average.state_dict().keys() == theirs.state_dict().keys()


def test_the_released_preset_and_late_adversaries(folder, tmp_path):
    model = {**values(folder, tmp_path)["model"], "preset": "released", "motion_units": "as_given"}
    run = train(config(folder, tmp_path / "run", model=model, log_every=2, adversarial_from=3, steps=4, samples=0))
    rows = [row for row in read_losses(run / "losses.csv") if "total" in row]
    assert [row["step"] for row in rows] == [1, 2, 4]
    assert ["hinge" in row for row in rows] == [False, False, True]
    assert all("mel" in row for row in rows)


def test_the_audio_terms_of_a_part_are_those_of_its_frames(folder, tmp_path):
    chosen = config(folder, tmp_path, decoded_frames=20)
    parts = [decoded_part(step, chosen) for step in range(200)]
    assert {part.stop - part.start for part in parts} == {20}
    assert min(part.start for part in parts) >= 0
    assert max(part.stop for part in parts) <= 344
    assert len({part.start for part in parts}) > 100
    assert parts[3] == decoded_part(3, chosen)
    assert decoded_part(3, config(folder, tmp_path)) is None

    codec = open_codec(folder / "codec", 2)
    losses = ReconstructionLosses(codec, "paper")
    audio = 0.1 * torch.randn(2, 1, 44100)
    target = make_target(codec, audio)
    latent = target.latent + 0.3 * torch.randn_like(target.latent)
    part = losses(latent, target, part=slice(30, 50))
    by_hand = codec.decode(codec.quantise(latent[..., 30:50]).latent)
    truth = audio[..., 30 * 128 : 50 * 128]
    torch.testing.assert_close(part["waveform"], (by_hand - truth).abs().mean())
    torch.testing.assert_close(part["latent"], (latent - target.latent).abs().mean())
    whole = losses(latent, target)
    torch.testing.assert_close(losses(latent, target, part=slice(0, 344))["mel"], whole["mel"], rtol=2e-2, atol=0)
    with pytest.raises(UserError, match="decoded_frames is 400, and the model's latent has 344"):
        config(folder, tmp_path, decoded_frames=400)


def test_gradients_are_clipped_and_their_true_norm_is_logged(folder, tmp_path):
    plain, clipped = (
        train(config(folder, tmp_path / str(clip), clip=clip, steps=1, samples=0)) for clip in (0.0, 0.001)
    )
    norms = [read_losses(run / "losses.csv")[0]["gradient_norm"] for run in (plain, clipped)]
    assert norms[0] == norms[1] > 1
    moment = moments(torch.load(clipped / "last" / "state.pt", weights_only=True), "generator")
    total = math.sqrt(sum(float((entry / 0.5).square().sum()) for entry in moment.values()))
    assert total == pytest.approx(0.001, rel=1e-3)  # the first moment is (1 - beta1) times the clipped gradient


def test_weights_of_a_codec_with_a_licence_are_not_copied(folder, tmp_path):
    codec = open_codec(folder / "codec", 2)
    codec.licence = LICENCE
    (tmp_path / "codec").mkdir()
    write_codec(codec, tmp_path / "codec")
    run = train(config(folder, tmp_path / "run", codec=str(tmp_path / "codec"), steps=1, samples=0))
    assert sorted(path.name for path in (run / "best").iterdir()) == [
        "config.yaml",
        "model.safetensors",
        "training.json",
    ]
    assert json.loads((run / "best" / "training.json").read_text())["codec"]["licence"] == LICENCE
    assert (run.parent / "codec" / "codec.safetensors").is_file()


def test_a_folder_of_something_else_is_not_touched(folder, whole, tmp_path):
    with pytest.raises(UserError, match=r"another configuration \(learning_rate is 0.01, was 0.001\)"):
        train(config(folder, whole, learning_rate=0.01))
    with pytest.raises(UserError, match="another configuration"):
        train(config(folder, whole, losses={"latent": 1.0}))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(UserError, match="is no run of `d2m train`"):
        train(config(folder, tmp_path / "mine"))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"
    assert len(list((tmp_path / "mine").iterdir())) == 1


def test_a_truncated_state_and_other_data_are_one_sentence(folder, tmp_path):
    run = train(config(folder, tmp_path / "run", steps=1, samples=0))
    other = write_segments(tmp_path / "other", songs=5)
    with pytest.raises(UserError, match=r"is not the one that the run in .* was begun with"):
        train(config(folder, run, dataset=str(other), steps=2))
    state = run / "last" / "state.pt"
    state.write_bytes(state.read_bytes()[:2000])
    with pytest.raises(UserError, match="truncated or no training state"):
        train(config(folder, run, steps=2))


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(folder, tmp_path):
    run = tmp_path / "run"
    train(config(folder, run, steps=3, samples=0))
    state = torch.load(run / "last" / "state.pt", weights_only=True)
    state["model"]["generator.lin.weight"].fill_(float("nan"))
    torch.save(state, run / "last" / "state.pt")
    before = (run / "last" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="is nan at step 4; the last checkpoint"):
        train(config(folder, run, steps=5, samples=0))
    assert (run / "last" / "model.safetensors").read_bytes() == before


def test_the_plot_shows_every_loss_and_the_codecs_level(whole, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k))[1])
    picture = plot(whole, tmp_path / "losses.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    panels = {axis.get_title(): axis for axis in drawn[0].axes if axis.get_visible()}
    assert list(panels) == [
        "discriminator (hinge)",
        "adversarial (hinge)",
        "feature matching",
        "latent L1",
        "code-book commitment L1",
        "waveform L1",
        "log-mel L1",
        "weighted total of the L1 terms",
    ]
    level = json.loads((whole / "last" / "training.json").read_text())["codec_level"]["mel"]
    dashed = [line for line in panels["log-mel L1"].get_lines() if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [level]
    training = panels["latent L1"].get_lines()[0]
    assert training.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    # Both totals are of the same terms: the training's own holds the adversarial ones too.
    rows = [row for row in read_losses(whole / "losses.csv") if "total" in row]
    same = [sum(LOSSES[name] * row[name] for name in ReconstructionLosses.NAMES) for row in rows]
    training, _, held, dashed = panels["weighted total of the L1 terms"].get_lines()
    assert training.get_ydata().tolist() == pytest.approx(same)
    assert not np.isclose(rows[-1]["total"], same[-1])
    held_rows = [row for row in read_losses(whole / "losses.csv") if "validation/total" in row]
    for row, drawn_total in zip(held_rows, held.get_ydata(), strict=True):
        assert drawn_total == row["validation/total"]
        by_hand = sum(LOSSES[name] * row[f"validation/{name}"] for name in ReconstructionLosses.NAMES)
        assert drawn_total == pytest.approx(by_hand, rel=1e-5)
    levels = json.loads((whole / "last" / "training.json").read_text())["codec_level"]
    assert dashed.get_ydata()[0] == pytest.approx(sum(LOSSES[name] * level for name, level in levels.items()))
    with pytest.raises(UserError, match="missing or no table of losses"):
        plot(tmp_path, tmp_path / "x.png")
    assert running_mean(np.array([1.0, 2.0, 6.0, 3.0]), share=0.5).tolist() == [1.5, 3.0, pytest.approx(11 / 3), 4.5]


def test_a_term_that_is_validated_only_keeps_its_panel(folder, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    run = train(config(folder, tmp_path / "run", losses={"latent": 2.0}, steps=3, samples=0))
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: drawn.append(self))
    plot(run, tmp_path / "losses.png")
    panels = {axis.get_title(): axis.get_lines() for axis in drawn[0].axes if axis.get_visible()}
    assert list(panels) == [
        "latent L1",
        "code-book commitment L1",
        "waveform L1",
        "log-mel L1",
        "weighted total of the L1 terms",
    ]
    held = next(row for row in read_losses(run / "losses.csv") if "validation/total" in row)
    assert [line.get_label() for line in panels["log-mel L1"]] == ["validation", "true audio through the codec"]
    assert panels["log-mel L1"][0].get_ydata().tolist() == [held["validation/mel"]]
    assert panels["weighted total of the L1 terms"][2].get_ydata()[0] == pytest.approx(2 * held["validation/latent"])


def test_the_loss_table_drops_what_came_after_the_checkpoint(tmp_path):
    table = LossTable(tmp_path / "losses.csv", ["a", "b"], 0)
    for step in (1, 2, 3):
        table.add(step, {"a": step / 3})
    LossTable(tmp_path / "losses.csv", ["a", "b"], 2).add(3, {"b": 0.5})
    assert read_losses(tmp_path / "losses.csv") == [
        {"step": 1, "a": 1 / 3},
        {"step": 2, "a": 2 / 3},
        {"step": 3, "b": 0.5},
    ]


@pytest.mark.parametrize(("log_every", "save_every", "broken_at", "kept"), [(7, 2, 3, 2), (4, 3, 5, 3), (50, 6, 6, 0)])
def test_weights_that_are_no_numbers_never_replace_the_last_checkpoint(
    folder, tmp_path, monkeypatch, log_every: int, save_every: int, broken_at: int, kept: int
) -> None:
    one_step = trainer.Trainer._one_step

    def breaks(self: trainer.Trainer, *given: object) -> dict:
        losses = one_step(self, *given)
        if self.done == broken_at:
            with torch.no_grad():
                next(self.model.parameters()).fill_(float("nan"))
        return losses

    monkeypatch.setattr(trainer.Trainer, "_one_step", breaks)
    chosen = config(folder, tmp_path / "run", log_every=log_every, save_every=save_every, validate_every=100)
    with pytest.raises(UserError, match="no finite numbers at step"):
        train(chosen)
    state = torch.load(tmp_path / "run" / "last" / "state.pt", weights_only=True)
    assert all(bool(torch.isfinite(value).all()) for value in state["model"].values())
    assert state["step"] == kept
