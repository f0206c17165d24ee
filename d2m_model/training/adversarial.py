"""One object that owns the discriminator, its optimiser and their state. Not for the generator's optimiser.

A training step is: `discriminator_loss` on the detached prediction and the truth (one pass over both), `step` on it,
then the object itself on the prediction for the generator's terms. The truth's feature maps are those of the first
pass, before the discriminator's update, as in the authors' code; the discriminator's parameters take no gradient in
the generator's pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from d2m_model.networks.discriminator import Maps, features, scores
from d2m_model.training.losses import feature_matching, hinge_discriminator, hinge_generator
from tiktok_dm.errors import UserError

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

    def step(self, loss: Tensor, backward: Callable[[Tensor], Any] = Tensor.backward) -> None:
        """One update of the discriminator; `backward` is a launcher's own where it has one."""
        self.optimiser.zero_grad(set_to_none=True)
        backward(loss)
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
