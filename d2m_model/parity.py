"""Does this implementation compute what the authors' released code computes? A parity pack, opened and compared.

Does this implementation compute what the authors' released code computes? Not a test of training.

A parity pack is a folder with `state_dicts.json` (names and shapes of the reference's weights), `deterministic.py`
(numpy-only generator of weights and inputs; it is run) and a file of expected numbers. This module rebuilds weights and
inputs, runs the `released` preset (forward passes, losses, gradients, one Adam step of discriminator and generator) and
compares array by array. Errors are relative to the largest reference value unless the pack says otherwise, and
tolerances are the pack's; rows without one in the pack are marked.

Rounding decides two things, and neither is held against an implementation:

- an unsafe code (two code-book rows nearer to each other than rounding): the reference's code is taken for what
  follows, so that the rest can be compared exactly;
- the sign of Adam's first step where a gradient is next to zero. One such component (gradient under a thousandth of its
  parameter's root mean square) is allowed for in each probe product of the change. And as one component of the
  discriminator's last layer moves all scores, score maps after the step have the tolerance of single values throughout;
  the pack gives none for their means, and 1e-4 for their spread, which its own numbers for `high_aist` do not keep:
  this implementation in float64 and in float32 both differ from them by 1.3e-4, by one flipped component of
  `disc_2.layer_6.weight_v` whose gradient is 6e-7 where the parameter's norm of it is 23.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from d2m_model.codec.interface import Quantised, freeze
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.spectral import LogMel
from d2m_model.config import LEVELS, one_of, preset_config
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.networks.discriminator import Maps, scores
from d2m_model.training.losses import (
    BETAS,
    LEARNING_RATE,
    WEIGHTS,
    AdversarialLoss,
    DiscriminatorLoss,
    ReconstructionLosses,
    Target,
    weighted_total,
)
from tiktok_dm.errors import UserError


@dataclass(frozen=True)
class Result:
    """One compared array.

    Args:
        name: as in the file of expected numbers.
        error: the largest error; infinite where names, shapes or codes differ that must not.
        tolerance: the largest error that passes.
        note: what is compared where the name does not say it.
    """

    name: str
    error: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Pack:
    """A parity pack as opened: where, names and shapes, generator of weights, expected numbers, seed, batch."""

    folder: Path
    networks: Mapping[str, Any]
    generator: ModuleType
    expected: Mapping[str, np.ndarray]
    seed: int
    batch: int

    def fill(self, module: nn.Module, network: str) -> nn.Module:
        """Give `module` the pack's weights of that network; a codec takes its own level of them.

        Raises:
            UserError: entries that are missing, or of another shape, on either side.
        """
        rows = {key: tuple(shape) for key, shape, _ in self.networks[network]["keys"]}
        mine = {key: tuple(value.shape) for key, value in module.state_dict().items()}
        if not isinstance(module, JukeboxVQVAE) and (odd := sorted(set(rows.items()) ^ set(mine.items()))):
            raise UserError(f"This implementation and the pack differ in {network}, entry {odd[0][0]} {odd[0][1]}.")
        if lacking := sorted(set(mine) - set(rows)):
            raise UserError(f"The pack's {network} has no entry {lacking[0]}.")
        state = {key: torch.from_numpy(self.generator.weights(self.seed, network, key, rows[key])) for key in mine}
        module.load_state_dict(state)
        return module


def open_pack(folder: Path, expected: Path | None = None) -> Pack:
    """Open a pack; the expected numbers are `expected`, or the pack's own for seed 0.

    Raises:
        UserError: a file that is missing or is not what it should be.
    """
    files = [folder / "state_dicts.json", folder / "deterministic.py", expected or folder / "expected_seed0.npz"]
    for path in files:
        if not path.is_file():
            raise UserError(f"The parity pack lacks the file {path}.")
    specification = importlib.util.spec_from_file_location("d2m_parity_pack", files[1])
    assert specification is not None
    assert specification.loader is not None
    generator = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(generator)
        networks = json.loads(files[0].read_text())["networks"]
        with np.load(files[2], allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = str(arrays["meta"])
        seed, batch = (int(re.search(rf"\b{word}=(\d+)", meta).group(1)) for word in ("seed", "batch"))  # type: ignore[union-attr]
    except Exception as error:  # whatever a damaged pack raises, the user needs to know which
        raise UserError(f"The parity pack {folder} cannot be used: {type(error).__name__}: {error}.") from error
    return Pack(folder, networks, generator, arrays, seed, batch)


CONFIGURATIONS = {"high_tiktok": ("high", "tiktok"), "high_aist": ("high", "aist"), "low_aist": ("low", "aist")}
PARTS = ("mel", "vq", *CONFIGURATIONS)

# The reference's names of the generator's terms.
REFERENCE_LOSSES = {
    "hinge": "G_adversarial",
    "feature_matching": "feature_matching",
    "latent": "xs_l1",
    "commitment": "code_l1",
    "waveform": "audio_l1",
    "mel": "mel_l1",
}


def compare(pack: Pack, parts: Iterable[str] = PARTS) -> Iterator[Result]:
    """Compare the parts of the pack one after the other, yielding a result per array as it is known.

    Raises:
        UserError: an unknown part.
    """
    parts = list(parts)
    for part in parts:
        one_of("part of the pack", part, PARTS)
    audio = torch.from_numpy(pack.generator.inputs(pack.seed, "tiktok", pack.batch)["audio"])
    if "mel" in parts:
        mel = LogMel()
        yield _largest(pack, "mel.basis", mel.basis, 1e-5, "tolerance ours")
        yield _largest(pack, "mel.gt", mel(audio[:, 0]), 1e-5)
    if "vq" in parts:
        for level in (1, 2):
            yield from _compare_codec(pack, level, audio)
    for part in parts:
        if part in CONFIGURATIONS:
            yield from _compare_configuration(pack, part, audio)


def _array(value: Tensor | np.ndarray) -> np.ndarray:
    return value.detach().numpy() if isinstance(value, Tensor) else value


def _largest(pack: Pack, name: str, mine: Tensor | np.ndarray, tolerance: float, note: str = "") -> Result:
    """Largest absolute difference over the largest absolute reference value."""
    reference, mine = pack.expected[name].astype(np.float64), _array(mine).astype(np.float64)
    if reference.shape != mine.shape:
        return Result(name, float("inf"), tolerance, f"shape {mine.shape}, expected {reference.shape}")
    scale = np.abs(reference).max()
    error = np.abs(reference - mine).max() / scale if scale else np.abs(mine).max()
    # A NaN compares as passed nowhere, but prints as one; say it by an error that no tolerance allows.
    return Result(name, float(error) if np.isfinite(error) else float("inf"), tolerance, note)


def _codes(pack: Pack, prefix: str, codec: JukeboxVQVAE, latent: Tensor) -> tuple[Quantised, list[Result]]:
    """Quantise and compare; where the reference's code is unsafe, its code is what follows."""
    mine = codec.quantise(latent).codes
    reference = torch.from_numpy(pack.expected[f"{prefix}.codes"].astype(np.int64))
    safe = torch.from_numpy(pack.expected[f"{prefix}.safe"])
    differ = mine != reference
    wrong, unsafe = int((differ & safe).sum()), int((differ & ~safe).sum())
    note = f"codes that differ where safe; {unsafe} of {int((~safe).sum())} unsafe ones differ"
    rows = latent.detach().double().transpose(1, 2).reshape(-1, latent.shape[1])
    table = codec.codebook.k.double()
    distances = (rows**2).sum(1, keepdim=True) - 2 * rows @ table.t() + (table**2).sum(1)
    nearest = distances.topk(2, dim=1, largest=False).values
    margin = ((nearest[:, 1] - nearest[:, 0]) / (rows**2).sum(1)).reshape(mine.shape)
    taken = torch.where(safe, mine, reference)
    results = [
        Result(f"{prefix}.codes", float(wrong), 0.0, note),
        _largest(pack, f"{prefix}.margin", margin, 1e-4, "tolerance ours"),
    ]
    return Quantised(taken, codec.dequantise(taken)), results


