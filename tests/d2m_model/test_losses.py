from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.config import ModelConfig
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.networks.discriminator import MultiScaleDiscriminator
from d2m_model.training.losses import (
    WEIGHTS,
    AdversarialLoss,
    ReconstructionLosses,
    check_weights,
    feature_matching,
    hinge_discriminator,
    hinge_generator,
    make_target,
    weighted_total,
)
from tiktok_dm.errors import UserError


def test_hinge_by_hand():
    fake = [torch.tensor([-2.0, 0.0]), torch.tensor([1.0])]
    real = [torch.tensor([2.0, 0.5]), torch.tensor([-1.0])]
    # Scale 0: fake (0 + 1) / 2, real (0 + 0.5) / 2. Scale 1: 2 and 2. Generator: -(-1) - 1.
    assert hinge_discriminator(fake, real).item() == pytest.approx(0.5 + 0.25 + 2 + 2)
    assert hinge_generator(fake).item() == pytest.approx(0.0)
    assert hinge_generator([torch.tensor([3.0, 1.0]), torch.tensor([-0.5])]).item() == pytest.approx(-1.5)


def test_feature_matching_by_hand():
    fake = [[torch.tensor([1.0, 3.0]), torch.tensor([5.0])], [torch.tensor([0.0]), torch.tensor([0.0])]]
    real = [[torch.tensor([0.0, 1.0]), torch.tensor([1.0])], [torch.tensor([2.0]), torch.tensor([-1.0])]]
    # Means 1.5, 4, 2, 1; times 4/5 over two scales.
    assert feature_matching(fake, real).item() == pytest.approx(0.8 / 2 * 8.5)


def test_weights_are_checked_by_name():
    assert check_weights({"hinge": 1.0, "mel": 0.0}) == {"hinge": 1.0, "mel": 0.0}
    with pytest.raises(UserError, match="did you mean 'waveform'"):
        check_weights({"wave_form": 1.0})
    with pytest.raises(UserError, match="'mel' is -1"):
        check_weights({"mel": -1.0})


def test_weighted_total_leaves_out_what_weighs_nothing():
    losses = {"hinge": torch.tensor(2.0), "latent": torch.tensor(3.0)}
    assert weighted_total(losses, {"hinge": 1.0, "latent": 5.0, "mel": 0.0}).item() == 17.0
    with pytest.raises(KeyError):
        weighted_total(losses, {"mel": 1.0})


