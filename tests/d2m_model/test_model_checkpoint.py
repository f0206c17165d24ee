from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from d2m_model import checkpoint
from d2m_model.checkpoint import convert, plain_names, read_model, recognise, save_model
from d2m_model.codec.files import open_codec
from d2m_model.codec.jukebox import LICENCE, JukeboxVQVAE
from d2m_model.config import ModelConfig, preset_config
from d2m_model.networks.d2m_gan import D2MGAN
from tiktok_dm.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_model_comes_back_the_same(tmp_path: Path, small: ModelConfig):
    model = D2MGAN(small).eval()
    save_model(model, tmp_path / "deep" / "model")
    assert names(tmp_path / "deep") == ["model"]
    assert names(tmp_path / "deep" / "model") == ["config.yaml", "model.safetensors"]
    back = D2MGAN.from_pretrained(tmp_path / "deep" / "model")
    assert back.config == small
    assert not back.training
    assert all(parameter.requires_grad for parameter in back.parameters())
    motion, visual = torch.randn(1, 60, 75), torch.randn(1, 1, 24)
    with torch.no_grad():
        assert torch.equal(model(motion, visual), back(motion, visual))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path, small: ModelConfig):
    model = D2MGAN(small)
    for name in ("a", "b"):
        save_model(model, tmp_path / name)
    for name in ("config.yaml", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_hub_mixin_writes_the_same_two_files_and_a_card(tmp_path: Path, small: ModelConfig):
    D2MGAN(small).save_pretrained(tmp_path / "model")
    assert names(tmp_path / "model") == ["README.md", "config.yaml", "model.safetensors"]
    assert D2MGAN.from_pretrained(tmp_path / "model").config == small


def test_nothing_is_overwritten_and_a_failed_save_leaves_nothing(tmp_path: Path, small: ModelConfig, monkeypatch):
    model = D2MGAN(small)
    save_model(model, tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match="exists already"):
        save_model(D2MGAN(small), tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before

    def full_disk(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        save_model(model, tmp_path / "other", [full_disk])
    assert names(tmp_path) == ["model"]


def test_a_folder_that_is_no_checkpoint_is_one_sentence(tmp_path: Path, small: ModelConfig):
    folder = tmp_path / "model"
    save_model(D2MGAN(small), folder)
    with pytest.raises(UserError, match="of level 'high'; 'low' is needed"):
        read_model(folder, level="low")
    with pytest.raises(UserError, match="of preset 'paper'; 'released' is needed"):
        read_model(folder, preset="released")
    config, weights = folder / "config.yaml", folder / "model.safetensors"
    text, content = config.read_text(), weights.read_bytes()
    config.write_text(text.replace("visual_features: 24", "visual_features: 25"))
    with pytest.raises(UserError, match=r"generator.lin.weight in .* is \(128, 40\), not \(128, 41\)"):
        read_model(folder)
    config.write_text(text.replace("level: high", "level: low"))
    with pytest.raises(UserError):
        read_model(folder)
    config.write_text(text)
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="truncated"):
        read_model(folder)
    weights.unlink()
    with pytest.raises(UserError, match=r"lacks model\.safetensors"):
        read_model(folder)
    with pytest.raises(UserError, match="neither a model folder nor a hub id"):
        D2MGAN.from_pretrained(tmp_path / "absent")


def released_states(level: str, dataset: str) -> tuple[dict, dict]:
    with torch.device("meta"):
        model = D2MGAN(preset_config("released", level, dataset))
    return model.motion_encoder.state_dict(), model.generator.state_dict()


@pytest.mark.parametrize(("level", "dataset"), [("high", "tiktok"), ("high", "aist"), ("low", "aist")])
def test_released_networks_are_told_from_their_shapes(level: str, dataset: str):
    assert recognise(*released_states(level, dataset)) == preset_config("released", level, dataset)


def test_networks_that_are_none_of_the_released_ones_are_one_sentence():
    encoder, generator = released_states("low", "tiktok")
    unrepaired = {key: value for key, value in generator.items() if not key.startswith("lin.")}
    with pytest.raises(UserError, match="lacks the first projection"):
        recognise(encoder, unrepaired)
    with pytest.raises(UserError, match=r"first projection \(lin1.weight\) is \(\)"):
        recognise({}, generator)
    with pytest.raises(UserError, match="no released network for aist has that"):
        recognise(released_states("high", "aist")[0], released_states("high", "tiktok")[1])


@pytest.mark.parametrize("seed", range(8))
def test_wrappers_names_are_taken_off_whatever_their_order(seed: int):
    rng = random.Random(seed)
    own = {f"{rng.choice(['lin', 'model'])}.{k}.weight": torch.tensor(k) for k in range(20)}
    front = "".join(rng.choices(["module.", "_orig_mod."], k=rng.randrange(4)))
    inside = rng.random() < 0.5

    def wrapped(name: str) -> str:
        head, _, rest = name.partition(".")
        return front + (f"{head}._orig_mod.{rest}" if inside and head == "model" else name)

    plain, taken = plain_names({wrapped(name): value for name, value in own.items()})
    assert plain == own
    inside &= any(name.startswith("model") for name in own)
    assert taken == [word for word in ("_orig_mod.", "module.") if word in front or (inside and word[0] == "_")]


def test_names_that_two_wrappers_share_are_one_sentence():
    with pytest.raises(UserError, match=r"entry lin\.bias is there twice"):
        plain_names({"module.lin.bias": torch.zeros(1), "_orig_mod.lin.bias": torch.ones(1)})


def test_the_authors_files_become_a_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Full-size names and shapes; the values are one number each, which keeps the test's files small."""
    states = released_states("high", "tiktok")
    flat = [{key: torch.full((), 0.5).expand(value.shape) for key, value in state.items()} for state in states]
    torch.save({f"module.{key}": value for key, value in flat[0].items()}, tmp_path / "mencoder.pt")
    torch.save(flat[1], tmp_path / "netG.pt")
    torch.save({"model": JukeboxVQVAE(2).state_dict()}, tmp_path / "vqvae.pth.tar")
    written: list[D2MGAN] = []
    monkeypatch.setattr(checkpoint, "write_model", lambda model, config, folder: written.append(model))
    files = tmp_path / "mencoder.pt", tmp_path / "netG.pt"
    said: list[str] = []
    config = convert(*files, tmp_path / "out", tmp_path / "vqvae.pth.tar", said.append)
    assert said == [f"The names in {files[0]} are those of a wrapped network: module. was taken off them."]
    assert config == preset_config("released", "high", "tiktok")
    assert set(written[0].state_dict()) == {f"motion_encoder.{k}" for k in flat[0]} | {
        f"generator.{k}" for k in flat[1]
    }
    assert all(bool((value == 0.5).all()) for value in written[0].state_dict().values())
    with safe_open(tmp_path / "out" / "codec.safetensors", "pt") as archive:
        assert archive.metadata() == {"licence": LICENCE}
        assert "bottleneck.level_blocks.2.k" in archive.keys()  # noqa: SIM118
    assert open_codec(tmp_path / "out", 2).licence == LICENCE

    torch.save({key: value for key, value in flat[1].items() if key != "model.30.bias"}, tmp_path / "netG.pt")
    with pytest.raises(UserError, match=r"lack the entry model\.30\.bias"):
        convert(*files, tmp_path / "again")
    assert not (tmp_path / "again").exists()
