"""The motion encoder (Table 1): poses of one 2-s window to one motion vector. Not for visual features or fusion.

Table 1 gives kernels, strides, channels, stacks and activations. What it leaves open, chosen for the `paper` preset:

- which axis is convolved: the pose frames are the channels, and the convolution runs along the pose features after a
  linear projection of each frame to 800 numbers. The authors' released code does so, and it is the reading under which
  the last row, "Conv 1", leaves a whole vector of the dance rather than one number per frame;
- padding: none. The kernels 6, 3, 3, 3, 4 then take 800 to 786, the length that the released code arrives at too;
- projections: 800 in front, 786 to 1024 behind, no activation on either, as in the released code;
- activations stand where the table has them: a LeakyReLU follows each of the first four convolutions, none the last;
- leaky slope 0.2, residual block as in `residual`; start values as in `layers.initialise`.

Since the frames are channels, one encoder serves one window length. `D2MGAN` cuts longer motion into windows and
encodes each. In the `released` preset the first activation is an ordinary ReLU, the others follow the stacks, kernels
are 6, 4, 4, 4 and stacks have four dilations.
"""

from __future__ import annotations

from torch import Tensor, nn

from d2m_model.config import ModelConfig
from d2m_model.networks.layers import Conv, Row, Stack, build
from d2m_model.networks.residual import PAPER_DILATIONS, RELEASED_DILATIONS
from tiktok_dm.errors import UserError

_PAPER_STACK = Stack(PAPER_DILATIONS)
_RELEASED_STACK = Stack(RELEASED_DILATIONS)

TABLES: dict[str, tuple[Row, ...]] = {
    "paper": (
        *(Conv(256, 6), "leaky_relu", _PAPER_STACK),
        *(Conv(512, 3), "leaky_relu", _PAPER_STACK),
        *(Conv(1024, 3), "leaky_relu", _PAPER_STACK),
        *(Conv(1024, 3), "leaky_relu"),
        Conv(1, 4, fixed=True),
    ),
    "released": (
        *(Conv(256, 6), "relu", _RELEASED_STACK, "leaky_relu"),
        *(Conv(512, 4), _RELEASED_STACK, "leaky_relu"),
        *(Conv(1024, 4), _RELEASED_STACK, "leaky_relu"),
        Conv(1, 4, fixed=True),
    ),
}


class MotionEncoder(nn.Module):
    """Poses (batch, motion_frames, motion_features) to motion vectors (batch, 1, motion_embedding)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        table = TABLES[config.preset]
        lost = sum(row.kernel - 1 for row in table if isinstance(row, Conv))
        if config.pose_axis - lost <= max(RELEASED_DILATIONS):
            raise UserError(f"pose_axis {config.pose_axis} is too short for the motion encoder; give 64 or more.")
        self.lin1 = nn.Linear(config.motion_features, config.pose_axis)
        self.lin2 = nn.Linear(config.pose_axis - lost, config.motion_embedding)
        self.model = build(table, config.motion_frames, config.width)

    def forward(self, motion: Tensor) -> Tensor:
        return self.lin2(self.model(self.lin1(motion)))
