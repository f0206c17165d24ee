"""The training step against a plain loop written by hand, and what it leaves out."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional

from d2m_model import acceleration
from d2m_model.codec.interface import straight_through
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.config import ModelConfig
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.training.losses import AUDIO_LOSSES, WEIGHTS, AdversarialLoss, ReconstructionLosses
from d2m_model.training.step import Batch, TrainingStep

FRAMES, HOP = 344, 128
READ = {"total", "gradient_norm"}
ALL_LOSSES = {"discriminator", *WEIGHTS, *READ}


@pytest.fixture(params=["paper", "released"])
def model(request: pytest.FixtureRequest, small: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> D2MGAN:
    """A narrow model in float64, some of whose convolutions are accelerated in a step."""
    monkeypatch.setattr(acceleration, "_NARROW", 12)
    return D2MGAN(dataclasses.replace(small, preset=request.param, latent_frames=FRAMES, motion_units="")).double()


@pytest.fixture
def batch(model: D2MGAN, small_codec: JukeboxVQVAE) -> Batch:
    codec = small_codec.double()
    audio = torch.randn(2, 1, FRAMES * HOP, dtype=torch.float64) / 10
    with torch.no_grad():
        latent = codec.encode(audio)
    codes = codec.quantise(latent).codes
    motion = torch.randn(2, 60, 75, dtype=torch.float64)
    return Batch(motion, torch.randn(2, 1, 24, dtype=torch.float64), None, latent, codes, audio)


def new_step(model: D2MGAN, codec: JukeboxVQVAE, weights: dict[str, float], seed: int = 3) -> TrainingStep:
    torch.manual_seed(seed)
    mine = copy.deepcopy(model)
    acceleration.accelerate(mine)
    adversarial = AdversarialLoss(mine.new_discriminator().double())
    optimiser = torch.optim.Adam(mine.parameters(), lr=1e-4, betas=(0.5, 0.9))
    reconstruction = ReconstructionLosses(codec, mine.config.preset, LogMel().double())
    return TrainingStep(mine, optimiser, adversarial, reconstruction, weights)


def parameters(step: TrainingStep) -> dict[str, torch.Tensor]:
    both = {"model": step.model, "discriminator": step.adversarial.discriminator}
    return {f"{name}.{key}": p.detach() for name, net in both.items() for key, p in net.named_parameters()}


def plain_loop(
    model: D2MGAN, codec: JukeboxVQVAE, batch: Batch, steps: int, seed: int = 3
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The two-optimiser loop without any of the step's savings: parameters after it, losses of its last step."""
    torch.manual_seed(seed)
    model = copy.deepcopy(model)
    judge = model.new_discriminator().double()
    optimiser_g = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.9))
    optimiser_d = torch.optim.Adam(judge.parameters(), lr=1e-4, betas=(0.5, 0.9))
    mel = LogMel().double()
    assert batch.audio is not None
    for _ in range(steps):
        truth = codec.encode(batch.audio).detach()
        rows = codec.quantise(truth).latent
        fake = model(batch.motion, batch.visual)
        real_maps = judge(truth)
        loss_d = torch.zeros((), dtype=torch.float64)
        for fake_layers, real_layers in zip(judge(fake.detach()), real_maps, strict=True):
            loss_d = loss_d + functional.relu(1 + fake_layers[-1]).mean() + functional.relu(1 - real_layers[-1]).mean()
        optimiser_d.zero_grad()
        loss_d.backward()
        optimiser_d.step()

        hinge = matching = torch.zeros((), dtype=torch.float64)
        for fake_layers, real_layers in zip(judge(fake), real_maps, strict=True):
            hinge = hinge - fake_layers[-1].mean()
            for mine, other in zip(fake_layers[:-1], real_layers[:-1], strict=True):
                matching = matching + 4 / 15 * (mine - other.detach()).abs().mean()
        heard = codec.decode(straight_through(fake, codec.quantise(fake).latent))
        losses = {
            "hinge": hinge,
            "feature_matching": matching,
            "latent": (truth - fake).abs().mean(),
            "commitment": (rows - fake).abs().mean(),
            "waveform": (batch.audio - heard).abs().mean(),
            "mel": (mel(batch.audio[:, 0]) - mel(heard[:, 0])).abs().mean(),
        }
        if model.config.preset == "released":
            losses |= {name: losses[name].detach() for name in AUDIO_LOSSES}
        total = 1 * hinge + 3 * matching + 5 * losses["latent"] + 8 * losses["commitment"]
        total = total + 40 * losses["waveform"] + 15 * losses["mel"]
        optimiser_g.zero_grad()
        total.backward()
        norm = torch.stack([p.grad.square().sum() for p in model.parameters() if p.grad is not None]).sum().sqrt()
        optimiser_g.step()
        losses |= {"discriminator": loss_d, "total": total, "gradient_norm": norm}
    both = {"model": model, "discriminator": judge}
    after = {f"{name}.{key}": p.detach() for name, net in both.items() for key, p in net.named_parameters()}
    return after, {name: float(loss.detach()) for name, loss in losses.items()}


def assert_same(mine: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float) -> None:
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}")


