from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from d2m_model.codec.interface import Codec, straight_through
from d2m_model.codec.jukebox import LICENCE, Codebook, JukeboxConfig, JukeboxVQVAE
from tiktok_dm.errors import UserError

SMALL = JukeboxConfig(width=4, depth=2, latent_channels=8, n_codes=16)


def whole_state(config: JukeboxConfig = SMALL) -> dict[str, torch.Tensor]:
    """All three levels in one state dict, as the public checkpoint has them."""
    state: dict[str, torch.Tensor] = {}
    for level in range(3):
        state |= JukeboxVQVAE(level, config).state_dict()
    return state


def test_the_public_checkpoint_has_this_many_numbers():
    # 1,485,763 parameters and three code-books of 2,048 x 64.
    with torch.device("meta"):
        state = whole_state(JukeboxConfig())
    assert sum(value.numel() for value in state.values()) == 1_485_763 + 3 * 2048 * 64
    assert len(state) == 669
    assert state["encoders.0.level_blocks.0.model.0.1.model.0.model.1.weight"].shape == (64, 64, 3)
    assert state["bottleneck.level_blocks.2.k"].shape == (2048, 64)


@pytest.mark.parametrize(("level", "hop", "frames"), [(0, 8, 5512), (1, 32, 1378), (2, 128, 344)])
def test_two_seconds_at_each_level(level: int, hop: int, frames: int):
    with torch.device("meta"):
        codec = JukeboxVQVAE(level)
        latent = codec.encode(torch.empty(1, 1, 44100))
        audio = codec.decode(latent)
    assert (codec.hop, codec.n_frames(44100)) == (hop, frames)
    assert latent.shape == (1, 64, frames)
    assert audio.shape == (1, 1, frames * hop)
    assert isinstance(codec, Codec)


@pytest.mark.parametrize("samples", [128, 255, 256, 1000, 4095])
def test_n_frames_is_what_the_encoder_gives(samples: int):
    codec = JukeboxVQVAE(2, SMALL)
    assert codec.encode(torch.zeros(1, 1, samples)).shape[-1] == codec.n_frames(samples)


def test_only_the_level_asked_for_is_built():
    for level in range(3):
        keys = JukeboxVQVAE(level, SMALL).state_dict()
        assert {key.split(".")[1] for key in keys if not key.startswith("bottleneck")} == {str(level)}
        assert [key for key in keys if key.startswith("bottleneck")] == [f"bottleneck.level_blocks.{level}.k"]


def test_encoder_dilations_grow_and_decoder_dilations_shrink():
    codec = JukeboxVQVAE(1)
    units = codec.encoders["1"].level_blocks[1].model[0][1].model
    assert [unit.model[1].dilation[0] for unit in units] == [1, 3, 9, 27]
    units = codec.decoders["1"].level_blocks[1].model[1][0].model
    assert [unit.model[1].dilation[0] for unit in units] == [27, 9, 3, 1]


