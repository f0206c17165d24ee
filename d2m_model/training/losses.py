"""The loss terms of D2M-GAN and their weights, by name, and the discriminator that gives the adversarial ones.

Every term is a mean over all elements, and every dictionary of losses or weights has these keys:

| name | formula |
|---|---|
| `hinge` | minus the sum over scales of the mean score of the prediction |
| `feature_matching` | (1 / scales) (4 / 5) sum over scales and layers of mean |D_layer(prediction) - D_layer(truth)| |
| `latent` | mean |true latent - predicted latent| |
| `commitment` | mean |code-book rows of the true latent - predicted latent| |
| `waveform` | mean |true audio - decoded prediction|, over the samples that both have |
| `mel` | mean |log-mel of the true audio - log-mel of the decoded prediction|, over the frames that both have |

The decoded prediction is the frozen decoder's output for the code-book rows nearest to the predicted latent. In the
`paper` preset `waveform` and `mel` reach the generator through a straight-through quantiser; in `released` they carry
no gradient, as in the authors' code, where they only move the logged total. Weights: those of the authors' released
code, for both presets. What the appendix leaves open, and `paper` chooses: that straight-through path, the weights, and
the `latent` term beside `commitment`, which the released code has (a weight of 0 leaves it out).

A training step is: `discriminator_loss` on the detached prediction and the truth (one pass over both), `step` on it,
then the object itself on the prediction for the generator's terms. The truth's feature maps are those of the first
pass, before the discriminator's update, as in the authors' code; the discriminator's parameters take no gradient in the
generator's pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2m_model.codec.interface import Codec, Quantised, straight_through
from d2m_model.codec.spectral import LogMel
from d2m_model.config import PRESETS, one_of
from d2m_model.networks.discriminator import Maps, features, scores
from tiktok_dm.errors import UserError

WEIGHTS: dict[str, float] = {
    "hinge": 1.0,
    "feature_matching": 3.0,
    "latent": 5.0,
    "commitment": 8.0,
    "waveform": 40.0,
    "mel": 15.0,
}
AUDIO_LOSSES = ("waveform", "mel")
"""The terms that need the decoder."""

# 4 / (layers of the discriminator's body + 1), as in MelGAN's code, from which this discriminator comes.
FEATURE_MATCHING_SCALE = 4 / 5


def hinge_discriminator(fake: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """Sum over scales of mean max(0, 1 + fake) + mean max(0, 1 - real); each score map any shape."""
    return torch.stack([(1 + f).relu().mean() + (1 - r).relu().mean() for f, r in zip(fake, real, strict=True)]).sum()


def hinge_generator(fake: Sequence[Tensor]) -> Tensor:
    """Minus the sum over scales of the mean score."""
    return -torch.stack([f.mean() for f in fake]).sum()


def feature_matching(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Mean over scales of 4/5 times the sum over layers of the mean absolute difference; `real` takes no gradient."""
    terms = [
        functional.l1_loss(f, r.detach())
        for fake_layers, real_layers in zip(fake, real, strict=True)
        for f, r in zip(fake_layers, real_layers, strict=True)
    ]
    return FEATURE_MATCHING_SCALE / len(fake) * torch.stack(terms).sum()


def check_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """The weights as given; a name that is left out weighs nothing.

    Raises:
        UserError: an unknown name, or a weight that is negative or not a number.
    """
    for name, weight in weights.items():
        one_of("loss", name, WEIGHTS)
        if not weight >= 0:
            raise UserError(f"The weight of the loss {name!r} is {weight}; give 0 or more.")
    return dict(weights)


