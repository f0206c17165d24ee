from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from d2m_model.cli.codec import app
from d2m_model.codec.files import write_codec
from d2m_model.codec.jukebox import JukeboxConfig, JukeboxVQVAE
from d2m_model.codec.quality import code_use, measure, mel_distance, reconstruct, si_sdr
from d2m_model.codec.spectral import FLOOR, LogMel, SpectralLoss
from tiktok_dm.errors import UserError


def tone(hertz: float, samples: int = 8192) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / 22050)).astype(np.float32)


# ------------------------------------------------------------------------------------------------- SI-SDR


def test_si_sdr_by_hand():
    # s = (1, -1, 1, -1), e = s + (.5, .5, -.5, -.5): the error is orthogonal, so a = 1 and 4 / 1 of power: 6.02 dB.
    truth = np.array([1.0, -1, 1, -1], np.float32)
    error = np.array([0.5, 0.5, -0.5, -0.5], np.float32)
    assert si_sdr(truth + error, truth) == pytest.approx(10 * math.log10(4))
    # Ten times less error is 20 dB more.
    assert si_sdr(truth + error / 10, truth) == pytest.approx(10 * math.log10(400), abs=1e-5)


def test_si_sdr_knows_no_scale_and_no_offset():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal(1000)
    estimate = truth + 0.3 * rng.standard_normal(1000)
    value = si_sdr(estimate, truth)
    assert 9 < value < 12
    for scale in (0.01, 7.0, -1.0):
        assert si_sdr(scale * estimate, truth) == pytest.approx(value, abs=1e-9)
        assert si_sdr(estimate, scale * truth) == pytest.approx(value, abs=1e-9)
    assert si_sdr(estimate + 5.0, truth - 3.0) == pytest.approx(value, abs=1e-9)


def test_si_sdr_at_its_ends():
    truth = np.array([1.0, -1, 1, -1])
    assert si_sdr(2 * truth, truth) == math.inf
    assert si_sdr(np.array([1.0, 1, -1, -1]), truth) == -math.inf  # orthogonal
    assert si_sdr(np.zeros(4), truth) == -math.inf
    assert si_sdr(truth, np.ones(4)) == -math.inf  # silent but for an offset


# ------------------------------------------------------------------------------------- mel, code-book, whole codec


def test_mel_distance_of_a_louder_copy_is_the_logarithm_of_the_factor():
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(8192).astype(np.float32)
    assert mel_distance(noise, noise, LogMel()) == 0.0
    assert mel_distance(10 * noise, noise, LogMel()) == pytest.approx(1.0, abs=1e-5)


def test_code_use_by_hand():
    # Two codes with probabilities 3/4 and 1/4: perplexity 2^(2 - 3/4 log2 3) = 4 / 3^(3/4).
    used, perplexity = code_use(np.array([3, 0, 1, 0]))
    assert used == 0.5
    assert perplexity == pytest.approx(4 / 3**0.75)
    assert code_use(np.array([5, 5, 5, 5])) == (1.0, pytest.approx(4.0))
    assert code_use(np.zeros(4)) == (0.0, 0.0)


def test_measuring_a_codec_against_direct_computation(small_codec: JukeboxVQVAE):
    sounds = [("a", tone(440, 6000)), ("b", tone(220, 9000)), ("short", tone(100, 500))]
    each, mean = measure(small_codec, sounds)
    assert [one.name for one in each] == ["a", "b"]  # too short for a mel frame: left out
    codes = []
    for one, (_, audio) in zip(each, sounds, strict=False):
        x = torch.from_numpy(audio)[None, None]
        latent = small_codec.encode(x)
        quantised = small_codec.quantise(latent)
        again = small_codec.decode(quantised.latent)[0, 0].clamp(-1, 1).numpy()
        truth = audio[: len(again)]
        codes.append(quantised.codes[0].numpy())
        assert len(again) == len(audio) // 128 * 128
        assert one.seconds == pytest.approx(len(again) / 22050)
        assert one.si_sdr_db == pytest.approx(si_sdr(again, truth))
        assert one.mel_l1 == pytest.approx(mel_distance(again, truth, LogMel()))
        assert one.code_use == len(set(codes[-1].tolist())) / 16
        assert one.latent_std == pytest.approx(float(latent.std(correction=0)), rel=1e-5)
    assert mean.si_sdr_db == pytest.approx(np.mean([one.si_sdr_db for one in each]))
    assert mean.mel_l1 == pytest.approx(np.mean([one.mel_l1 for one in each]))
    together = np.bincount(np.concatenate(codes), minlength=16)
    assert (mean.code_use, mean.perplexity) == code_use(together)