def _codec(pack: Pack, level: int) -> JukeboxVQVAE:
    codec = JukeboxVQVAE(level)
    pack.fill(codec, "vqvae")
    freeze(codec)
    return codec


@torch.no_grad()
def _compare_codec(pack: Pack, level: int, audio: Tensor) -> Iterator[Result]:
    codec, prefix = _codec(pack, level), f"vq.level{level}"
    latent = codec.encode(audio)
    yield _largest(pack, f"{prefix}.latent", latent, 1e-5)
    quantised, results = _codes(pack, prefix, codec, latent)
    yield from results
    yield _largest(pack, f"{prefix}.quantised", quantised.latent, 0.0)
    yield _largest(pack, f"{prefix}.audio", codec.decode(quantised.latent).transpose(1, 2), 1e-5)
    given = torch.from_numpy(pack.generator.codes(pack.seed, level, pack.batch, latent.shape[-1]))
    decoded = codec.decode(codec.dequantise(given)).transpose(1, 2)
    yield _largest(pack, f"{prefix}.audio_from_given_codes", decoded, 1e-5)


def _compare_configuration(pack: Pack, part: str, audio: Tensor) -> Iterator[Result]:
    """One training step of a configuration, compared at every stage."""
    level, dataset = CONFIGURATIONS[part]
    # The pack did not measure the floors of the low level, and allows three times the tolerance after an update.
    slack = 3.0 if level == "low" else 1.0
    config = preset_config("released", level, dataset)
    with torch.device("meta"):
        model = D2MGAN(config)
        discriminator = model.new_discriminator()
    model.to_empty(device="cpu")
    discriminator.to_empty(device="cpu")
    assert model.motion_encoder is not None
    pack.fill(model.motion_encoder, f"motion_encoder.{dataset}")
    pack.fill(model.generator, f"generator_{level}.{dataset}")
    pack.fill(discriminator, "discriminator")
    codec = _codec(pack, LEVELS[level].codec_level)
    adversarial = AdversarialLoss(discriminator)
    reconstruction = ReconstructionLosses(codec, "released")

    inputs = pack.generator.inputs(pack.seed, dataset, pack.batch)
    genre = torch.from_numpy(inputs["genre_index"]) if config.genres else None
    vector = model.encode_motion(torch.from_numpy(inputs["motion"]))
    yield _largest(pack, f"{part}.motion", vector, 1e-5)
    fused = model.fuse(vector, torch.from_numpy(inputs["visual"]))
    yield _largest(pack, f"{part}.fused", fused, 1e-5)
    latent = model.generator(fused, genre)
    yield _largest(pack, f"{part}.x_pred", latent, 3e-5)

    with torch.no_grad():
        true_latent = codec.encode(audio)
        target = Target(audio, true_latent, codec.quantise(true_latent).latent)
        quantised, results = _codes(pack, f"{part}.pred", codec, latent)
        yield from results
        decoded = codec.decode(quantised.latent).transpose(1, 2)
        log_mel = reconstruction.mel(decoded[..., 0])
    yield _largest(pack, f"{part}.quantised_pred.stride5", quantised.latent.flatten()[::5], 0.0)
    yield _largest(pack, f"{part}.audio_pred.stride8", decoded.flatten()[::8], 1e-5)
    yield _largest(pack, f"{part}.mel_pred.stride4", log_mel.flatten()[::4], 5e-5)

    networks = {"motion_encoder": model.motion_encoder, "generator": model.generator}
    step = adversarial.discriminator_loss(latent, target.latent)
    yield from _compare_maps(pack, f"{part}.D.fake", step.fake, 1e-5, 1e-4, 1e-5)
    yield from _compare_maps(pack, f"{part}.D.real", step.real, 1e-5, 1e-4, 1e-5)
    yield _kinks(pack, f"{part}.D.kink_distance", step)
    named = {f"discriminator:{key}": value for key, value in discriminator.named_parameters()}
    yield from _compare_update(
        pack, f"{part}.gradD", f"{part}.adamD", named, lambda: adversarial.step(step.loss), (2e-3, 1e-2, 0.1), slack
    )

    with torch.no_grad():
        after = adversarial.discriminator(latent.detach())
    values = 2e-3 * slack
    yield from _compare_maps(pack, f"{part}.D.fake_after_D_step", after, 1e-4 * slack, values, values)

    losses = adversarial(latent, step.real) | reconstruction(latent, target, quantised=quantised)
    total = weighted_total(losses, WEIGHTS)
    yield from _compare_losses(pack, part, step, losses, total)
    parameters = {f"{name}:{key}": p for name, module in networks.items() for key, p in module.named_parameters()}
    optimiser = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, betas=BETAS)

    def update() -> None:
        total.backward()
        optimiser.step()

    yield from _compare_update(pack, f"{part}.gradG", f"{part}.adamG", parameters, update, (1e-3, 2e-2, 0.25), slack)


