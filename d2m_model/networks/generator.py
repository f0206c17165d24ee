"""The VQ generators, high and low level (Tables 2 and 3): the fused vector of a window to its latent. Not for fusion.

A generator projects the fused vector to a signal of one channel and convolves that signal down to the latent,
(batch, 64, frames), without noise. What the tables leave open, chosen for the `paper` preset:

- projection: one linear layer without activation to four times the latent's length (1376 high, 5512 low), because the
  strides of both tables multiply to four;
- padding: reflection ("same"), so that every layer keeps its length or halves it, both levels end on exactly 344 and
  1378 frames by the same rule, no layer that Table 3 does not list is needed behind the convolutions, and the network
  takes any length. Reflection, because the residual blocks have it too;
- several windows: their projected signals are laid end to end and convolved once, so that windows have no seams;
- activations stand where the tables have them; the low level's LeakyReLU in front of the tanh is in Table 3 and kept;
- output scale: 100, the released code's factor. A tanh ends at 1 and JukeBox's code-book rows reach far beyond;
- weight norm inside residual blocks only, leaky slope 0.2, start values as in `layers.initialise` with the last
  convolution at a tenth, so that the tanh does not start saturated.

The `released` preset pads by zeros and reflections of its own (`TABLES`), projects to 2058 (high) or 2048 (low), and at
the low level needs a last linear layer from 1045 to 1378 frames, after the tanh, so that its output is unbounded. Both
are made for one window of 2 s: longer music is sampled window by window.

The released low generator for TikTok cannot run as it was released: it lacks the first projection, so that the fused
vector of 3072 meets a chain that was laid out for 2048 (its last layer needs exactly 1045 frames). It is repaired here
by the projection that the authors' AIST++ twin has, 3072 (or what is fused) to 2048; nothing else differs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from d2m_model.config import ModelConfig
from d2m_model.networks.layers import Conv, Reflect, Row, Stack, build
from d2m_model.networks.residual import PAPER_DILATIONS, RELEASED_DILATIONS
from tiktok_dm.errors import UserError


def _tables(latent_channels: int) -> dict[tuple[str, str], tuple[Row, ...]]:
    paper, released = Stack(PAPER_DILATIONS), Stack(RELEASED_DILATIONS)
    return {
        ("paper", "high"): (
            *(Conv(32, 6, 2, "same"), "leaky_relu", paper),
            *(Conv(64, 41, 2, "same"), "leaky_relu", paper),
            *(Conv(128, 41, 1, "same"), "leaky_relu", paper),
            *(Conv(256, 41, 1, "same"), "leaky_relu", paper),
            *(Conv(512, 41, 1, "same"), "leaky_relu", paper),
            *(Conv(latent_channels, 40, 1, "same", fixed=True), "tanh"),
        ),
        ("paper", "low"): (
            *(Conv(32, 6, 2, "same"), "leaky_relu", paper),
            *(Conv(64, 4, 1, "same"), "leaky_relu", paper),
            *(Conv(128, 40, 2, "same"), "leaky_relu", paper),
            *(Conv(256, 40, 1, "same"), "leaky_relu", paper),
            *(Conv(512, 40, 1, "same"), "leaky_relu", paper),
            *(Conv(1024, 40, 1, "same"), "leaky_relu", paper),
            *(Conv(1024, 40, 1, "same"), "leaky_relu"),
            *(Conv(latent_channels, 40, 1, "same", fixed=True), "leaky_relu", "tanh"),
        ),
        ("released", "high"): (
            *(Conv(32, 6, 2, 1), released, "leaky_relu"),
            *(Conv(64, 41, 2, 1), released, "leaky_relu"),
            *(Conv(128, 41, 1, 1), released, "leaky_relu"),
            *(Conv(256, 41, 1, 1), released, "leaky_relu"),
            *(Conv(512, 41, 1, 1), released, "leaky_relu"),
            *(Conv(latent_channels, 40, 1, 1, fixed=True), "tanh"),
        ),
        ("released", "low"): (
            *(Reflect(3), Conv(32, 6, 2, 1), released, "leaky_relu"),
            *(Reflect(32), Conv(64, 4, 1, 1), released, "leaky_relu"),
            *(Reflect(64), Conv(128, 40, 2, 1), released, "leaky_relu"),
            *(Reflect(64), Conv(256, 40, 1, 1), released, "leaky_relu"),
            *(Reflect(64), Conv(512, 40, 1, 1), released, "leaky_relu"),
            *(Reflect(64), Conv(1024, 40, 1, 1), released, "leaky_relu"),
            *(Reflect(64), Conv(1024, 40, 1, 1)),
            *(Reflect(64), Conv(latent_channels, 40, 1, 1, fixed=True), "tanh"),
        ),
    }


_RELEASED_SIGNAL = {"high": 2058, "low": 2048}
_RELEASED_LOW_FRAMES = 1045
_STRIDES = 4


class Generator(nn.Module):
    """Fused vectors (batch, windows, features) to a latent (batch, latent_channels, windows * latent_frames).

    `features` is the motion vector followed by the visual vector, where the model has them; the genre's embedding is
    appended here. The released preset takes one window.
    """

    fc: nn.Linear | None
    genre_embed: nn.Embedding | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        released = config.preset == "released"
        signal = _RELEASED_SIGNAL[config.level] if released else _STRIDES * config.latent_frames
        self.lin = nn.Linear(config.fused_features, signal)
        self.fc = nn.Linear(_RELEASED_LOW_FRAMES, config.latent_frames) if released and config.level == "low" else None
        self.genre_embed = nn.Embedding(config.genres, config.genre_embedding) if config.genres else None
        self.model = build(_tables(config.latent_channels)[config.preset, config.level], 1, config.width)

    def forward(self, fused: Tensor, genre: Tensor | None = None) -> Tensor:
        """The predicted latent.

        Args:
            fused: (batch, windows, features) float.
            genre: (batch,) integer, for a model with genres.

        Raises:
            UserError: a genre that is missing or not wanted, or several windows in the released preset.
        """
        batch, windows, _ = fused.shape
        if genre is None and self.genre_embed is not None:
            raise UserError("This generator was made with genres; give the genre of each item.")
        if genre is not None and self.genre_embed is None:
            raise UserError("This generator was made without genres; give none.")
        if windows != 1 and self.config.preset == "released":
            raise UserError(f"The released generator makes one window at a time; {windows} were given.")
        if genre is not None and self.genre_embed is not None:
            fused = torch.cat((fused, self.genre_embed(genre)[:, None].expand(-1, windows, -1)), dim=-1)
        latent = self.model(self.lin(fused).reshape(batch, 1, -1))
        if self.fc is not None:
            latent = self.fc(latent)
        return latent * self.config.output_scale
