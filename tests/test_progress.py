import time

import pytest

from tiktok_dm.runtime.progress import BuildProgress


@pytest.mark.parametrize(
    ("step_s", "total", "last"),
    [
        (0.0, 3, "poses: 3 of 3, clip"),
        (0.25, 3, "poses: 3 of 3, clip"),
        (3.0, 3, "poses: 3 of 3, clip, 20.0/min"),
        (0.0625, 101, "poses: 101 of 101, clip, 16/s"),
    ],
)
def test_rate_stands_only_where_it_was_measured_over_seconds(step_s, total, last, monkeypatch, capsys):
    clock = iter(100.0 + step_s * step for step in range(total))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    progress = BuildProgress()
    progress.expect("poses", total)
    for _ in range(total):
        progress.advance("poses", "clip")
    assert capsys.readouterr().err.splitlines()[-1] == last
