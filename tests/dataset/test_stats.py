"""The paper's section 3 numbers, worked by hand for the tiny dataset."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_factory import META, make_items

from tiktok_dm.dataset.export import export
from tiktok_dm.dataset.stats import PUBLISHED, stats, table
from tiktok_dm.errors import UserError


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "tiny"
    export(make_items(tmp_path_factory.mktemp("stages")), folder, META)
    return folder


def test_numbers(out: Path) -> None:
    # Lengths are 2.5, 4, 1.1 and 2.0333 s.
    assert stats(out) == {
        "clips": 4,
        "compilations": 2,
        "songs": 3,
        "segments": 4,
        "seconds": 9.633,
        "mean_s": 2.408,
        "median_s": 2.267,
        "shortest_s": 1.1,
        "longest_s": 4.0,
        "most_dancers": 3,
        "usual_dancers": 1,
        "dancers": {"1": 2, "2": 1, "3": 1},
        "dancers_annotated": {"1": 2, "2": 1},
        "splits": {
            "train": {"clips": 3, "songs": 2, "segments": 3, "seconds": 7.6},
            "test": {"clips": 1, "songs": 1, "segments": 1, "seconds": 2.033},
        },
    }


def test_table_puts_the_published_numbers_beside(out: Path) -> None:
    lines = [line.split("  ") for line in table(stats(out)).splitlines()]
    cells = {line[0]: [cell.strip() for cell in line[1:] if cell.strip()] for line in lines}
    assert cells["clips"] == ["4", "445"]
    assert cells["compilations"] == ["2", "15"]
    assert cells["songs"] == ["3", "86 (the paper says 85)"]
    assert cells["mean length"] == ["2.4 s", "about 12.5 s"]
    assert cells["most clips have"] == ["1 (2 clips, 50 %)", "1"]
    assert cells["train"] == ["3 clips, 2 songs, 3 segments", "392 clips, 43 songs, 2384 segments"]
    assert cells["test"] == ["1 clip, 1 song, 1 segment", "53 clips, 43 songs, 307 segments"]


def test_published_numbers_add_up() -> None:
    train, test = PUBLISHED["splits"]["train"], PUBLISHED["splits"]["test"]
    assert tuple(a + b for a, b in zip(train, test, strict=True)) == (445, 86, 2691)
    assert (PUBLISHED["clips"], PUBLISHED["songs"], PUBLISHED["segments"]) == (445, 86, 2691)


def test_no_dataset_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no dataset: give the folder"):
        stats(tmp_path)


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data/clips").mkdir(parents=True)
    (tmp_path / "data/clips/train-00000-of-00001.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot be read: run `tiktok-dm verify .*` to see what is wrong"):
        stats(tmp_path)
