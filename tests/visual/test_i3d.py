"""The I3D network against the published table, its public names, and a slow reference written from its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.visual.visual_factory import random_i3d, write_weights
from tiktok_dm.errors import UserError
from tiktok_dm.visual.i3d import I3D, Mixed, SameMaxPool3d, read_i3d, same_padding

pytestmark = pytest.mark.usefixtures("one_thread")

# Output of each layer for 64 pictures of 224 px: channels, time, height, width (CVPR 2017, figure 3; the receptive
# fields there follow from these strides).
ENDPOINTS = {
    "Conv3d_1a_7x7": (64, 32, 112, 112),
    "MaxPool3d_2a_3x3": (64, 32, 56, 56),
    "Conv3d_2b_1x1": (64, 32, 56, 56),
    "Conv3d_2c_3x3": (192, 32, 56, 56),
    "MaxPool3d_3a_3x3": (192, 32, 28, 28),
    "Mixed_3b": (256, 32, 28, 28),
    "Mixed_3c": (480, 32, 28, 28),
    "MaxPool3d_4a_3x3": (480, 16, 14, 14),
    "Mixed_4b": (512, 16, 14, 14),
    "Mixed_4c": (512, 16, 14, 14),
    "Mixed_4d": (512, 16, 14, 14),
    "Mixed_4e": (528, 16, 14, 14),
    "Mixed_4f": (832, 16, 14, 14),
    "MaxPool3d_5a_2x2": (832, 8, 7, 7),
    "Mixed_5b": (832, 8, 7, 7),
    "Mixed_5c": (1024, 8, 7, 7),
}
# GoogLeNet's table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj. The input's channels come first.
INCEPTION = {
    "3b": (192, 64, 96, 128, 16, 32, 32),
    "3c": (256, 128, 128, 192, 32, 96, 64),
    "4b": (480, 192, 96, 208, 16, 48, 64),
    "4c": (512, 160, 112, 224, 24, 64, 64),
    "4d": (512, 128, 128, 256, 24, 64, 64),
    "4e": (512, 112, 144, 288, 32, 64, 64),
    "4f": (528, 256, 160, 320, 32, 128, 128),
    "5b": (832, 256, 160, 320, 32, 128, 128),
    "5c": (832, 384, 192, 384, 48, 128, 128),
}


def on_meta(network: torch.nn.Module, *shape: int) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(x.shape)) for name, x in network.walk(torch.empty(shape, device="meta"))]


def test_every_endpoint_has_the_published_shape() -> None:
    with torch.device("meta"):
        network = I3D(3)
    assert on_meta(network, 1, 3, 64, 224, 224) == [(name, (1, *shape)) for name, shape in ENDPOINTS.items()]
    x = torch.empty(2, 3, 64, 224, 224, device="meta")
    assert network.pooled(x).shape == (2, 1024, 7, 1, 1)
    assert network.features(x).shape == (2, 1024)
    assert network(x).shape == (2, 400)


@pytest.mark.parametrize(
    ("time", "size", "last"), [(60, 224, (8, 7, 7)), (59, 224, (8, 7, 7)), (60, 112, (8, 4, 4)), (9, 32, (2, 1, 1))]
)
def test_other_lengths_and_sizes_round_up(time: int, size: int, last: tuple[int, int, int]) -> None:
    """Each halving rounds up, as `SAME` does: 59 -> 30 -> 15 -> 8."""
    with torch.device("meta"):
        network = I3D(2)
    assert on_meta(network, 1, 2, time, size, size)[-1][1] == (1, 1024, *last)
    assert network.features(torch.empty(1, 2, time, size, size, device="meta")).shape == (1, 1024)


def test_the_number_of_parameters_is_the_published_one() -> None:
    """12.29 million for RGB without logits, counted from the table: convolutions without bias, two numbers a norm."""

    def unit(inputs: int, outputs: int, volume: int) -> int:
        return inputs * outputs * volume + 2 * outputs

    wanted = unit(3, 64, 7**3) + unit(64, 64, 1) + unit(64, 192, 27)
    for inputs, *n in INCEPTION.values():
        wanted += unit(inputs, n[0], 1) + unit(inputs, n[1], 1) + unit(n[1], n[2], 27)
        wanted += unit(inputs, n[3], 1) + unit(n[3], n[4], 27) + unit(inputs, n[5], 1)
    assert wanted == 12_287_264
    with torch.device("meta"):
        rgb, flow, whole = I3D(3, 0), I3D(2, 0), I3D(3)

    def count(network: torch.nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    assert count(rgb) == wanted
    assert count(flow) == wanted - 64 * 7**3
    assert count(whole) == wanted + 1024 * 400 + 400


def test_names_are_the_public_checkpoints() -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    units = ["Conv3d_1a_7x7", "Conv3d_2b_1x1", "Conv3d_2c_3x3"]
    units += [f"Mixed_{name}.{branch}" for name in INCEPTION for branch in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")]
    wanted = {f"{unit}.conv3d.weight" for unit in units} | {f"{unit}.bn.{part}" for unit in units for part in norm}
    wanted |= {"logits.conv3d.weight", "logits.conv3d.bias"}
    with torch.device("meta"):
        state = I3D(3).state_dict()
    assert set(state) == wanted
    assert len(wanted) == 344
    assert state["Conv3d_1a_7x7.conv3d.weight"].shape == (64, 3, 7, 7, 7)
    assert state["Mixed_4e.b1b.conv3d.weight"].shape == (288, 144, 3, 3, 3)
    assert state["logits.conv3d.weight"].shape == (400, 1024, 1, 1, 1)


def test_same_padding_puts_the_odd_one_behind() -> None:
    # 224 by 7 with stride 2: 112 outputs reach over (112 - 1) * 2 + 7 = 229 px, 5 more than there are: 2 and 3.
    assert same_padding((224,), (7,), (2,)) == [2, 3]
    # 112 by 3 with stride 2: 56 reach over 113: 0 and 1. 7 by 3 with stride 2: 4 reach over 9: 1 and 1.
    assert same_padding((112,), (3,), (2,)) == [0, 1]
    assert same_padding((7,), (3,), (2,)) == [1, 1]
    assert same_padding((14,), (2,), (2,)) == [0, 0]
    # The last axis comes first, as torch's pad takes them.
    assert same_padding((4, 7, 112), (1, 3, 3), (1, 2, 2)) == [0, 1, 1, 1, 0, 0]


def test_pooling_of_a_small_case_by_hand() -> None:
    row = torch.tensor([1.0, 5, 2, 4]).reshape(1, 1, 1, 1, 4)
    pooled = SameMaxPool3d((1, 1, 3), (1, 1, 2))(row)
    assert pooled.flatten().tolist() == [5, 4]  # windows 0-2 and 2-3 with one zero behind
    wide = SameMaxPool3d((1, 1, 3), (1, 1, 1))(row)
    assert wide.flatten().tolist() == [5, 5, 5, 4]


def reference_unit(x: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Convolution as a sum over shifted copies (stride 1, zeros around), batch norm by its formula, ReLU; float64."""
    weight = state[f"{name}.conv3d.weight"]
    reach = weight.shape[-1] // 2
    padded = np.pad(x, [(0, 0)] + [(reach, reach)] * 3)
    out = np.zeros((len(weight), *x.shape[1:]))
    t, h, w = x.shape[1:]
    for i, j, k in np.ndindex(weight.shape[2:]):
        out += np.einsum("oc,cthw->othw", weight[:, :, i, j, k], padded[:, i : i + t, j : j + h, k : k + w])
    part = {key: state[f"{name}.bn.{key}"][:, None, None, None] for key in ("weight", "bias", "running_mean")}
    deviation = np.sqrt(state[f"{name}.bn.running_var"] + 1e-3)[:, None, None, None]
    return np.maximum((out - part["running_mean"]) / deviation * part["weight"] + part["bias"], 0)


