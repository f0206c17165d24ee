"""What a step holds in memory: against a step that really ran, against sums by hand, and how it grows."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from typer.testing import CliRunner

from d2m_model.cli.main import app
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.training import memory
from d2m_model.training.config import TrainingConfig, training_config
from d2m_model.training.memory import Alive, step_memory


def config(**changes: object) -> TrainingConfig:
    model = {"visual_features": 0, "pose_axis": 80, "width": 1 / 32, "latent_channels": 8, "motion_embedding": 32}
    values = {"dataset": "d", "codec": "c", "out": "o", "batch": 4, "model": model, **changes}
    return training_config(values, "the test")


def test_what_lives_is_counted_and_what_died_is_not():
    with Alive() as alive:
        x = torch.randn(1000, 250)  # 1 MB
        y = (x * 2).relu()  # two more while the product lives
        assert (alive.now, alive.peak) == (2_000_000, 3_000_000)
        z = y[:10]  # a view has no memory of its own
        del y
        assert alive.now == 2_000_000
        del z
        assert (alive.now, alive.peak) == (1_000_000, 3_000_000)


def test_what_stands_between_steps_is_a_sum_by_hand():
    """Four times the trained networks (weights, gradients, two moments), the average once, codec, mel and batch."""
    chosen = config()
    with torch.device("meta"):
        model, codec = D2MGAN(chosen.model), JukeboxVQVAE(2, JukeboxConfig(latent_channels=8))
    spread = 75  # what movement is divided by, in the model and its average

    def numbers(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    trained = numbers(model) + numbers(model.new_discriminator())
    frozen = sum(value.numel() for value in (*codec.parameters(), *codec.buffers(), *LogMel().buffers()))
    average = numbers(model) + spread
    motion, latent, audio = 4 * 60 * 75, 4 * 8 * 344, 4 * 44100
    expected = 4 * (4 * trained + spread + average + frozen + motion + latent + audio) + 8 * 4 * 344
    standing = step_memory(chosen).standing
    assert expected <= standing <= 1.01 * expected  # Adam's counters


@pytest.mark.slow
def test_the_peak_grows_with_a_part_of_the_batch_and_not_with_the_rest():
    peaks = {batch: step_memory(config(batch=batch)) for batch in (2, 4, 6)}
    first, second = (peaks[b].peak - peaks[b - 2].peak for b in (4, 6))
    assert first == pytest.approx(second, rel=0.02)
    assert first > 2 * 4 * 44100 * 64  # the codec's decoder alone keeps 64 numbers a sample
    shared = step_memory(config(batch=4, accumulate=2))
    assert peaks[2].peak < shared.peak < peaks[4].peak
    lower = step_memory(dataclasses.replace(config(), precision="bf16-mixed"))
    assert 0.4 * peaks[4].peak < lower.peak < 0.95 * peaks[4].peak
    assert step_memory(config(decoded_frames=20)).peak < 0.5 * peaks[4].peak


def test_the_command_prints_a_row_for_each_number_of_parts(tmp_path, monkeypatch):
    asked: list[tuple[int, str]] = []

    def counted(chosen: TrainingConfig) -> memory.Memory:
        asked.append((chosen.accumulate, chosen.precision))
        return memory.Memory(2**30, (8 if chosen.precision == "32-true" else 6) * 2**30 // chosen.accumulate)

    monkeypatch.setattr(memory, "step_memory", counted)
    (tmp_path / "mine.yaml").write_text("dataset: d\ncodec: c\nbatch: 8\ndevices: 2\n")
    done = CliRunner().invoke(app, ["memory", str(tmp_path / "mine.yaml")])
    assert done.exit_code == 0, done.output
    rows = [line.split()[1:] for line in done.output.splitlines()[2:]]
    assert rows == [["8", "1", "1.00", "8.00", "6.00"], ["8", "2", "1.00", "4.00", "3.00"],
                    ["8", "4", "1.00", "2.00", "1.50"]]  # fmt: skip
    assert asked == [(n, p) for n in (1, 2, 4) for p in ("32-true", "bf16-mixed")]
