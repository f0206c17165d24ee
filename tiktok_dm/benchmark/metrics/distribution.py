"""How far two sets of embedded sounds lie apart: Fréchet distance, kernel distance, density and coverage.

Each takes a reference set (n, d) and a generated set (m, d), float, one row per point. The numbers mean nothing without
the embedding, the reference set, n and m: callers print them together. Not for making embeddings (`embedders`), and not
for judging single clips.

- FAD is biased: with finitely many points it is too large, by about a constant over n, so that sets of different sizes
  must not be compared by it, and it is meaningless where n or m is not several times d. `fad_infinity` extrapolates.
- KAD is unbiased: two independent sets from one source give 0 on average, whatever their sizes; single values may be
  negative, and a set against itself (ground truth, or its shuffling) always is.
- Density may pass 1; coverage is in 0..1, and grows with m.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist

from tiktok_dm.errors import UserError

KAD_SCALE = 100.0
"""KAD is 100 times the squared maximum mean discrepancy, as in the authors' toolkit (`kadtk`)."""

_BLOCK_ROWS = 1024
_BANDWIDTH_ROWS = 5000


def validate(reference: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two sets as float64, checked.

    Raises:
        UserError: not two-dimensional, different numbers of columns, or values that are not finite.
    """
    pair = []
    for name, points in (("reference", reference), ("generated", generated)):
        array = np.asarray(points, dtype=np.float64)
        if array.ndim != 2:
            raise UserError(f"the {name} set should be (points, dimensions), and has the shape {array.shape}")
        if not np.isfinite(array).all():
            raise UserError(f"the {name} set holds embeddings that are not finite: find the clip and leave it out")
        pair.append(array)
    if pair[0].shape[1] != pair[1].shape[1]:
        raise UserError(
            f"the reference's embeddings have {pair[0].shape[1]} dimensions and the generated ones {pair[1].shape[1]}: "
            "embed both with the same embedder"
        )
    return pair[0], pair[1]


def distribution_metrics(
    reference: np.ndarray, generated: np.ndarray, *, k: int = 5, seed: int = 0
) -> dict[str, float]:
    """`fad`, `kad`, `density` and `coverage` of a generated set (m, d) against a reference set (n, d).

    A metric that sets so small do not define is nan: `fad` and `kad` need two points in each, `density` and `coverage`
    more than `k` in the reference and one in the other.

    Args:
        reference: real music, (n, d).
        generated: (m, d).
        k: neighbour that sets the radius of density and coverage; Naeem et al. take 5.
        seed: of the subset from which the kernel's bandwidth is taken where n passes 5,000.

    Raises:
        UserError: see `validate`; `k` below 1.
    """
    reference, generated = validate(reference, generated)
    if k < 1:
        raise UserError(f"density and coverage count neighbours from 1, not {k}")
    n, m = len(reference), len(generated)
    enough = min(n, m) >= 2
    density, coverage = density_coverage(reference, generated, k=k) if n > k and m else (np.nan, np.nan)
    return {
        "fad": fad(reference, generated) if enough else np.nan,
        "kad": kad(reference, generated, seed=seed) if enough else np.nan,
        "density": density,
        "coverage": coverage,
    }


# ------------------------------------------------------------------------------------------- Fréchet


def frechet_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians (Dowson and Landau 1982).

    |mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), in squared units of the embedding.

    Args:
        mean_a, mean_b: (d,).
        cov_a, cov_b: (d, d), symmetric and positive semi-definite; eigenvalues below 0 by rounding count as 0.
    """
    return _frechet(mean_a, _factor(cov_a), mean_b, _factor(cov_b))


def fad(reference: np.ndarray, generated: np.ndarray) -> float:
    """Fréchet audio distance (Kilgour et al. 2019): `frechet_distance` of Gaussians fitted to the sets (n, d), (m, d).

    Covariances are sample covariances (divided by n - 1). Not negative; 0 for identical sets.

    Raises:
        UserError: fewer than two points in a set; see `validate`.
    """
    reference, generated = validate(reference, generated)
    if min(len(reference), len(generated)) < 2:
        raise UserError(f"FAD needs two points in each set, not {len(reference)} and {len(generated)}")
    return _frechet(*_gaussian(reference), *_gaussian(generated))


def fad_infinity(reference: np.ndarray, generated: np.ndarray, *, points: int = 15, seed: int = 0) -> float:
    """FAD extrapolated to infinitely many generated points (Gui et al. 2024, after Chong and Forsyth 2020).

    FAD of random subsets of the generated set, of `points` sizes from a fifth of it to all, against the whole
    reference; a straight line over 1 / size by least squares; its value at 0. The bias of the reference remains. May be
    negative.

    Raises:
        UserError: fewer than ten generated points; see `fad`.
    """
    reference, generated = validate(reference, generated)
    if len(generated) < 10:
        raise UserError(f"extrapolating FAD needs ten generated points, not {len(generated)}")
    rng = np.random.default_rng(seed)
    sizes = np.unique(np.linspace(max(2, len(generated) // 5), len(generated), points).round().astype(int))
    values = [fad(reference, generated[rng.permutation(len(generated))[:size]]) for size in sizes]
    return float(np.polynomial.Polynomial.fit(1 / sizes, values, 1).convert().coef[0])


def _factor(cov: np.ndarray) -> np.ndarray:
    """A with A^T A = cov."""
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    return np.sqrt(np.maximum(values, 0))[:, None] * vectors.T


def _gaussian(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,), and A with A^T A = sample covariance, by QR: its null directions stay exactly as small as they are."""
    mean = points.mean(axis=0)
    return mean, np.linalg.qr(points - mean, mode="r") / np.sqrt(len(points) - 1)


def _frechet(mean_a: np.ndarray, a: np.ndarray, mean_b: np.ndarray, b: np.ndarray) -> float:
    # cov_a cov_b = A^T A B^T B has the eigenvalues of (A B^T)(A B^T)^T, so the trace of its root is the sum of the
    # singular values of A B^T: no root of a matrix that is singular or not symmetric.
    root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    shift = mean_a - mean_b
    return max(0.0, float(shift @ shift + (a**2).sum() + (b**2).sum() - 2 * root))


# ------------------------------------------------------------------------------------------- kernel


def bandwidth(reference: np.ndarray, *, seed: int = 0) -> float:
    """Median Euclidean distance of two different points of the reference (n, d), n >= 2, in units of the embedding.

    Where it is 0 (more than half of all pairs coincide) the mean distance stands in, and 1 where all points coincide.
    Of more than 5,000 points a random subset of 5,000 is taken.
    """
    if len(reference) > _BANDWIDTH_ROWS:
        reference = reference[np.random.default_rng(seed).permutation(len(reference))[:_BANDWIDTH_ROWS]]
    distances = pdist(reference)
    return float(np.median(distances)) or float(distances.mean()) or 1.0


def kad(reference: np.ndarray, generated: np.ndarray, *, bandwidth_of: str = "reference", seed: int = 0) -> float:
    """Kernel audio distance (Chung et al. 2025): 100 times the unbiased squared MMD (Gretton et al. 2012, eq. 3).

    MMD^2 = mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j), with
    k(a, b) = exp(-|a - b|^2 / (2 s^2)) and s a set's `bandwidth`. No unit; at most 200.

    s is the reference's here, so that all systems are measured by one kernel. The program kadtk takes the evaluated
    set's (`bandwidth_of="generated"`): there a system whose music varies much is measured by a wider, milder kernel.

    Args:
        bandwidth_of: `reference` or `generated`.

    Raises:
        ValueError: another `bandwidth_of`.
        UserError: fewer than two points in a set; see `validate`.
    """
    reference, generated = validate(reference, generated)
    n, m = len(reference), len(generated)
    if min(n, m) < 2:
        raise UserError(f"KAD needs two points in each set, not {n} and {m}")
    if bandwidth_of not in ("reference", "generated"):
        raise ValueError(f"the bandwidth is the reference's or the generated set's, not {bandwidth_of!r}")
    s = bandwidth(reference if bandwidth_of == "reference" else generated, seed=seed)
    within_reference = (_kernel_sum(reference, reference, s) - n) / (n * (n - 1))
    within_generated = (_kernel_sum(generated, generated, s) - m) / (m * (m - 1))
    across = _kernel_sum(reference, generated, s) / (n * m)
    return KAD_SCALE * (within_reference + within_generated - 2 * across)


def _kernel_sum(x: np.ndarray, y: np.ndarray, s: float) -> float:
    blocks = (x[first : first + _BLOCK_ROWS] for first in range(0, len(x), _BLOCK_ROWS))
    return float(sum(np.exp(-cdist(block, y, "sqeuclidean") / (2 * s**2)).sum() for block in blocks))


# ------------------------------------------------------------------------------------------- neighbours


def density_coverage(reference: np.ndarray, generated: np.ndarray, *, k: int = 5) -> tuple[float, float]:
    """Density and coverage (Naeem et al., ICML 2020).

    With B_i the open ball around reference point i that reaches to its k-th nearest other reference point: density =
    1 / (k m) * number of pairs (i, j) with generated point j in B_i; coverage = share of the B_i that hold a generated
    point. A generated point that coincides with a reference point always lies in its ball, also where that has radius
    0. Density of identical sets is 1 (without ties), coverage 1.

    Raises:
        UserError: not more than `k` reference points, or no generated point; see `validate`.
    """
    reference, generated = validate(reference, generated)
    n, m = len(reference), len(generated)
    if n <= k or not m:
        raise UserError(
            f"density and coverage with k = {k} need {k + 1} reference points and a generated one, not {n}, {m}"
        )
    inside, covered = 0, 0
    for first in range(0, n, _BLOCK_ROWS):
        block = reference[first : first + _BLOCK_ROWS]
        # Each point is its own nearest neighbour at distance 0, hence place k counted from 0.
        radius = np.partition(cdist(block, reference), k, axis=1)[:, k, None]
        distance = cdist(block, generated)
        held = (distance < radius) | (distance == 0)
        inside += int(held.sum())
        covered += int(held.any(axis=1).sum())
    return inside / (k * m), covered / n
