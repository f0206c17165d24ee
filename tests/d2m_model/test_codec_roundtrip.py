"""A codec behind the benchmark's contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from d2m_model.codec.files import write_codec
from d2m_model.codec.jukebox import JukeboxVQVAE
from d2m_model.codec.quality import load
from tiktok_dm.errors import UserError


def test_sound_comes_back_at_its_length(tmp_path: Path, small_codec: JukeboxVQVAE):
    folder = tmp_path / "mine"
    folder.mkdir()
    write_codec(small_codec, folder)
    codec = load(str(folder))
    assert (codec.name, codec.licence) == ("VQ-VAE of mine, hop 128, 16 codes", "")
    audio = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    back = codec(audio, 22050)
    assert back.shape == (1000,)
    padded = torch.zeros(1, 1, 1024)
    padded[0, 0, :1000] = torch.from_numpy(audio)
    with torch.no_grad():
        expected = small_codec.decode(small_codec.quantise(small_codec.encode(padded)).latent)[0, 0, :1000]
    assert np.array_equal(back, expected.numpy())
    assert codec(audio[:5], 22050).shape == (5,)
    with pytest.raises(UserError, match="takes 22050 Hz, not 44100 Hz"):
        codec(audio, 44100)


def test_codecs_that_are_not_there_are_one_sentence(tmp_path: Path):
    with pytest.raises(UserError, match="Name the codec: d2m:FOLDER"):
        load("")
    with pytest.raises(UserError, match=r"is no codec folder \(it lacks codec.yaml\)"):
        load(str(tmp_path))
    with pytest.raises(UserError, match="There is no codec at"):
        load(f"high@{tmp_path}/vqvae.pth.tar")
