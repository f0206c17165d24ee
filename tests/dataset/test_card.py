"""The card: YAML that readers of datasets understand, and prose that says what is in the files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from export_factory import HOSTILE, META, make_items

from tiktok_dm.dataset.card import accuracy_table, card, clip_status, listed, missing_table, outcome
from tiktok_dm.dataset.export import export
from tiktok_dm.dataset.rows import ClipItem, SplitInfo
from tiktok_dm.reading import features

SPLITS = [
    SplitInfo("clips", "train", 3, 900, 300, ("train-00000-of-00001.parquet",)),
    SplitInfo("segments", "train", 3, 90, 30, ("train-00000-of-00001.parquet",)),
    SplitInfo("clips", "test", 1, 400, 100, ("test-00000-of-00001.parquet",)),
    SplitInfo("segments", "test", 1, 40, 10, ("test-00000-of-00001.parquet",)),
]


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[ClipItem]:
    return make_items(tmp_path_factory.mktemp("stages"))


def head(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def test_front_matter(items: list[ClipItem]) -> None:
    from datasets import Features

    front = head(card(items, META, SPLITS))
    assert front["license"] == "cc-by-4.0"
    assert front["pretty_name"] == META.title
    assert front["size_categories"] == ["n<1K"]
    assert front["configs"] == [
        {
            "config_name": "clips",
            "default": True,
            "data_files": [
                {"split": "train", "path": "data/clips/train-*.parquet"},
                {"split": "test", "path": "data/clips/test-*.parquet"},
            ],
        },
        {
            "config_name": "segments",
            "data_files": [
                {"split": "train", "path": "data/segments/train-*.parquet"},
                {"split": "test", "path": "data/segments/test-*.parquet"},
            ],
        },
    ]
    clips, segments = front["dataset_info"]
    assert clips["splits"] == [
        {"name": "train", "num_bytes": 900, "num_examples": 3},
        {"name": "test", "num_bytes": 400, "num_examples": 1},
    ]
    assert (clips["download_size"], clips["dataset_size"]) == (400, 1300)
    assert (segments["download_size"], segments["dataset_size"]) == (40, 130)
    assert Features._from_yaml_list(clips["features"]) == features("clips")
    assert Features._from_yaml_list(segments["features"]) == features("segments")


def test_no_licence_is_not_made_up(items: list[ClipItem]) -> None:
    text = card(items, replace(META, license=""), SPLITS)
    assert "license" not in head(text)
    assert "No licence is stated." in text


def test_prose_counts(items: list[ClipItem]) -> None:
    text = card(items, META, SPLITS)
    assert "| train | 3 | 3 | 2 | 2 | 0.1 | 2.5 s |" in text
    assert "| test | 1 | 1 | 1 | 1 | 0.0 | 2.0 s |" in text
    assert "| all | 4 | 4 | 3 | 2 | 0.2 | 2.4 s |" in text
    assert "Dancers in a clip: 1 in 2 clips, 2 in 1 clip, 3 in 1 clip. Tempo: 100 to 107 beats a minute." in text
    assert "4 of 7 planned clips are in the dataset; 1 filtered, 1 failed, 1 gone." in text
    assert "| filtered | music | the source has no sound | clip 4 |" in text
    assert "| gone | acquire | private | compilation 2, clip 8 |" in text
    assert "- clip 9: asked \\<us\\> to" in text
    assert "| 1 | https://example.org/watch?v=1&t=2 | 2 |" in text
    assert "recall 0.991, mean joint error 0.041, PCK@0.2 0.996" in text
    assert "@misc{tiny,\n  title = {Tiny}\n}" in text
    for column in features("clips").keys() | features("segments").keys():
        assert f"| `{column}` |" in text


def test_hostile_words_stay_words(items: list[ClipItem]) -> None:
    body = card(items, META, SPLITS).split("---\n", 2)[2]
    assert HOSTILE not in body
    assert "\\</script\\>\\<b\\>bold\\</b\\>" in body
    rows = [line for line in body.splitlines() if line.startswith("| failed")]
    assert rows == ["| failed | segment | cannot read \\<frame\\> 12 | clip 5 |"], "one table row, whatever the reason"


def test_a_table_cell_stays_one_line(items: list[ClipItem]) -> None:
    entry = dict(META.ledger[-1], reason="first | line\nsecond")
    text = card(items, replace(META, ledger=[entry]), SPLITS)
    assert "| gone | acquire | first \\| line second | clip 8 |" in text


def test_fenced_citation_cannot_end_its_block(items: list[ClipItem]) -> None:
    text = card(items, replace(META, citation="@misc{a}\n```\n# Forged"), SPLITS)
    assert text.count("```") % 2 == 0
    assert "'''\n# Forged\n```" in text


def test_an_absent_split_or_configuration_is_left_out(items: list[ClipItem]) -> None:
    front = head(card(items[:2], META, SPLITS[:1]))
    assert [config["config_name"] for config in front["configs"]] == ["clips"]
    assert [part["split"] for part in front["configs"][0]["data_files"]] == ["train"]


def test_outcome_counts_clips_against_the_plan(items: list[ClipItem]) -> None:
    assert outcome(items, META) == {"ok": 4, "filtered": 1, "failed": 1, "gone": 1, "open": 0}
    assert outcome(items, replace(META, plan_clips=10))["open"] == 3


def test_a_clip_without_a_word_shares_its_compilations_fate() -> None:
    ledger = [entry for entry in META.ledger if entry["item"] != "clip:8"]
    assert clip_status(replace(META, ledger=ledger))[8] == "gone"
    assert clip_status(replace(META, ledger=ledger))[0] == "ok"


def test_missing_groups_by_reason_and_keeps_messages() -> None:
    assert missing_table(META) == [
        {
            "status": "filtered",
            "stage": "music",
            "reason": "the source has no sound",
            "items": "clip 4",
            "raw": [],
        },
        {
            "status": "failed",
            "stage": "segment",
            "reason": "cannot read <frame> 12",
            "items": "clip 5",
            "raw": [("MediaError: cannot read <frame> 12\nof file x", "clip 5")],
        },
        {
            "status": "gone",
            "stage": "acquire",
            "reason": "private",
            "items": "compilation 2, clip 8",
            "raw": [
                ("Gone: ERROR: <Private video> & gone", "compilation 2"),
                ("Gone: its compilation is gone", "clip 8"),
            ],
        },
    ]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        (["clip:4"], "clip 4"),
        (["clip:5", "clip:4"], "clips 4, 5"),
        (["clip:7", "clip:8", "clip:9", "clip:2"], "clips 2, 7-9"),
        (["compilation:1", "clip:3"], "compilation 1, clip 3"),
    ],
)
def test_listed(items: list[str], text: str) -> None:
    assert listed(items) == text


def test_accuracy_is_left_out_where_there_is_no_truth() -> None:
    assert accuracy_table(replace(META, pose_accuracy=None)) == []
    assert [row[:2] for row in accuracy_table(META)] == [
        ("0.991", "recall"),
        ("0.041", "mean joint error"),
        ("0.996", "PCK@0.2"),
    ]


def test_the_card_says_nothing_of_this_machine(items: list[ClipItem]) -> None:
    assert str(Path(items[0].video).parent) not in card(items, META, SPLITS)


def test_a_description_is_text_and_no_markup(items: list[ClipItem]) -> None:
    """What a dataset's maker wrote is shown as written: no tag, link, heading or picture comes of it."""
    said = "<script>alert(1)</script> & [here](javascript:x)\n\n# Not a heading\n![a](http://x)"
    text = card(items, replace(META, description=said), SPLITS)
    start = text.index("\\<script")
    assert text[start:].startswith(
        "\\<script\\>alert(1)\\</script\\> & \\[here\\](javascript:x)\n\n\\# Not a heading !\\[a\\](http://x)\n\n"
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    export(make_items(folder / "items"), folder / META.name, META)
    return folder / META.name


def test_what_load_dataset_says_of_it(written: Path, tmp_path: Path) -> None:
    import datasets

    for config in ("clips", "segments"):
        info = datasets.load_dataset(str(written), config, cache_dir=str(tmp_path))["train"].info
        assert (info.license, info.homepage, info.citation) == (META.license, META.homepage, META.citation)
        assert re.fullmatch(r"A few rendered clips\. \(content [0-9a-f]{16}(-[0-9a-f]{16})*\)", info.description)


def test_the_cards_code_runs_as_it_stands(written: Path, tmp_path: Path) -> None:
    """Every Python block, one after the other in one process, from the folder beside the dataset's."""
    pytest.importorskip("torch", reason="the card's training loop wants torch: pip install tiktok-dm[model]")
    blocks = re.findall(r"```python\n(.*?)```", (written / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    told = "\nprint(len(table), sorted(inputs), tuple(inputs['motion'].shape[1:]), tuple(inputs['audio'].shape[1:]))"
    # The last line of the first block shows a shape, as in a notebook.
    environment = {**os.environ, "HF_DATASETS_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks) + told],
        cwd=written.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = sum(item.split == "train" for item in make_items(tmp_path / "again"))
    assert done.stdout.split("\n")[-2] == f"{rows} ['audio', 'motion'] (60, 75) (44100,)"
