"""One training step of D2M-GAN: an update of the discriminator, then one of the generator. Not for loops or devices.

Order, as in the authors' code: predict; discriminator on the detached prediction and the truth (one pass), its update;
then the generator's losses with the updated discriminator, its update. What is saved against a plain loop, with the
same numbers: ground truth comes encoded, only terms that have a weight are computed, and in the `released` preset the
two audio terms, which carry no gradient, only on steps that are logged.

A batch may go through in parts, whose gradients add up to the whole one's (every loss is a mean over segments of one
size): the discriminator is updated once, after all parts, so that the generator's pass over each part comes later and
predicts it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from d2m_model.networks.discriminator import Maps
from d2m_model.training.losses import (
    AUDIO_LOSSES,
    AdversarialLoss,
    ReconstructionLosses,
    Target,
    check_weights,
    weighted_total,
)


class Batch(NamedTuple):
    """Segments as the step takes them.

    Args:
        motion: (batch, motion_frames, motion_features) in the model's units, or None.
        visual: (batch, 1, visual_features), or None.
        genre: (batch,) int64, or None.
        latent: the codec's continuous latent of the true audio, (batch, channels, frames).
        codes: (batch, frames) integers, nearest rows of the latent; (batch, code-books, frames) of a residual codec.
        audio: (batch, 1, samples); None where no loss needs it.
    """

    motion: Tensor | None
    visual: Tensor | None
    genre: Tensor | None
    latent: Tensor
    codes: Tensor
    audio: Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The batch on another device, without waiting for the copy."""
        moved = {name: part.to(device, non_blocking=True) for name, part in self._asdict().items() if part is not None}
        return self._replace(**moved)

    def split(self, parts: int) -> list[Batch]:
        """The batch in that many parts of one size, which must divide it."""
        size = len(self.latent) // parts
        given = {name: values for name, values in self._asdict().items() if values is not None}
        rows = [slice(k * size, (k + 1) * size) for k in range(parts)]
        return [self._replace(**{name: values[part] for name, values in given.items()}) for part in rows]

    def inputs(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What the model is called with."""
        return self.motion, self.visual, self.genre


class TrainingStep:
    """Both updates on one batch.

    Args:
        model: motion, visual and genre to a latent; may be wrapped by a launcher.
        optimiser: of the model's parameters.
        adversarial: discriminator, its optimiser and its terms.
        reconstruction: the other terms, on the frozen codec.
        weights: loss name to weight; a term without one is neither computed nor returned.
        backward: a launcher's own, where it has one.
        clip: greatest norm of the generator's gradient; 0 for no limit.
        accumulate: parts in which a batch goes through the networks.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        adversarial: AdversarialLoss,
        reconstruction: ReconstructionLosses,
        weights: Mapping[str, float],
        backward: Callable[[Tensor], Any] = Tensor.backward,
        clip: float = 0.0,
        accumulate: int = 1,
    ) -> None:
        self.model, self.optimiser = model, optimiser
        self.adversarial, self.reconstruction = adversarial, reconstruction
        self.weights = {name: weight for name, weight in check_weights(weights).items() if weight}
        self.backward, self.clip, self.accumulate = backward, clip, accumulate
        self.is_adversarial = "hinge" in self.weights or "feature_matching" in self.weights
        self.silent = () if reconstruction.audio_gradient else AUDIO_LOSSES

    def __call__(
        self, batch: Batch, *, log: bool = True, adversarial: bool = True, part: slice | None = None
    ) -> dict[str, Tensor]:
        """Update both networks; the losses by name, scalars without gradient, on the batch's device.

        Args:
            batch: on the model's device.
            log: whether the losses are read: terms without gradient, `total` and `gradient_norm` (of the generator,
                before clipping) are there only then.
            adversarial: whether the discriminator takes part in this step.
            part: latent frames that are decoded for the waveform and mel terms; all if None.
        """
        parts = batch.split(self.accumulate)
        targets = [self.target(each) for each in parts]
        losses: dict[str, Tensor] = {}
        fakes: list[Tensor] = []
        reals: list[Maps] = []
        if adversarial := adversarial and self.is_adversarial:
            for k, (each, target) in enumerate(zip(parts, targets, strict=True)):
                with nullcontext() if len(parts) == 1 else torch.no_grad():
                    fakes.append(self.model(*each.inputs()))
                judged = self.adversarial.discriminator_loss(fakes[-1], target.latent)
                self.adversarial.step(judged.loss / len(parts), self.backward, k, len(parts))
                # Views of maps over prediction and truth; of many parts only the truth's half is worth keeping.
                reals.append(judged.real if len(parts) == 1 else [[m.clone() for m in maps] for maps in judged.real])
                _add(losses, {"discriminator": judged.loss}, len(parts))
        if len(parts) > 1:
            fakes = []
            torch.clear_autocast_cache()  # of weights that were lowered where no gradient was asked for
        self.optimiser.zero_grad(set_to_none=True)
        for k, (each, target) in enumerate(zip(parts, targets, strict=True)):
            fake = fakes[k] if fakes else self.model(*each.inputs())
            terms = self.adversarial(fake, reals[k]) if adversarial else {}
            terms |= self.reconstruction(fake, target, self.names(log), part=part)
            terms = {name: loss for name, loss in terms.items() if name in self.weights}
            total = weighted_total(terms, {name: self.weights[name] for name in terms})
            self.backward(total / len(parts))
            _add(losses, {**terms, "total": total} if log else terms, len(parts))
        if log:
            losses["gradient_norm"] = gradient_norm(self.model).detach()
        if self.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimiser.step()
        return losses

    def names(self, log: bool) -> Iterable[str]:
        """Reconstruction terms that this step computes."""
        return [n for n in ReconstructionLosses.NAMES if n in self.weights and (log or n not in self.silent)]

    def target(self, batch: Batch) -> Target:
        """The batch's ground truth as the losses take it."""
        rows = self.reconstruction.codec.dequantise(batch.codes.long()).to(batch.latent.dtype)
        audio = batch.audio if batch.audio is not None else batch.latent.new_zeros(len(batch.latent), 1, 0)
        return Target(audio, batch.latent, rows)


def _add(sums: dict[str, Tensor], losses: Mapping[str, Tensor], parts: int) -> None:
    """Add one part's share of the batch's losses."""
    for name, loss in losses.items():
        share = loss.detach() / parts
        sums[name] = sums[name] + share if name in sums else share


def gradient_norm(network: nn.Module) -> Tensor:
    """Euclidean norm over all gradients of a network; 0 where there are none."""
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
