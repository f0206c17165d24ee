"""D2M-GAN: music from dance through a JukeBox-style VQ-VAE (Zhu et al., ECCV 2022)."""