def test_log_mel_of_a_tone_against_numpy():
    rate, samples = 22050, 8192
    audio = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(samples) / rate) + 0.05 * np.cos(np.arange(samples) ** 2.0)
    mine = LogMel()(torch.tensor(audio[None], dtype=torch.float32))[0].numpy()
    extended = np.pad(audio, 384, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    frames = np.stack([extended[i : i + 1024] * window for i in range(0, extended.size - 1023, 256)])
    spectrum = np.abs(np.fft.rfft(frames, axis=1))
    expected = np.log10(np.maximum(LogMel().basis.numpy() @ spectrum.T, 1e-5))
    assert mine.shape == (128, (samples - 256) // 256 + 1)
    np.testing.assert_allclose(mine, expected, atol=2e-4)
    # 1000 Hz is mel 15 on Slaney's scale; 129 steps span 0 to mel(11025) = 15 + 27 ln(11.025) / ln 6.4.
    step = (15 + 27 * np.log(11.025) / np.log(6.4)) / 129
    assert abs(int(mine[:, 10].argmax()) - (15 / step - 1)) <= 1


def test_log_mel_of_silence_is_the_floor():
    assert LogMel()(torch.zeros(1, 2048)).unique().tolist() == [-5.0]


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_a_prediction_that_is_the_truths_rows_has_no_loss(small_codec: JukeboxVQVAE, preset: str):
    codes = torch.randint(0, 16, (1, 32))
    rows = small_codec.dequantise(codes)
    audio = small_codec.decode(rows)
    target = make_target(small_codec, audio)._replace(latent=rows, quantised=rows)
    losses = ReconstructionLosses(small_codec, preset)(rows, target)
    assert {name: value.item() for name, value in losses.items()} == dict.fromkeys(
        ("latent", "commitment", "waveform", "mel"), 0.0
    )


def test_reconstruction_losses_are_means_over_elements(small_codec: JukeboxVQVAE):
    target = make_target(small_codec, torch.randn(2, 1, 4200) * 0.1)
    losses = ReconstructionLosses(small_codec, "released")(target.latent + 0.25, target)
    assert losses["latent"].item() == pytest.approx(0.25)
    expected = (target.quantised - target.latent - 0.25).abs().mean().item()
    assert losses["commitment"].item() == pytest.approx(expected)
    decoded = small_codec.decode(small_codec.quantise(target.latent + 0.25).latent)
    # 4,200 samples are 32 frames of 128: the last 104 samples have no counterpart.
    assert decoded.shape[-1] == 4096
    assert losses["waveform"].item() == pytest.approx((decoded - target.audio[..., :4096]).abs().mean().item())


def test_without_audio_terms_nothing_is_decoded(small_codec: JukeboxVQVAE, monkeypatch: pytest.MonkeyPatch):
    target = make_target(small_codec, torch.randn(1, 1, 4096))
    monkeypatch.setattr(small_codec, "decode", None)
    losses = ReconstructionLosses(small_codec, "paper")(target.latent, target, names=("latent", "commitment"))
    assert set(losses) == {"latent", "commitment"}


def test_the_codec_must_be_frozen_and_of_the_models_level(small_codec: JukeboxVQVAE):
    target = make_target(small_codec, torch.randn(1, 1, 4096))
    with pytest.raises(UserError, match="different levels or lengths"):
        ReconstructionLosses(small_codec, "paper")(target.latent[..., :-1], target)
    small_codec.requires_grad_(True)
    with pytest.raises(UserError, match="not frozen"):
        ReconstructionLosses(small_codec, "paper")


@pytest.fixture(params=["paper", "released"])
def one_step(request: pytest.FixtureRequest, small: ModelConfig, small_codec: JukeboxVQVAE):
    """Every loss of one prediction: preset, generator's side, discriminator's side, losses by name."""
    config = small
    if request.param == "released":
        config = dataclasses.replace(
            small, preset="released", level="low", latent_frames=32, pose_axis=80, visual_features=24
        )
    model = D2MGAN(config)
    adversarial = AdversarialLoss(model.new_discriminator())
    target = make_target(small_codec, torch.randn(2, 1, 4096) * 0.1)
    latent = model(torch.randn(2, 60, 75), torch.randn(2, 1, 24))
    judged = adversarial.discriminator_loss(latent, target.latent)
    adversarial.step(judged.loss)
    adversarial.optimiser.zero_grad(set_to_none=True)
    losses = adversarial(latent, judged.real) | ReconstructionLosses(small_codec, request.param)(latent, target)
    return request.param, model, adversarial, small_codec, losses


def test_every_weighted_loss_reaches_the_generator_or_is_said_not_to(one_step):
    preset, model, adversarial, codec, losses = one_step
    assert set(losses) == set(WEIGHTS)
    reached = set()
    for name, loss in losses.items():
        assert WEIGHTS[name] > 0
        assert torch.isfinite(loss)
        if not loss.requires_grad:
            continue
        model.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        # The motion encoder's first layer is the farthest from the loss: a gradient there passed through everything.
        for parameter in (model.generator.lin.weight, model.motion_encoder.lin1.weight):
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all()
            assert parameter.grad.abs().max() > 0, name
        reached.add(name)
    assert set(WEIGHTS) - reached == ({"waveform", "mel"} if preset == "released" else set())
    assert all(parameter.grad is None for parameter in adversarial.discriminator.parameters())
    assert all(parameter.grad is None for parameter in codec.parameters())
    assert all(parameter.requires_grad for parameter in adversarial.discriminator.parameters())


def test_one_pass_over_fake_and_real_is_two_passes():
    judge = MultiScaleDiscriminator("released", width=1 / 16)
    adversarial = AdversarialLoss(judge)
    fake, real = torch.randn(2, 8, 64, requires_grad=True), torch.randn(2, 8, 64)
    result = adversarial.discriminator_loss(fake, real)
    apart_fake, apart_real = judge(fake), judge(real)
    for scale in range(3):
        for layer in range(7):
            torch.testing.assert_close(result.fake[scale][layer], apart_fake[scale][layer])
            torch.testing.assert_close(result.real[scale][layer], apart_real[scale][layer])
            assert not result.real[scale][layer].requires_grad
    adversarial.step(result.loss)
    assert fake.grad is None


def test_a_step_separates_fake_from_real():
    adversarial = AdversarialLoss(MultiScaleDiscriminator("paper", width=1 / 8, input_scale=1.0), learning_rate=1e-3)
    fake, real = torch.randn(4, 4, 64) - 1, torch.randn(4, 4, 64) + 1
    losses = []
    for _ in range(15):
        result = adversarial.discriminator_loss(fake, real)
        adversarial.step(result.loss)
        losses.append(result.loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_state_brings_back_discriminator_and_optimiser():
    def new() -> AdversarialLoss:
        return AdversarialLoss(MultiScaleDiscriminator("released", width=1 / 32))

    fake, real = torch.randn(2, 4, 32), torch.randn(2, 4, 32)

    def train(adversarial: AdversarialLoss) -> float:
        result = adversarial.discriminator_loss(fake, real)
        adversarial.step(result.loss)
        return result.loss.item()

    first = new()
    for _ in range(3):
        train(first)
    second = new()
    second.load_state_dict(first.state_dict())
    assert [train(first) for _ in range(3)] == [train(second) for _ in range(3)]


def test_discriminators_that_break_the_contract_are_refused():
    with pytest.raises(TypeError, match="per scale, a list"):
        AdversarialLoss(torch.nn.Conv1d(4, 1, 3))(torch.zeros(1, 4, 8), [])
    with pytest.raises(UserError, match="differ in shape"):
        AdversarialLoss(torch.nn.Conv1d(4, 1, 3)).discriminator_loss(torch.zeros(1, 4, 8), torch.zeros(1, 4, 9))