def test_an_inception_block_equals_a_slow_reference() -> None:
    block = random_i3d(2, 5, 0).get_submodule("Mixed_3b")
    assert isinstance(block, Mixed)
    state = {name: value.double().numpy() for name, value in block.state_dict().items()}
    x = np.random.default_rng(3).uniform(0, 1, (192, 3, 4, 5))
    padded = np.pad(x, [(0, 0)] + [(1, 1)] * 3)
    pooled = np.max(
        [padded[:, i : i + 3, j : j + 4, k : k + 5] for i, j, k in np.ndindex(3, 3, 3)],
        axis=0,
    )
    wanted = np.concatenate(
        [
            reference_unit(x, state, "b0"),
            reference_unit(reference_unit(x, state, "b1a"), state, "b1b"),
            reference_unit(reference_unit(x, state, "b2a"), state, "b2b"),
            reference_unit(pooled, state, "b3b"),
        ]
    )
    with torch.inference_mode():
        found = block(torch.from_numpy(x[None]).float())[0].numpy()
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_features_are_averages_of_pairs_of_steps() -> None:
    """Mixed_5c of 32 pictures has four steps of time; the kernel of two counts the middle ones twice."""
    network = random_i3d(3, 7)
    x = torch.rand(1, 3, 32, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        *_, (name, last) = network.walk(x)
        found, logits = network.features(x), network(x)
    assert (name, last.shape) == ("Mixed_5c", (1, 1024, 4, 1, 1))
    steps = last[0, :, :, 0, 0].double()
    wanted = steps @ torch.tensor([1, 2, 2, 1], dtype=torch.float64) / 6
    torch.testing.assert_close(found[0].double(), wanted, atol=1e-6, rtol=1e-5)
    assert network.logits is not None
    state = network.logits.state_dict()
    wanted = state["conv3d.weight"][:, :, 0, 0, 0] @ found[0] + state["conv3d.bias"]
    torch.testing.assert_close(logits[0], wanted, atol=1e-4, rtol=1e-4)


def test_weights_are_read_by_their_names(tmp_path: Path) -> None:
    write_weights(tmp_path)
    network = read_i3d(tmp_path / "rgb_imagenet.pt", 3)
    assert not network.training
    for name, value in random_i3d(3, 3).state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name


def test_older_and_tuned_checkpoints_are_read_too(tmp_path: Path) -> None:
    state = random_i3d(2, 1, classes=157).state_dict()
    old = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "flow.pt", _use_new_zipfile_serialization=False)
    assert len(read_i3d(tmp_path / "flow.pt", 2).state_dict()["logits.conv3d.bias"]) == 157
    torch.save({name: value for name, value in old.items() if "logits" not in name}, tmp_path / "bare.pt")
    assert read_i3d(tmp_path / "bare.pt", 2).logits is None


