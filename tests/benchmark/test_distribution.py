"""Distances between sets of embeddings: worked by hand, against slow formulas, and on distributions that are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.linalg import sqrtm

from tiktok_dm.benchmark.metrics import distribution as d
from tiktok_dm.errors import UserError


def normal(n: int, dim: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def kernel_by_hand(a: np.ndarray, b: np.ndarray, s: float) -> float:
    return float(np.exp(-((a - b) ** 2).sum() / (2 * s * s)))


def test_frechet_of_two_lines_by_hand() -> None:
    # One dimension: (mean_a - mean_b)^2 + (std_a - std_b)^2.
    distance = d.frechet_distance(np.array([1.0]), np.array([[4.0]]), np.array([3.0]), np.array([[25.0]]))
    assert distance == pytest.approx(2**2 + 3**2)


def test_frechet_of_diagonal_covariances_by_hand() -> None:
    a, b = np.diag([1.0, 9.0]), np.diag([16.0, 9.0])
    assert d.frechet_distance(np.zeros(2), a, np.array([0.0, 2.0]), b) == pytest.approx(3**2 + 2**2)


def test_frechet_agrees_with_the_matrix_square_root() -> None:
    a, b = np.cov(normal(50), rowvar=False), np.cov(normal(50, seed=1) @ normal(6, seed=2), rowvar=False)
    mean = np.arange(6.0)
    expected = mean @ mean + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert d.frechet_distance(np.zeros(6), a, mean, b) == pytest.approx(expected, rel=1e-9)


def test_fad_is_the_frechet_distance_of_sample_moments() -> None:
    a, b = normal(40), 2 * normal(30, seed=1) + 1
    expected = d.frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False))
    assert d.fad(a, b) == pytest.approx(expected, rel=1e-10)
    assert d.fad(b, a) == pytest.approx(expected, rel=1e-10)


def test_fad_of_four_points_by_hand() -> None:
    # Means 1 and 5, sample variances 2 and 8: 16 + (sqrt 8 - sqrt 2)^2 = 16 + 2.
    assert d.fad(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])) == pytest.approx(18.0)


@pytest.mark.parametrize("shape", [(40, 6), (10, 64), (300, 64)])
def test_identical_sets(shape: tuple[int, int]) -> None:
    a = normal(*shape)
    found = d.distribution_metrics(a, a.copy())
    assert found["fad"] == pytest.approx(0, abs=1e-9)
    assert found["kad"] < 0  # not independent: the diagonal counts across and not within
    assert found["density"] == pytest.approx(1)
    assert found["coverage"] == 1
    assert list(found) == ["fad", "kad", "density", "coverage"]


def test_fad_with_fewer_points_than_dimensions_is_finite_and_moves_by_the_shift_alone() -> None:
    a = normal(5, 64)
    assert d.fad(a, a + 3) == pytest.approx(64 * 9, rel=1e-9)


def test_fad_is_biased_and_the_extrapolation_less() -> None:
    reference, generated = normal(4000, 16), normal(150, 16, seed=1)  # truly 0 apart
    plain, extrapolated = d.fad(reference, generated), d.fad_infinity(reference, generated)
    assert plain > 0.3
    assert abs(extrapolated) < plain / 4
    assert d.fad_infinity(reference, generated) == extrapolated


def test_kad_of_four_points_by_hand() -> None:
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [4.0]])
    k = lambda a, b: np.exp(-((a - b) ** 2) / 8)  # noqa: E731 - the bandwidth is the one distance, 2
    expected = k(0, 2) + k(1, 4) - 2 * (k(0, 1) + k(0, 4) + k(2, 1) + k(2, 4)) / 4
    assert d.kad(x, y) == pytest.approx(100 * expected)


def test_kad_agrees_with_loops_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "_BLOCK_ROWS", 4)
    x, y = normal(13, 3), normal(7, 3, seed=1) + 0.5
    s = float(np.median([np.linalg.norm(a - b) for a, b in itertools.combinations(x, 2)]))
    assert d.bandwidth(x) == pytest.approx(s)
    within = [np.mean([kernel_by_hand(a, b, s) for a, b in itertools.permutations(z, 2)]) for z in (x, y)]
    across = np.mean([kernel_by_hand(a, b, s) for a in x for b in y])
    assert d.kad(x, y) == pytest.approx(100 * (within[0] + within[1] - 2 * across))


def test_kad_is_unbiased_where_fad_is_not() -> None:
    kads, fads = [], []
    for seed in range(200):
        x, y = normal(20, 4, seed=2 * seed), normal(12, 4, seed=2 * seed + 1)
        kads.append(d.kad(x, y))
        fads.append(d.fad(x, y))
    error = np.std(kads) / np.sqrt(len(kads))
    assert abs(np.mean(kads)) < 3 * error
    assert min(kads) < 0
    assert np.mean(fads) > 0.5


def test_kad_grows_with_the_shift_and_ignores_scale() -> None:
    x, y = normal(60), normal(60, seed=1)
    values = [d.kad(x, y + shift) for shift in (0, 0.5, 1, 2)]
    assert values == sorted(values)
    assert d.kad(1000 * x, 1000 * (y + 1)) == pytest.approx(values[2], rel=1e-9)
    assert d.kad(x, y + 1e6) <= 200


def test_bandwidth_where_points_coincide() -> None:
    x = np.array([[0.0], [0.0], [0.0], [0.0], [6.0]])
    assert d.bandwidth(x) == pytest.approx(4 * 6 / 10)
    assert d.bandwidth(np.ones((4, 2))) == 1


def test_density_and_coverage_by_hand() -> None:
    # k = 1: the balls are 0 +- 1, 1 +- 1, 3 +- 2, 10 +- 7, all open.
    reference = np.array([[0.0], [1.0], [3.0], [10.0]])
    generated = np.array([[0.5], [4.0], [2.0]])
    # 0.5 in balls 0, 1; 4 in 3 and 10; 2 in 3 only (on the edge of 1): 5 pairs of k m = 3; all four balls are met.
    assert d.density_coverage(reference, generated, k=1) == pytest.approx((5 / 3, 1.0))
    assert d.density_coverage(reference, np.array([[0.5], [0.4]]), k=1) == pytest.approx((4 / 2, 0.5))
    assert d.density_coverage(reference, np.array([[-40.0]]), k=1) == (0, 0)


def test_density_and_coverage_agree_with_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(d, "_BLOCK_ROWS", 6)
    x, y, k = normal(20, 3), 0.7 * normal(15, 3, seed=1), 5
    radius = [sorted(np.linalg.norm(a - b) for b in x)[k] for a in x]
    held = [[np.linalg.norm(a - b) < r for b in y] for a, r in zip(x, radius, strict=True)]
    expected = np.sum(held) / (k * len(y)), np.mean(np.any(held, axis=1))
    assert d.density_coverage(x, y, k=k) == pytest.approx(expected)


def test_a_collapsed_set_has_density_and_no_coverage() -> None:
    x = normal(200)
    density, coverage = d.density_coverage(x, np.zeros((50, 6)))
    assert density > 1
    assert coverage < 0.6


def test_a_point_of_radius_nought_holds_its_copies() -> None:
    assert d.density_coverage(np.zeros((8, 2)), np.zeros((4, 2))) == pytest.approx((8 * 4 / (5 * 4), 1))


def test_sets_too_small_are_not_defined() -> None:
    found = d.distribution_metrics(normal(5), normal(1))
    assert all(np.isnan(value) for value in found.values())
    found = d.distribution_metrics(normal(5), normal(3))
    assert np.isfinite(found["fad"])
    assert np.isnan(found["density"])
    with pytest.raises(UserError, match="two points"):
        d.fad(normal(5), normal(1))
    with pytest.raises(UserError, match="need 6 reference points"):
        d.density_coverage(normal(5), normal(3))


@pytest.mark.parametrize(
    ("reference", "generated", "words"),
    [
        (normal(9, 4), normal(9, 5), "same embedder"),
        (normal(9, 4)[0], normal(9, 4), "should be"),
        (normal(9, 4) * np.nan, normal(9, 4), "not finite"),
    ],
)
def test_what_is_no_pair_of_sets(reference: np.ndarray, generated: np.ndarray, words: str) -> None:
    with pytest.raises(UserError, match=words):
        d.distribution_metrics(reference, generated)


def test_kad_by_either_sets_bandwidth() -> None:
    """Swapping the sets swaps whose bandwidth it is; of equal spreads both are alike, of others they differ."""
    rng = np.random.default_rng(8)
    a, b = rng.normal(size=(60, 3)), 3 * rng.normal(size=(50, 3)) + 1
    assert d.kad(a, b, bandwidth_of="generated") == pytest.approx(d.kad(b, a))
    assert d.kad(a, b, bandwidth_of="generated") < d.kad(a, b)
    with pytest.raises(ValueError, match="bandwidth"):
        d.kad(a, b, bandwidth_of="both")
