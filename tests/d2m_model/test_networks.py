"""Motion encoder, generators, discriminator and their composition: the tables, shapes and any length."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from d2m_model.config import DATASETS, LEVELS, ModelConfig, preset_config
from d2m_model.networks.d2m_gan import D2MGAN
from d2m_model.networks.discriminator import MultiScaleDiscriminator, features, scores
from d2m_model.networks.residual import ResidualBlock, WeightNormConv1d
from tiktok_dm.errors import UserError

ALL = [(preset, level, dataset) for preset in ("paper", "released") for level in LEVELS for dataset in DATASETS]


def meta_model(config: ModelConfig) -> D2MGAN:
    with torch.device("meta"):
        return D2MGAN(config)


def meta_inputs(config: ModelConfig, batch: int = 2, windows: int = 1) -> dict[str, torch.Tensor]:
    inputs = {"motion": torch.empty(batch, windows * config.motion_frames, config.motion_features, device="meta")}
    if config.visual_features:
        inputs["visual"] = torch.empty(batch, windows, config.visual_features, device="meta")
    if config.genres:
        inputs["genre"] = torch.zeros(batch, dtype=torch.long, device="meta")
    return inputs


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def table(network: nn.Sequential) -> list[str]:
    """The rows of a built network in the appendix's words."""
    rows: list[str] = []
    for module in network:
        if isinstance(module, nn.Conv1d):
            rows.append(f"{module.kernel_size[0]} s{module.stride[0]} {module.out_channels}")
        elif isinstance(module, ResidualBlock):
            rows.append(f"unit {module.block[2].dilation}")
        elif not isinstance(module, nn.ReflectionPad1d):
            rows.append(type(module).__name__)
    return rows


STACK = ["unit 1", "unit 3", "unit 9"]


def test_paper_motion_encoder_is_table_1():
    network = meta_model(preset_config("paper", "high")).motion_encoder
    assert network is not None
    expected = []
    for row in ("6 s1 256", "3 s1 512", "3 s1 1024"):
        expected += [row, "LeakyReLU", *STACK]
    assert table(network.model) == [*expected, "3 s1 1024", "LeakyReLU", "4 s1 1"]


def test_paper_high_generator_is_table_2():
    expected = []
    for row in ("6 s2 32", "41 s2 64", "41 s1 128", "41 s1 256", "41 s1 512"):
        expected += [row, "LeakyReLU", *STACK]
    network = meta_model(preset_config("paper", "high")).generator
    assert table(network.model) == [*expected, "40 s1 64", "Tanh"]


def test_paper_low_generator_is_table_3():
    expected = []
    for row in ("6 s2 32", "4 s1 64", "40 s2 128", "40 s1 256", "40 s1 512", "40 s1 1024"):
        expected += [row, "LeakyReLU", *STACK]
    network = meta_model(preset_config("paper", "low")).generator
    assert table(network.model) == [*expected, "40 s1 1024", "LeakyReLU", "40 s1 64", "LeakyReLU", "Tanh"]


def test_paper_discriminator_is_table_5():
    with torch.device("meta"):
        discriminator = MultiScaleDiscriminator("paper")
    expected = [
        (16, 15, 1, 1),
        (64, 41, 4, 4),
        (256, 41, 4, 16),
        (1024, 41, 4, 64),
        (1024, 41, 4, 256),
        (1024, 5, 1, 1),
        (1, 3, 1, 1),
    ]
    assert len(discriminator.model) == 3
    for block in discriminator.model.values():
        rows = [m for m in block.modules() if isinstance(m, WeightNormConv1d)]
        assert [(m.weight_v.shape[0], m.weight_v.shape[2], m.stride, m.groups) for m in rows] == expected


@pytest.mark.parametrize(("preset", "level", "dataset"), ALL)
def test_two_seconds_of_dance_are_the_levels_latent(preset: str, level: str, dataset: str):
    config = preset_config(preset, level, dataset)
    latent = meta_model(config)(**meta_inputs(config))
    assert latent.shape == (2, 64, {"high": 344, "low": 1378}[level])