def test_wrong_weights_are_said_in_a_sentence(tmp_path: Path) -> None:
    write_weights(tmp_path)
    with pytest.raises(UserError, match=r"Conv3d_1a_7x7.conv3d.weight as 64x2x7x7x7 where 64x3x7x7x7 belongs"):
        read_i3d(tmp_path / "flow_imagenet.pt", 3)
    state = torch.load(tmp_path / "rgb_imagenet.pt", weights_only=True)
    less = dict(state)
    del less["Mixed_4c.b2b.bn.running_var"]
    torch.save(less, tmp_path / "less.pt")
    with pytest.raises(UserError, match=r"lacks Mixed_4c.b2b.bn.running_var"):
        read_i3d(tmp_path / "less.pt", 3)
    torch.save({**state, "head.weight": torch.zeros(1)}, tmp_path / "more.pt")
    with pytest.raises(UserError, match=r"holds head.weight, which I3D does not have"):
        read_i3d(tmp_path / "more.pt", 3)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="no state dict"):
        read_i3d(tmp_path / "list.pt", 3)
    for content in (b"", b"not weights at all", (tmp_path / "rgb_imagenet.pt").read_bytes()[:5000]):
        (tmp_path / "bad.pt").write_bytes(content)
        with pytest.raises(UserError, match="no file of weights"):
            read_i3d(tmp_path / "bad.pt", 3)
    with pytest.raises(UserError, match="cannot be read"):
        read_i3d(tmp_path / "absent.pt", 3)
    torch.save(Path("/"), tmp_path / "object.pt")  # anything but tensors is refused, never run
    with pytest.raises(UserError, match="no file of weights"):
        read_i3d(tmp_path / "object.pt", 3)
