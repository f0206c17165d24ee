"""Optical flow: displacements of pictures that were moved by a known amount, and how the network takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tiktok_dm.errors import UserError
from tiktok_dm.visual.base import VisualSource
from tiktok_dm.visual.flow import bounded, get_flow, luma

SIDE, MARGIN = 96, 16


def moved(right: float, down: float) -> np.ndarray:
    """(2, 96, 96, 3) uint8: a smooth texture, then the same `right` and `down` px further on."""
    rng = np.random.default_rng(0)
    texture = ndimage.gaussian_filter(rng.random((SIDE + 40, SIDE + 40, 3)), (2, 2, 0))
    texture = 255 * (texture - texture.min()) / (texture.max() - texture.min())
    later = ndimage.shift(texture, (down, right, 0), order=3, mode="nearest")
    both = np.stack([texture, later])[:, 20 : 20 + SIDE, 20 : 20 + SIDE]
    return np.clip(np.round(both), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (1.5, 0.0), (-3.7, 2.3), (6.0, -5.0)])
def test_tv_l1_finds_a_known_translation(right: float, down: float) -> None:
    pytest.importorskip("skimage", reason="TV-L1 flow needs scikit-image: pip install 'tiktok-dm[visual]'")
    flow = get_flow("tvl1", VisualSource())
    flow.check()
    found = flow.between([moved(right, down), moved(0.0, 0.0)])
    assert found.shape == (2, 1, SIDE, SIDE, 2)
    assert found.dtype == np.float32
    inside = found[0, 0, MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(-1, 2)
    error = np.abs(inside - (right, down))
    assert np.median(error) < 0.02
    assert np.quantile(error, 0.99) < 0.1
    np.testing.assert_allclose(found[1], 0, atol=1e-3)
    assert flow.method.startswith("TV-L1 by scikit-image 0.")


def test_flow_is_cut_at_twenty_px() -> None:
    flow = np.array([0, 5, -10, 20, 20.5, -400], np.float32)
    assert bounded(flow).tolist() == [0, 0.25, -0.5, 1, 1, -1]
    assert bounded(flow).dtype == np.float32


def test_brightness_is_that_of_bt601() -> None:
    rgb = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    np.testing.assert_allclose(luma(rgb), [0.299, 0.587, 0.114, 1], atol=1e-6)


def test_an_unknown_flow_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'tvl1'"):
        get_flow("tv-l1", VisualSource())


def test_raft_asks_for_its_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raft_large\*.pth or raft_small\*.pth"):
        get_flow("raft", VisualSource((tmp_path,)))
    (tmp_path / "raft_small_x.pth").write_bytes(b"no weights")
    flow = get_flow("raft", VisualSource((tmp_path,)))
    assert list(flow.weights) == ["raft_small_x.pth"]
    with pytest.raises(UserError, match=r"needs a torchvision|does not hold torchvision's RAFT"):
        flow.check()


def test_raft_takes_and_gives_what_the_contract_says(tmp_path: Path) -> None:
    try:
        from torchvision.models.optical_flow import raft_small
    except (ImportError, RuntimeError):
        pytest.skip("RAFT needs a torchvision that fits the installed PyTorch")
    import torch

    torch.manual_seed(0)
    network = raft_small(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "raft_small_random.pth")
    window = np.random.default_rng(0).integers(0, 255, (3, 128, 136, 3), np.uint8)
    flow = get_flow("raft", VisualSource((tmp_path,), "cpu"))
    flow.check()
    found = flow.between([window])
    assert found.shape == (1, 2, 128, 136, 2)
    x = torch.from_numpy(window).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        wanted = network(x[1:2], x[2:3])[-1][0]
    np.testing.assert_allclose(found[0, 1].transpose(2, 0, 1), wanted, atol=1e-4)