def _compare_maps(pack: Pack, prefix: str, maps: Maps, spread: float, values: float, mean: float) -> Iterator[Result]:
    """Discriminator outputs: shapes, statistics, and samples of the values, one row per scale and layer.

    Args:
        pack: the pack.
        prefix: of the arrays' names.
        maps: what the discriminator gave.
        spread: tolerance of standard deviation and l2 norm.
        values: tolerance of sampled values.
        mean: tolerance of the mean, and of the spread of score maps.
    """
    flat = [_array(layer) for layers in maps for layer in layers]
    shapes = np.array([layer.shape for layer in flat])
    same = np.array_equal(shapes, pack.expected[f"{prefix}.shape"])
    yield Result(f"{prefix}.shape", 0.0 if same else float("inf"), 0.0, "shapes must be equal")
    if not same:
        return
    wide = [layer.astype(np.float64) for layer in flat]
    mine = np.array([(m.mean(), m.std(), np.sqrt((m**2).sum())) for m in wide])
    reference = pack.expected[f"{prefix}.mean_std_l2"]
    statistics = np.abs(mine - reference) / np.stack((reference[:, 1], reference[:, 1], reference[:, 2]), axis=1)
    is_score = np.array([index == len(layers) - 1 for layers in maps for index in range(len(layers))])
    yield Result(f"{prefix}.std_l2", float(statistics[~is_score, 1:].max()), spread, "all layers but the scores")
    yield Result(f"{prefix}.std_l2.scores", float(statistics[is_score, 1:].max()), mean)
    yield Result(f"{prefix}.mean", float(statistics[:, 0].max()), mean, "over the std")
    for name, sample in (("first64", _first64), ("strided64", _strided64)):
        ours, theirs = np.array([sample(m.ravel()) for m in wide]), pack.expected[f"{prefix}.{name}"]
        error = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max(axis=1)
        yield Result(f"{prefix}.{name}", float(error.max()), values, "per row")