def test_two_steps_are_two_steps_of_the_plain_loop(model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE):
    step = new_step(model, small_codec, WEIGHTS)
    before = {name: value.clone() for name, value in parameters(step).items()}
    for _ in range(2):
        losses = step(batch)
    expected, expected_losses = plain_loop(model, small_codec, batch, 2)
    # A step is 1e-4; Adam divides by the gradient's size, which turns rounding into 1e-4 times its share of it.
    assert_same(parameters(step), expected, 1e-7)
    assert losses.keys() == ALL_LOSSES
    for name, value in expected_losses.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-6, abs=1e-8), name
    # Inside both margins the hinge pulls a score up for the truth as much as down for the made: a bias of the
    # discriminator behind which both run through the same linear pieces has a gradient of zero, or of what rounding
    # leaves of it, by processor. Everything else moves.
    still = {name for name, value in parameters(step).items() if torch.equal(value, before[name])}
    biases = {name for name in before if name.startswith("discriminator.") and name.endswith(".bias")}
    assert still < biases, still - biases


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(
    model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE, parts: int
):
    """In float64, where a sum in another order differs by its terms' rounding: 1e-16 times their number."""
    four = Batch(*(None if t is None else torch.cat((t, t.flip(-1))) for t in batch))
    whole, shared = (new_step(model, small_codec, WEIGHTS) for _ in range(2))
    shared.accumulate = parts
    losses, same = whole(four), shared(four)
    assert losses.keys() == same.keys() == ALL_LOSSES
    for name, value in losses.items():
        assert float(same[name]) == pytest.approx(float(value), rel=1e-10, abs=1e-12), name
    for one, other in (
        (whole.model, shared.model),
        (whole.adversarial.discriminator, shared.adversarial.discriminator),
    ):
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            # A bias without influence has a gradient that is rounding alone.
            scale = max(float(p.grad.abs().max()), 1e-3)
            assert float((p.grad - q.grad).abs().max()) <= 1e-9 * scale, name


def test_parts_in_lower_precision_still_reach_every_weight(model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE):
    """Autocast keeps lowered weights, and those of the pass without gradient must not be used in the one with it."""
    step = new_step(model.float(), small_codec.float(), WEIGHTS)
    step.adversarial.float()
    step.reconstruction.mel.float()
    step.accumulate = 2
    with torch.autocast("cpu", torch.bfloat16):
        step(Batch(*(t.float() if t is not None and t.is_floating_point() else t for t in batch)))
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in step.model.parameters())


def test_steps_that_are_not_logged_give_the_same_parameters(model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE):
    read, unread = (new_step(model, small_codec, WEIGHTS) for _ in range(2))
    for _ in range(2):
        read(batch, log=True)
        losses = unread(batch, log=False)
    silent = set(AUDIO_LOSSES) if model.config.preset == "released" else set()
    assert losses.keys() == ALL_LOSSES - silent - READ
    assert_same(parameters(read), parameters(unread), 0.0)


def test_terms_without_a_weight_are_not_computed(
    model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE, monkeypatch: pytest.MonkeyPatch
):
    step = new_step(model, small_codec, {"latent": 5.0, "commitment": 0.0})
    judge = {name: p.clone() for name, p in step.adversarial.discriminator.named_parameters()}
    monkeypatch.setattr(AdversarialLoss, "discriminator_loss", lambda *_: pytest.fail("the discriminator was called"))
    monkeypatch.setattr(ReconstructionLosses, "decode", lambda *_: pytest.fail("something was decoded"))
    losses = step(batch._replace(audio=None))
    assert losses.keys() == {"latent", *READ}
    assert float(losses["total"]) == pytest.approx(5 * float(losses["latent"]))
    assert all(torch.equal(p, judge[name]) for name, p in step.adversarial.discriminator.named_parameters())


def test_the_discriminator_takes_no_gradient_from_the_generators_pass(
    model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE, monkeypatch: pytest.MonkeyPatch
):
    step = new_step(model, small_codec, WEIGHTS)
    judge = step.adversarial.discriminator
    real = AdversarialLoss.step

    def without_gradients(self: AdversarialLoss, *given: object) -> None:
        real(self, *given)
        self.optimiser.zero_grad(set_to_none=True)

    monkeypatch.setattr(AdversarialLoss, "step", without_gradients)
    step(batch)
    assert all(p.grad is None for p in judge.parameters())
    assert all(p.requires_grad for p in judge.parameters())
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in step.model.parameters())


def test_a_step_without_the_discriminator_is_possible(model: D2MGAN, batch: Batch, small_codec: JukeboxVQVAE):
    step = new_step(model, small_codec, WEIGHTS)
    judge = {name: p.clone() for name, p in step.adversarial.discriminator.named_parameters()}
    losses = step(batch, adversarial=False)
    assert losses.keys() == ALL_LOSSES - {"discriminator", "hinge", "feature_matching"}
    assert all(torch.equal(p, judge[name]) for name, p in step.adversarial.discriminator.named_parameters())


def test_a_batch_moves_as_a_whole(batch: Batch):
    moved = batch._replace(genre=None).to(torch.device("meta"))
    assert moved.genre is None
    assert all(part.device.type == "meta" for part in moved if part is not None)
    assert moved.latent.shape == batch.latent.shape
    assert batch.latent.device.type == "cpu"