def test_long_sounds_are_coded_in_blocks(small_codec: JukeboxVQVAE, monkeypatch: pytest.MonkeyPatch):
    from d2m_model.codec import quality

    audio = tone(440, 22050 * 2 + 50)
    monkeypatch.setattr(quality, "BLOCK_S", 1)
    again, codes, latent = reconstruct(small_codec, audio)
    block = 22050 // 128 * 128
    first = small_codec.quantise(small_codec.encode(torch.from_numpy(audio[:block])[None, None])).codes[0]
    assert len(again) == 128 * len(codes) == len(audio) // 128 * 128
    assert codes[: len(first)].tolist() == first.tolist()
    assert latent.shape == (8, len(codes))


# ------------------------------------------------------------------------------------------------ spectral loss


def test_spectral_loss_of_equal_signals_is_zero():
    audio = torch.randn(2, 4096)
    assert float(SpectralLoss((1024, 256))(audio, audio)) == 0.0
    silence = torch.zeros(2, 4096)
    assert float(SpectralLoss((1024,))(silence, silence)) == 0.0


def test_spectral_loss_of_a_scaled_copy_by_hand():
    # |S - cS| / |S| = c - 1, and |ln S - ln cS| = ln c in every bin above the floor.
    truth = torch.randn(2, 4096)
    loss = SpectralLoss((512,))
    assert loss._magnitude(truth, 512).amin() > FLOOR
    assert float(loss(3 * truth, truth)) == pytest.approx(2 + math.log(3), rel=1e-5)
    assert float(SpectralLoss((512, 512, 512))(3 * truth, truth)) == pytest.approx(2 + math.log(3), rel=1e-5)


def test_spectral_loss_of_silence_by_hand():
    # All of S is missing: convergence 1; the logarithms run from the floor to S.
    truth = torch.randn(1, 4096)
    loss = SpectralLoss((512,))
    magnitude = loss._magnitude(truth, 512)
    wanted = 1 + float((magnitude / FLOOR).log().mean())
    assert float(loss(torch.zeros(1, 4096), truth)) == pytest.approx(wanted, rel=1e-5)


def test_a_magnitude_by_hand():
    # A constant 1 under a periodic Hann window of 512: the window's sum, 256, in bin 0, half of it in bin 1.
    magnitude = SpectralLoss((512,))._magnitude(torch.ones(1, 1024), 512)[0]
    assert magnitude.shape == (257, 5)
    assert torch.allclose(magnitude[0], torch.tensor(256.0))
    assert torch.allclose(magnitude[1], torch.tensor(128.0), atol=1e-3)
    assert magnitude[2:].max() < 1e-2


def test_spectral_loss_teaches_in_both_directions():
    truth = torch.randn(1, 2048)
    guess = (0.5 * truth).requires_grad_()
    SpectralLoss((512,))(guess, truth).backward()
    assert float((guess.grad * truth).sum()) < 0  # louder is better
    assert torch.isfinite(guess.grad).all()


# ------------------------------------------------------------------------------------------------------ the verb


def test_the_report_verb(tmp_path: Path):
    codec = JukeboxVQVAE(1, JukeboxConfig(width=4, depth=1, latent_channels=4, n_codes=8))
    folder, music = tmp_path / "codec", tmp_path / "music"
    folder.mkdir()
    (music / "deeper").mkdir(parents=True)
    write_codec(codec, folder)
    soundfile.write(music / "a.wav", tone(440, 22050), 22050)
    soundfile.write(music / "deeper" / "b.flac", np.stack([tone(220, 44100)] * 2, 1), 44100)
    (music / "notes.txt").write_text("no sound")
    result = CliRunner().invoke(app, ["report", str(folder), str(music), "--json"])
    assert result.exit_code == 0, result.exception
    values = json.loads(result.stdout)
    assert [one["name"] for one in values["sounds"]] == ["a.wav", "deeper/b.flac"]
    assert values["mean"]["seconds"] == pytest.approx(2 * (22050 // 32 * 32) / 22050)
    assert set(values["mean"]) == {
        *("name", "seconds", "si_sdr_db", "mel_l1", "code_use", "perplexity", "latent_mean", "latent_std")
    }
    lines = CliRunner().invoke(app, ["report", str(folder), str(music)]).stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["a.wav", "deeper/b.flac", "mean"]
    assert "SI-SDR" in lines[0]
    wrong = CliRunner().invoke(app, ["report", str(folder), str(music), "--level", "high"])
    assert isinstance(wrong.exception, UserError)
    assert "is of level 1; level 2 is needed" in str(wrong.exception)
    unknown = CliRunner().invoke(app, ["report", str(folder), str(music), "--level", "hig"])
    assert "did you mean 'high'?" in str(unknown.exception)