@pytest.mark.parametrize(
    ("preset", "level", "dataset", "encoder", "generator", "discriminator"),
    [
        # The released numbers are the reference's own counts; its TikTok low generator has 101,873,740 parameters, to
        # which the repair adds a projection of (3072 + 1) x 2048.
        ("released", "high", "tiktok", 31_154_305, 21_780_970, 9_212_358),
        ("released", "high", "aist", 31_361_665, 22_310_378, 9_212_358),
        ("released", "low", "aist", 31_361_665, 108_694_092, 9_212_358),
        ("released", "low", "tiktok", 31_154_305, 101_873_740 + 3073 * 2048, 9_212_358),
        ("paper", "high", "tiktok", 26_753_665, 17_933_312, 16_924_086),
        ("paper", "low", "tiktok", 26_753_665, 110_369_832, 16_924_086),
    ],
)
def test_parameter_counts(preset, level, dataset, encoder, generator, discriminator):
    config = preset_config(preset, level, dataset)
    model = meta_model(config)
    with torch.device("meta"):
        judge = model.new_discriminator()
    assert (n_parameters(model.motion_encoder), n_parameters(model.generator)) == (encoder, generator)
    assert n_parameters(judge) == discriminator


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("windows", [2, 5])
def test_paper_model_serves_longer_dances(level: str, windows: int):
    config = preset_config("paper", level)
    latent = meta_model(config)(**meta_inputs(config, 1, windows))
    assert latent.shape == (1, 64, windows * LEVELS[level].frames)


def test_released_model_says_that_it_makes_one_window():
    config = preset_config("released", "high")
    with pytest.raises(UserError, match="one window at a time; 2 were given"):
        meta_model(config)(**meta_inputs(config, 1, 2))


@pytest.mark.parametrize(("preset", "level", "dataset"), ALL)
def test_motion_only_model_has_no_visual_inputs(preset: str, level: str, dataset: str):
    with_visual = preset_config(preset, level, dataset)
    without = dataclasses.replace(with_visual, visual_features=0)
    model = meta_model(without)
    assert model.generator.lin.in_features == meta_model(with_visual).generator.lin.in_features - 2048
    inputs = meta_inputs(without)
    assert "visual" not in inputs
    assert model(**inputs).shape[1:] == (64, LEVELS[level].frames)


def test_visual_only_model_has_no_motion_encoder(small: ModelConfig):
    model = D2MGAN(dataclasses.replace(small, motion_frames=0, motion_features=0))
    assert model.motion_encoder is None
    assert model(visual=torch.randn(2, 1, 24)).shape == (2, 8, 32)


def test_windows_are_joined_before_the_convolutions(small: ModelConfig):
    """Far from a seam a window's latent is its own; at the seam it is not what the window alone gives."""
    config = dataclasses.replace(small, latent_frames=344, width=1 / 16)
    model = D2MGAN(config).eval()
    motion, visual = torch.randn(1, 120, 75), torch.randn(1, 2, 24)
    with torch.no_grad():
        joined = model(motion, visual)
        first, second = model(motion[:, :60], visual[:, :1]), model(motion[:, 60:], visual[:, 1:])
    alone = torch.cat((first, second), dim=-1)
    middle = slice(150, 194)
    torch.testing.assert_close(joined[..., middle], alone[..., middle], rtol=1e-4, atol=1e-5)
    assert (joined - alone)[..., 340:348].abs().max() > 1e-3


def spread(values: torch.Tensor, expected: float, kurtosis: float) -> None:
    """Standard deviation and mean within five standard errors (of a sample variance: sigma^2 sqrt((k - 1) / n))."""
    values, n = values.detach(), values.numel()
    assert abs(float(values.mean())) <= 5 * expected / n**0.5
    # Small samples are skewed; there the bound is loose and says little, which many seeds make up for.
    assert abs(float(values.pow(2).mean()) / expected**2 - 1) <= 5 * ((kurtosis - 1) / n) ** 0.5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", LEVELS)
def test_fresh_released_model_starts_as_the_authors_code(level: str, seed: int):
    """Plain convolutions N(0, 0.02); all else PyTorch's own, uniform within 1 / sqrt(inputs) (variance 1 / 3 of it)."""
    torch.manual_seed(seed)
    model = D2MGAN(preset_config("released", level, width=1 / 8, genres=3))
    networks = (model, model.new_discriminator())
    kinds = {nn.Conv1d: 0, WeightNormConv1d: 0, nn.Linear: 0, nn.Embedding: 0}
    for module in (module for network in networks for module in network.modules()):
        if isinstance(module, nn.Conv1d):
            spread(module.weight, 0.02, 3)
        elif isinstance(module, WeightNormConv1d):
            fan = module.weight_v[0].numel()
            spread(module.weight_v, (3 * fan) ** -0.5, 9 / 5)
            assert float(module.weight_v.detach().abs().max()) <= fan**-0.5 * (1 + 1e-6)
            torch.testing.assert_close(module.weight, module.weight_v)
        elif isinstance(module, nn.Linear):
            fan = module.in_features
            spread(module.weight, (3 * fan) ** -0.5, 9 / 5)
        elif isinstance(module, nn.Embedding):
            spread(module.weight, 1.0, 3)
        else:
            continue
        kinds[type(module)] += 1
        if not isinstance(module, nn.Embedding):
            fan = fan if not isinstance(module, nn.Conv1d) else module.weight[0].numel()
            spread(module.bias, (3 * fan) ** -0.5, 9 / 5)
            assert float(module.bias.detach().abs().max()) <= fan**-0.5 * (1 + 1e-6)
    assert kinds[nn.Conv1d] == {"high": 10, "low": 12}[level]
    assert kinds[nn.Linear] == {"high": 3, "low": 4}[level]
    assert kinds[nn.Embedding] == 1


