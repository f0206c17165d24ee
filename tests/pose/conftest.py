"""Rendered people, for the pose tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from people_factory import Rendered


@pytest.fixture(scope="session")
def rendered() -> Callable[[int, int], Rendered]:
    """Gives the first `frames` pictures of a rendered clip with so many `dancers`."""
    from tiktok_dm.synthetic.performance import joints_px, pictures
    from tiktok_dm.synthetic.plan import DemoParams, make_plan

    params = DemoParams(groove="exact")
    made: dict[tuple[int, int], Rendered] = {}

    def render(dancers: int, frames: int) -> Rendered:
        if (dancers, frames) not in made:
            clip = next(c for film in make_plan(params) for c in film.clips if len(c.dancers) == dancers)
            shown = [picture.copy() for picture, _ in zip(pictures(params, clip), range(frames), strict=False)]
            made[dancers, frames] = Rendered(shown, joints_px(params, clip, np.arange(frames) / params.fps))
        return made[dancers, frames]

    return render
