"""A codec of transformers: tiny EnCodecs and DACs with random weights, nothing downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling_factory import moving_poses
from segments_factory import write_segments
from torch import nn

from d2m_model.codec.files import fingerprint, open_codec
from d2m_model.codec.hub import HubCodec, resample
from d2m_model.codec.interface import Codec, freeze
from d2m_model.codec.quality import load, load_hub, measure, reconstruct
from d2m_model.sampling.sampler import DanceToMusic
from d2m_model.training.config import training_config
from d2m_model.training.run_folder import read_losses
from d2m_model.training.trainer import train
from tiktok_dm.errors import UserError

# --- resampling needs no transformers


@pytest.mark.parametrize("rate", [16_000, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("seed", range(3))
def test_a_tone_stays_itself_at_another_rate(rate: int, seed: int) -> None:
    """Truth: the same tones at the other rate's instants; tones lie below 0.8 of the lower rate's half."""
    rng = np.random.default_rng(seed)
    hertz, phase = rng.uniform(50, 0.4 * min(rate, 22_050), 5), rng.uniform(0, 6, 5)
    seconds = 0.25

    def tones(at: int) -> torch.Tensor:
        t = np.arange(round(seconds * at)) / at
        return torch.from_numpy(np.sin(2 * np.pi * hertz[:, None] * t + phase[:, None]).astype(np.float32))[:, None]

    made = resample(tones(22_050), 22_050, rate)
    assert made.shape[-1] == -(-round(seconds * 22_050) * rate // 22_050)
    inside = slice(rate // 20, round(seconds * rate) - rate // 20)  # beyond the ends lies silence
    assert float((made - tones(rate)[..., : made.shape[-1]])[..., inside].abs().max()) < 2e-3
    back = resample(made, rate, 22_050)
    inside = slice(22_050 // 15, round(seconds * 22_050) - 22_050 // 15)
    assert float((back[..., : round(seconds * 22_050)] - tones(22_050))[..., inside].abs().max()) < 4e-3


def test_what_the_lower_rate_cannot_hold_is_taken_out() -> None:
    t = np.arange(22_050) / 22_050
    high = torch.from_numpy(np.sin(2 * np.pi * 10_000 * t).astype(np.float32))[None, None]
    assert float(resample(high, 22_050, 16_000)[..., 800:-800].abs().max()) < 2e-3


def test_transformers_that_is_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UserError, match="The codec hf:a/b needs transformers: pip install"):
        open_codec("hf:a/b", 2)
    with pytest.raises(UserError, match="'x' in hf:a/b@x is no number of code-books"):
        open_codec("hf:a/b@x", 2)


# --- codecs


def network(kind: str, **changes: object) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="codecs of the hub need transformers")
    torch.manual_seed(0)
    if kind == "encodec":  # the public one's rate and hop
        sizes = {"num_filters": 2, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 16, "num_lstm_layers": 1}
        return transformers.EncodecModel(
            transformers.EncodecConfig(**{**sizes, "target_bandwidths": [1.2], "sampling_rate": 24_000, **changes})
        )
    sizes = {"encoder_hidden_size": 4, "decoder_hidden_size": 32, "downsampling_ratios": [2, 4, 8, 8]}
    return transformers.DacModel(
        transformers.DacConfig(
            **{**sizes, "upsampling_ratios": [8, 8, 4, 2], "n_codebooks": 3, "codebook_size": 16, "codebook_dim": 4,
               "sampling_rate": 44_100, **changes}
        )
    )  # fmt: skip


@pytest.fixture(params=["encodec", "dac"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    network(request.param).save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


def test_a_residual_codec_keeps_the_interface(folder: Path) -> None:
    codec = open_codec(f"hf:{folder}", 2)
    assert isinstance(codec, HubCodec)
    assert isinstance(codec, Codec)
    assert (codec.sample_rate, codec.hop) == (22_050, {"encodec": 294, "dac": 256}[folder.name])
    frames = codec.n_frames(44_100)
    assert frames == {"encodec": 150, "dac": 172}[folder.name]
    audio = torch.rand(2, 1, 44_100) - 0.5
    latent = codec.encode(audio)
    assert latent.shape == (2, codec.latent_channels, frames)
    codes, rows = codec.quantise(latent)
    assert codes.shape == (2, codec.books, frames)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < codec.n_codes
    assert torch.equal(codec.dequantise(codes), rows)
    assert codec.decode(rows).shape == (2, 1, frames * codec.hop)
    # Each code-book takes the row that is nearest to what is left over (EnCodec), which the next one goes on from.
    if codec.kind == "encodec":
        left = latent
        for layer, chosen in zip(codec.network.quantizer.layers, codes.unbind(1), strict=False):
            table = layer.codebook.embed
            assert torch.equal(torch.cdist(left.transpose(1, 2), table[None]).argmin(-1), chosen)
            left = left - table[chosen].transpose(1, 2)
        torch.testing.assert_close(rows, latent - left)
    fewer = open_codec(f"hf:{folder}@1", 2)
    assert torch.equal(fewer.quantise(latent).codes, codes[:, :1])
    assert fingerprint(fewer) != fingerprint(codec) == fingerprint(open_codec(f"hf:{folder}", 2))
    # Gradients reach the latent through the decoder, also where recurrent layers are in it.
    wanted = rows.clone().requires_grad_()
    codec.decode(wanted).square().sum().backward()
    assert bool((wanted.grad != 0).any())


def test_the_sound_is_that_of_transformers_own_round_trip(folder: Path) -> None:
    """At the codec's own rate the wrapper is the network's own way: its encode, all code-books, its decode."""
    codec = open_codec(f"hf:{folder}", 2)
    audio = 0.3 * torch.randn(1, 1, 20 * codec.hop)
    sound = resample(audio, 22_050, codec.rate)
    with torch.no_grad():
        theirs = codec.network.encode(sound)
        assert torch.equal(codec.quantise(codec.encode(audio)).codes, theirs.audio_codes.reshape(1, codec.books, -1))
        if codec.kind == "encodec":
            decoded = codec.network.decode(theirs.audio_codes, [None])[0]
        else:
            decoded = codec.network.decode(theirs.quantized_representation)[0]
        decoded = decoded.reshape(1, 1, -1)
        expected = resample(decoded[..., : sound.shape[-1]], codec.rate, 22_050)
        mine = codec.decode(codec.quantise(codec.encode(audio)).latent)
    length = min(mine.shape[-1], expected.shape[-1])
    torch.testing.assert_close(mine[..., :length], expected[..., :length], rtol=1e-4, atol=1e-5)


def test_training_sampling_report_and_baselines_take_it(folder: Path, tmp_path: Path) -> None:
    write_segments(tmp_path / "set")
    name = f"hf:{folder}"
    codec = open_codec(name, 2)
    channels, frames = codec.latent_channels, codec.n_frames(44_100)
    model = {"preset": "paper", "visual_features": 0, "pose_axis": 80, "motion_embedding": 16, "width": 1 / 32,
             "output_scale": 2.0, "latent_channels": channels, "latent_frames": frames}  # fmt: skip
    values = {"dataset": str(tmp_path / "set"), "codec": name, "cache": str(tmp_path / "cache"), "batch": 4, "steps": 2,
              "out": str(tmp_path / "run"), "model": model, "validation_songs": 1, "log_every": 1, "samples": 1,
              "validate_every": 2, "save_every": 2, "logger": "none", "accelerator": "cpu", "threads": 1}  # fmt: skip
    with pytest.raises(UserError, match=f"model.latent_channels={codec.latent_channels} model.latent_frames="):
        train(training_config({**values, "model": {**model, "latent_frames": 344}}, "the test"))
    run = train(training_config(values, "the test"))
    last = read_losses(run / "losses.csv")[-1]
    assert last["step"] == 2
    assert all(np.isfinite(value) for value in last.values())
    facts = json.loads((run / "best" / "training.json").read_text())
    assert facts["codec"]["path"] == name
    assert not (run / "best" / "codec.safetensors").exists()  # its weights are not given on
    music = DanceToMusic.from_pretrained(run / "best", device="cpu")(moving_poses(5))
    assert len(music.audio) == 5 * 22_050
    assert music.codes.shape == (codec.books, -(-5 * 22_050 // codec.hop))
    assert str(folder) in music.licence
    # The window's own latent, quantised and decoded; a frame that 2 s begin and do not end repeats the one before.
    maker = DanceToMusic.from_pretrained(run / "best", device="cpu")
    two = maker(moving_poses(2))
    with torch.no_grad():
        latent = maker.to_latents(maker.prepare(_dance(2)).motion)
        expected = codec.decode(codec.dequantise(codec.quantise(latent).codes))[0, 0]
    inside = slice(0, len(expected) - 20 * codec.hop)
    assert two.audio[inside] == pytest.approx(expected.numpy()[inside], abs=1e-4)

    sound = (0.3 * np.random.default_rng(0).standard_normal(44_100)).astype(np.float32)
    again, codes, _ = reconstruct(codec, sound)
    assert codes.shape == (codec.books, codec.n_frames(44_100))
    sounds, mean = measure(codec, [("a", sound)])
    own = {(book, int(code)) for book, row in enumerate(codes) for code in row}
    assert sounds[0].code_use == mean.code_use == len(own) / (codec.books * codec.n_codes)
    for trip in (load(name), load_hub(str(folder))):
        assert trip(sound, 22_050)[: len(again) - codec.hop] == pytest.approx(again[: -codec.hop].clip(-1, 1), abs=1e-5)
        assert trip.licence == codec.licence


def _dance(seconds: float):
    from d2m_model.sampling.dance import dance_from_poses

    return dance_from_poses(moving_poses(seconds))


def test_what_is_no_codec_for_the_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="codec for stereo"):
        HubCodec(network("encodec", audio_channels=2), "x")
    with pytest.raises(UserError, match="x has 3 code-books; 4 cannot be used"):
        HubCodec(network("dac"), "x", 4)
    with pytest.raises(UserError, match="no whole number of them at 22050 Hz"):
        HubCodec(network("dac", sampling_rate=50_000), "x")
    with pytest.raises(UserError, match=r"The codec .*nothing cannot be had: "):
        open_codec(f"hf:{tmp_path / 'nothing'}", 2)


def test_the_recurrent_layers_gradient_is_to_be_had_on_a_gpu() -> None:
    """cuDNN refuses it in evaluation mode."""
    codec = freeze(HubCodec(network("encodec"), "x"))
    recurrent = [module for module in codec.modules() if isinstance(module, nn.RNNBase)]
    assert len(recurrent) == 2
    assert all(module.training for module in recurrent)
    assert not codec.network.training