def test_fresh_released_latent_has_the_size_of_the_authors():
    """Theirs has a standard deviation of 9.9. Twelve seeds gave 8.7 to 12.1 here (mean 9.9); PyTorch's own give 2.0."""
    model = D2MGAN(preset_config("released", "high")).eval()
    with torch.no_grad():
        latent = model(600 * torch.rand(1, 60, 75), torch.rand(1, 1, 2048))
    assert 7.5 < float(latent.std()) < 14


@pytest.mark.parametrize("level", LEVELS)
def test_fresh_paper_model_hears_the_dance(small: ModelConfig, level: str):
    """Start values keep the signal: two dances give latents that differ on the scale of the latents themselves."""
    model = D2MGAN(dataclasses.replace(small, level=level, latent_frames=64, width=1 / 8)).eval()
    with torch.no_grad():
        latent = model(torch.randn(4, 60, 75), torch.zeros(4, 1, 24))
    assert latent.std(dim=0).mean() > 0.1 * latent.std()
    assert 0.05 < latent.std() / model.config.output_scale < 0.8


def test_genre_moves_the_latent(small: ModelConfig):
    model = D2MGAN(dataclasses.replace(small, genres=3, genre_embedding=8)).eval()
    motion, visual = torch.randn(1, 60, 75), torch.randn(1, 1, 24)
    with torch.no_grad():
        latents = [model(motion, visual, torch.tensor([genre])) for genre in (0, 1, 1)]
    assert not torch.allclose(latents[0], latents[1])
    torch.testing.assert_close(latents[1], latents[2])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"motion": (2, 60, 74), "visual": (2, 1, 24)}, r"Motion has shape \(2, 60, 74\)"),
        ({"motion": (2, 61, 75), "visual": (2, 1, 24)}, r"Motion has shape \(2, 61, 75\)"),
        ({"motion": (2, 60, 75)}, "made with visual features"),
        ({"motion": (2, 60, 75), "visual": (2, 24)}, "Visual features have shape"),
        ({"motion": (2, 60, 75), "visual": (2, 2, 24)}, "must agree"),
        ({"visual": (2, 1, 24)}, "made with motion input"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(small: ModelConfig, inputs: dict, words: str):
    model = D2MGAN(small)
    with pytest.raises(UserError, match=words):
        model(**{name: torch.zeros(shape) for name, shape in inputs.items()})


def test_genre_must_fit_the_model(small: ModelConfig):
    motion, visual = torch.zeros(1, 60, 75), torch.zeros(1, 1, 24)
    with pytest.raises(UserError, match="without genres"):
        D2MGAN(small)(motion, visual, torch.tensor([0]))
    with pytest.raises(UserError, match="with genres"):
        D2MGAN(dataclasses.replace(small, genres=2))(motion, visual)


def test_discriminator_sees_channel_rows_at_three_rates():
    judge = MultiScaleDiscriminator("released", width=1 / 32)
    seen: list[torch.Tensor] = []
    for block in judge.model.values():
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    latent = torch.randn(2, 8, 128)
    maps = judge(latent)
    assert torch.equal(seen[0], latent.reshape(2, 1, 1024))
    assert [signal.shape[-1] for signal in seen] == [1024, 512, 256]
    # The first pooled sample has one padded neighbour, which does not count: the mean of three.
    torch.testing.assert_close(seen[1][:, 0, 0], latent[:, 0, :3].mean(dim=1))
    torch.testing.assert_close(seen[1][:, 0, 1], latent[:, 0, 1:5].mean(dim=1))
    assert [len(layers) for layers in maps] == [7, 7, 7]
    assert all(score.shape[1] == 1 for score in scores(maps))
    assert [len(layers) for layers in features(maps)] == [6, 6, 6]
    # An even first kernel: one sample shorter than the signal.
    assert maps[0][0].shape[-1] == 1023


def test_paper_discriminator_divides_by_the_generators_scale():
    judge = MultiScaleDiscriminator("paper", width=1 / 16, input_scale=100.0)
    latent = torch.randn(1, 8, 64)
    one = judge(latent)
    judge.input_scale = 1.0
    for scaled, plain in zip(scores(one), scores(judge(latent / 100)), strict=True):
        torch.testing.assert_close(scaled, plain)