def test_nearest_row_by_hand_and_first_on_a_tie():
    codebook = Codebook(4, 2)
    codebook.k.copy_(torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    latent = torch.tensor([[[0.9, 1.1, 1.0, -5.0], [0.0, 0.0, 5.0, 0.0]]])
    # Distances: 0.9 to 1.1 of rows 0 and 1; the other way round; (1, 5) is nearest to (0, 3); (-5, 0) to the origin.
    assert codebook.nearest(latent).tolist() == [[0, 1, 3, 0]]
    assert codebook.rows(torch.tensor([[3, 1]])).tolist() == [[[0.0, 2.0], [3.0, 0.0]]]


def test_quantising_in_parts_is_quantising_at_once(monkeypatch: pytest.MonkeyPatch):
    codebook, latent = Codebook(16, 4), torch.randn(3, 4, 50)
    whole = codebook.nearest(latent)
    direct = torch.cdist(latent.transpose(1, 2).double(), codebook.k.double()[None]).argmin(-1)
    assert torch.equal(whole, direct)
    monkeypatch.setattr(Codebook, "_ROWS", 7)
    assert torch.equal(codebook.nearest(latent), whole)


def test_codes_survive_quantising_their_own_rows(small_codec: JukeboxVQVAE):
    codes = torch.randint(0, 16, (2, 9))
    rows = small_codec.dequantise(codes)
    again = small_codec.quantise(rows)
    assert torch.equal(again.codes, codes)
    assert torch.equal(again.latent, rows)


def test_straight_through_is_exact_in_value_and_one_in_gradient():
    latent = torch.randn(2, 3, 4, requires_grad=True)
    quantised = torch.randn(2, 3, 4) * 100
    result = straight_through(latent, quantised)
    assert torch.equal(result, quantised)
    result.sum().backward()
    assert torch.equal(latent.grad, torch.ones_like(latent))


@pytest.mark.parametrize("wrap", ["model", "plain", "module", "safetensors"])
def test_checkpoint_layouts_load_the_level(tmp_path: Path, wrap: str):
    state = whole_state()
    path = tmp_path / "vqvae.pth.tar"
    if wrap == "model":
        torch.save({"step": 5, "model": state}, path)
    elif wrap == "plain":
        torch.save(state, path)
    elif wrap == "module":
        torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, path)
    else:
        from safetensors.torch import save_file

        path = tmp_path / "vqvae.safetensors"
        save_file(state, path)
    codec = JukeboxVQVAE.from_checkpoint(path, 2, SMALL)
    for key, value in codec.state_dict().items():
        assert torch.equal(value, state[key])
    assert codec.licence == LICENCE
    assert not any(parameter.requires_grad for parameter in codec.parameters())


def test_checkpoints_of_another_kind_are_one_sentence(tmp_path: Path):
    state = whole_state()
    path = tmp_path / "other.pt"

    def message(content: object) -> str:
        torch.save(content, path)
        with pytest.raises(UserError) as caught:
            JukeboxVQVAE.from_checkpoint(path, 1, SMALL)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    lacking = {key: value for key, value in state.items() if key != "decoders.1.out.bias"}
    assert "decoders.1.out.bias is missing" in message(lacking)
    assert "is (16, 9)" in message(state | {"bottleneck.level_blocks.1.k": torch.zeros(16, 9)})
    assert "Unknown codec entry encoders.1.more" in message(state | {"encoders.1.more": torch.zeros(1)})
    assert "holds no named tensors" in message([1, 2, 3])
    with pytest.raises(UserError, match="no checkpoint file"):
        JukeboxVQVAE.from_checkpoint(tmp_path / "absent.pt", 1)
    whole = tmp_path / "whole.pt"
    torch.save(state, whole)
    path.write_bytes(whole.read_bytes()[:5000])
    with pytest.raises(UserError, match="truncated"):
        JukeboxVQVAE.from_checkpoint(path, 1, SMALL)


class _Mischief:
    def __reduce__(self):
        return (Path.touch, (Path("mischief"),))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": whole_state(), "extra": _Mischief()}, "vqvae.pth.tar")
    Path("raw.pt").write_bytes(pickle.dumps(_Mischief()))
    for name in ("vqvae.pth.tar", "raw.pt"):
        with pytest.raises(UserError, match="not a readable checkpoint"):
            JukeboxVQVAE.from_checkpoint(name, 1, SMALL)
    assert not Path("mischief").exists()


@pytest.mark.parametrize("shape", [(1, 44100), (1, 2, 44100), (1, 1, 100)])
def test_audio_of_another_shape_is_one_sentence(shape: tuple[int, ...]):
    with pytest.raises(UserError, match="the codec takes"):
        JukeboxVQVAE(2, SMALL).encode(torch.zeros(shape))


def test_levels_end_at_two():
    with pytest.raises(UserError, match="no level 3"):
        JukeboxVQVAE(3)