def weighted_total(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of weight times loss over the terms with a weight.

    Raises:
        KeyError: a term with a weight that was not computed.
    """
    return torch.stack([weight * losses[name] for name, weight in weights.items() if weight]).sum()


def validation_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights of the terms in a validation's total: of the reconstruction, which is all that is computed there.

    A run of adversarial terms alone still needs an order of its checkpoints: there every term weighs 1.
    """
    mine = {name: weight for name in ReconstructionLosses.NAMES if (weight := weights.get(name, 0.0))}
    return mine or dict.fromkeys(ReconstructionLosses.NAMES, 1.0)


class Target(NamedTuple):
    """Ground truth of a batch of segments, computed once.

    Args:
        audio: (batch, 1, samples).
        latent: the codec's continuous latent, (batch, channels, frames).
        quantised: code-book rows of it, same shape.
    """

    audio: Tensor
    latent: Tensor
    quantised: Tensor


@torch.no_grad()
def make_target(codec: Codec, audio: Tensor) -> Target:
    """The target of audio (batch, 1, samples), without gradient."""
    latent = codec.encode(audio)
    return Target(audio, latent, codec.quantise(latent).latent)


class ReconstructionLosses:
    """`latent`, `commitment`, `waveform` and `mel` of a predicted latent.

    Args:
        codec: the frozen codec of the model's level; its parameters must not require a gradient.
        preset: `paper` (the audio terms reach the generator) or `released` (they carry no gradient).
        mel: the log-mel front end, on the codec's device; a fresh one on the CPU if None.

    Raises:
        UserError: an unknown preset, or a codec that is not frozen.
    """

    NAMES = ("latent", "commitment", *AUDIO_LOSSES)

    def __init__(self, codec: Codec, preset: str, mel: LogMel | None = None) -> None:
        one_of("preset", preset, PRESETS)
        if isinstance(codec, torch.nn.Module) and any(p.requires_grad for p in codec.parameters()):
            raise UserError("The codec is not frozen; the generator's losses need it so (codec.interface.freeze).")
        self.codec = codec
        self.audio_gradient = preset == "paper"
        self.mel = mel or LogMel()

    def __call__(
        self,
        latent: Tensor,
        target: Target,
        names: Iterable[str] = NAMES,
        quantised: Quantised | None = None,
        part: slice | None = None,
    ) -> dict[str, Tensor]:
        """The named losses of a predicted latent (batch, channels, frames).

        Args:
            latent: the generator's output.
            target: ground truth of the same segments.
            names: which terms; without `waveform` and `mel` nothing is quantised or decoded.
            quantised: `codec.quantise(latent)`, where it is already known.
            part: latent frames that are decoded and compared for `waveform` and `mel`; all if None.
        """
        names = set(names)
        if latent.shape != target.latent.shape:
            raise UserError(
                f"The model predicts a latent of shape {tuple(latent.shape)}, the truth has "
                f"{tuple(target.latent.shape)}; model and codec are of different levels or lengths."
            )
        losses: dict[str, Tensor] = {}
        if "latent" in names:
            losses["latent"] = functional.l1_loss(latent, target.latent)
        if "commitment" in names:
            losses["commitment"] = functional.l1_loss(latent, target.quantised)
        if names.intersection(AUDIO_LOSSES):
            with nullcontext() if self.audio_gradient else torch.no_grad():
                audio, truth = self.decoded(latent, target, quantised, part)
                if "waveform" in names:
                    length = min(audio.shape[-1], truth.shape[-1])
                    losses["waveform"] = functional.l1_loss(audio[..., :length], truth[..., :length])
                if "mel" in names:
                    mine, theirs = self.mel(audio[:, 0]), self.mel(truth[:, 0])
                    frames = min(mine.shape[-1], theirs.shape[-1])
                    losses["mel"] = functional.l1_loss(mine[..., :frames], theirs[..., :frames])
        return losses

    def decoded(
        self, latent: Tensor, target: Target, quantised: Quantised | None, part: slice | None
    ) -> tuple[Tensor, Tensor]:
        """Decoded prediction and true audio, (batch, 1, samples) each, of all frames or of a part of them."""
        if part is None:
            return self.decode(latent, quantised), target.audio
        first, last, _ = part.indices(latent.shape[-1])
        samples = slice(first * self.codec.hop, last * self.codec.hop)
        if quantised is not None:
            quantised = Quantised(quantised.codes[..., part], quantised.latent[..., part])
        return self.decode(latent[..., part], quantised), target.audio[..., samples]

    def decode(self, latent: Tensor, quantised: Quantised | None = None) -> Tensor:
        """Audio (batch, 1, samples) of a predicted latent through the quantiser, straight-through in the gradient."""
        quantised = quantised or self.codec.quantise(latent)
        return self.codec.decode(straight_through(latent, quantised.latent))


LEARNING_RATE = 1e-4
BETAS = (0.5, 0.9)


class DiscriminatorLoss(NamedTuple):
    """What one discriminator pass gives.

    Args:
        loss: the hinge loss, a scalar with gradient.
        fake: maps of the prediction.
        real: maps of the truth, detached, for feature matching.
    """

    loss: Tensor
    fake: Maps
    real: Maps


class AdversarialLoss(nn.Module):
    """Discriminator, Adam and the adversarial terms.

    Args:
        discriminator: latent (batch, channels, frames) to maps: per scale a list of layer outputs, scores last.
        learning_rate: Adam's.
        betas: Adam's.
        fused: whether Adam's update is one fused kernel.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        learning_rate: float = LEARNING_RATE,
        betas: tuple[float, float] = BETAS,
        fused: bool = False,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        # None rather than False: PyTorch then picks its own fastest plain implementation.
        self.optimiser = torch.optim.Adam(
            discriminator.parameters(), lr=learning_rate, betas=betas, fused=fused or None
        )

    def launch(self, wrap: Callable[[nn.Module], Callable[[Tensor], Maps]]) -> None:
        """Let a launcher wrap the discriminator for its own pass, where processes must agree on its gradient."""
        # Not registered: a wrapper shares the discriminator's parameters, and names in `state_dict` stay its own.
        object.__setattr__(self, "_wrapped", wrap(self.discriminator))

    @property
    def _first_pass(self) -> Callable[[Tensor], Maps]:
        return self.__dict__.get("_wrapped", self.discriminator)

    def discriminator_loss(self, fake: Tensor, real: Tensor) -> DiscriminatorLoss:
        """Hinge loss of the discriminator on predicted and true latents, (batch, channels, frames) each.

        Raises:
            UserError: latents of different shapes.
        """
        if fake.shape != real.shape:
            raise UserError(f"Predicted latents {tuple(fake.shape)} and true ones {tuple(real.shape)} differ in shape.")
        maps = self._checked(self._first_pass(torch.cat((fake.detach(), real.detach()))))
        n = fake.shape[0]
        fake_maps = [[layer[:n] for layer in layers] for layers in maps]
        real_maps = [[layer[n:] for layer in layers] for layers in maps]
        loss = hinge_discriminator(scores(fake_maps), scores(real_maps))
        return DiscriminatorLoss(loss, fake_maps, [[layer.detach() for layer in layers] for layers in real_maps])

    def step(
        self, loss: Tensor, backward: Callable[[Tensor], Any] = Tensor.backward, part: int = 0, parts: int = 1
    ) -> None:
        """One update of the discriminator; `backward` is a launcher's own where it has one.

        Of a loss that comes in parts, gradients add up, and the last part's call updates.
        """
        if part == 0:
            self.optimiser.zero_grad(set_to_none=True)
        backward(loss)
        if part == parts - 1:
            self.optimiser.step()

    def forward(self, fake: Tensor, real_maps: Maps) -> dict[str, Tensor]:
        """`hinge` and `feature_matching` of predicted latents, with gradient to them and none to the discriminator."""
        with frozen(self.discriminator):
            maps = self._checked(self.discriminator(fake))
        return {
            "hinge": hinge_generator(scores(maps)),
            "feature_matching": feature_matching(features(maps), features(real_maps)),
        }

    @staticmethod
    def _checked(maps: Maps) -> Maps:
        if not isinstance(maps, list) or not all(isinstance(layers, list) and len(layers) > 1 for layers in maps):
            raise TypeError("a discriminator returns, per scale, a list of layer outputs with the scores last")
        return maps

    def get_extra_state(self) -> dict[str, Any]:
        """The optimiser's state, which thus travels in `state_dict`."""
        return {"optimiser": self.optimiser.state_dict()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        # Adam would go on using the very tensors it is given, and two trainings would share their moments.
        self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradient for the parameters of `module` in what is computed inside; each is restored afterwards."""
    wanted = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