def _first64(values: np.ndarray) -> np.ndarray:
    return np.pad(values[:64], (0, max(0, 64 - values.size)))


def _strided64(values: np.ndarray) -> np.ndarray:
    return _first64(values[:: max(1, values.size // 64)])


def _kinks(pack: Pack, name: str, step: DiscriminatorLoss) -> Result:
    fake = min(float((score.detach() + 1).abs().min()) for score in scores(step.fake))
    real = min(float((score - 1).abs().min()) for score in scores(step.real))
    error = float(np.abs(np.array([fake, real]) - pack.expected[name]).max())
    return Result(name, error, 1e-4, "absolute; tolerance ours")


def _compare_losses(
    pack: Pack, part: str, step: DiscriminatorLoss, losses: Mapping[str, Tensor], total: Tensor
) -> Iterator[Result]:
    mine = {"D": step.loss, "total_G": total} | {REFERENCE_LOSSES[name]: value for name, value in losses.items()}
    mine = {name: value.detach() for name, value in mine.items()}
    names = [str(name) for name in pack.expected[f"{part}.loss.names"]]
    if set(names) != set(mine):
        yield Result(f"{part}.loss.names", float("inf"), 0.0, f"expected {names}")
        return
    for name, reference in zip(names, pack.expected[f"{part}.loss.values"], strict=True):
        difference = abs(float(mine[name]) - float(reference))
        if name == "G_adversarial":
            yield Result(f"{part}.loss.{name}", difference, 2e-3, "absolute")
        else:
            tolerance = 2e-5 if name == "total_G" else 1e-5
            yield Result(f"{part}.loss.{name}", difference / abs(float(reference)), tolerance)


def _compare_update(
    pack: Pack,
    gradients: str,
    changes: str,
    parameters: Mapping[str, Tensor],
    update: Callable[[], None],
    tolerances: tuple[float, float, float],
    slack: float,
) -> Iterator[Result]:
    """Run `update` (backward and one Adam step) and compare gradients and changes of every parameter.

    Args:
        pack: the pack.
        gradients: name of the gradients' arrays.
        changes: name of the Adam step's arrays.
        parameters: by the reference's names.
        update: leaves gradients on the parameters.
        tolerances: gradient norm, gradient probe, probe of the change.
        slack: factor on all of them.
    """
    before = {name: value.detach().clone() for name, value in parameters.items()}
    update()
    rows: dict[str, list[tuple[float, ...]]] = {gradients: [], changes: []}
    flips = []
    for prefix in rows:
        names = [str(name) for name in pack.expected[f"{prefix}.names"]]
        if set(names) != set(parameters):
            odd = sorted(set(names) ^ set(parameters))
            yield Result(f"{prefix}.names", float("inf"), 0.0, f"differ in {odd[0]}")
            return
    # One order for both tables, so that each probe vector is made once.
    order = [str(name) for name in pack.expected[f"{gradients}.names"]]
    for name in order:
        parameter = parameters[name]
        probe = torch.from_numpy(pack.generator.probe(name, parameter.shape)).double().flatten()
        assert parameter.grad is not None
        gradient = parameter.grad.double().flatten()
        change = (parameter.detach().double() - before.pop(name).double()).flatten() / LEARNING_RATE
        rows[gradients].append((float(gradient.norm()), float(gradient @ probe)))
        near_zero = gradient.abs() < 1e-3 * gradient.square().mean().sqrt()
        flips.append(2 * float((probe.abs() * near_zero).max()))
        rows[changes].append((float(parameter.detach().double().norm()), float(change.norm()), float(change @ probe)))
    norm, probe_tolerance, change_tolerance = tolerances
    mine, reference = np.array(rows[gradients]), pack.expected[f"{gradients}.values"]
    yield Result(f"{gradients}.l2", _worst(mine[:, 0] - reference[:, 0], reference[:, 0]), norm * slack)
    probed = _worst(mine[:, 1] - reference[:, 1], reference[:, 0])
    yield Result(f"{gradients}.probe", probed, probe_tolerance * slack, "over the norm")
    position = {str(name): row for row, name in enumerate(pack.expected[f"{changes}.names"])}
    mine = np.array(rows[changes])
    reference = pack.expected[f"{changes}.values"][[position[name] for name in order]]
    yield Result(f"{changes}.l2", _worst(mine[:, 0] - reference[:, 0], reference[:, 0]), 1e-4)
    yield Result(f"{changes}.change_l2", _worst(mine[:, 1] - reference[:, 1], reference[:, 1]), 2e-3 * slack)
    beyond = np.maximum(np.abs(mine[:, 2] - reference[:, 2]) - flips, 0)
    probed = _worst(beyond, reference[:, 1])
    yield Result(f"{changes}.change_probe", probed, change_tolerance, "over the norm")


def _worst(difference: np.ndarray, scale: np.ndarray) -> float:
    worst = (np.abs(difference) / np.abs(scale)).max()
    return float(worst) if np.isfinite(worst) else float("inf")
