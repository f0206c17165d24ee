"""Baselines as folders of wav files, to be scored like any system's.

One folder per baseline (22,050 Hz, mono, 16 bit, named by id, each as long as the dance), with a `baseline.json` that
says what it is. Not for what baselines there are and how they sound (`baselines`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiktok_dm.benchmark.baselines import TITLES, VERSION, Baseline, baselines
from tiktok_dm.benchmark.codec_round_trip import CodecRoundTrip
from tiktok_dm.benchmark.pairs import read_reference
from tiktok_dm.benchmark.reference import Item
from tiktok_dm.errors import UserError
from tiktok_dm.media import encode_audio
from tiktok_dm.schema import SAMPLE_RATE

DESCRIPTION = "baseline.json"


def make_baselines(
    dataset: Path,
    out: Path,
    *,
    split: str = "test",
    config: str = "clips",
    codec: CodecRoundTrip | None = None,
    seed: int = 0,
    names: Collection[str] = TITLES,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Write the folders; `out` appears only when all of them are whole.

    Args:
        dataset: a built dataset.
        out: new folder, or an empty one.
        split: whose ids get music; music of other clips comes from this split (`shuffled`) or from train.
        config: `clips` (ids `clip_000012`) or `segments` (published segment ids).
        codec: of `ground_truth_codec`; without one that folder is not made.
        seed: of everything random.
        names: which of them to make.
        progress: called with files written and files in all.

    Returns:
        Names of the folders, in the order of tables.

    Raises:
        UserError: no such dataset, split or configuration; `out` is not empty, or cannot be written.
    """
    if not (dataset / "README.md").is_file() or not (dataset / "data").is_dir():
        raise UserError(f"{dataset} holds no dataset: give the folder that a finished `tiktok-dm build` wrote")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another folder, or remove it first")
    reference = read_reference(dataset, split=split, config=config)
    items = list(reference.items.values())
    training = _training(dataset, config) if split != "train" else items
    everyone = baselines(items, training, codec=codec, seed=seed, leave_out_itself=split in ("train", "all"))
    found = [baseline for baseline in everyone if baseline.name in names]
    made = {
        "dataset": {"name": dataset.name, "export": _export(dataset), "split": split, "config": config},
        "seed": seed,
        "version": VERSION,
        "sample_rate": SAMPLE_RATE,
    }
    with _new_folder(out) as folder:
        total, done = len(found) * len(items), 0
        for baseline in found:
            (folder / baseline.name).mkdir()
            for item in items:
                sound = np.asarray(baseline.make(item), np.float32)
                wav = encode_audio(sound, SAMPLE_RATE, "wav")
                (folder / baseline.name / f"{item.id}.wav").write_bytes(wav)
                done += 1
                if progress is not None:
                    progress(done, total)
            _describe(folder / baseline.name / DESCRIPTION, baseline, made, len(items))
    return [baseline.name for baseline in found]


def _training(dataset: Path, config: str) -> list[Item]:
    try:
        return list(read_reference(dataset, split="train", config=config).items.values())
    except UserError:
        return []  # a dataset of test clips only


def _export(dataset: Path) -> str | None:
    """The content key of the dataset's export, which tells datasets apart."""
    try:
        return json.loads((dataset / "manifest.json").read_text(encoding="utf-8")).get("export")
    except (OSError, ValueError):
        return None


def _describe(path: Path, baseline: Baseline, made: Mapping[str, Any], count: int) -> None:
    text = {
        "baseline": baseline.name,
        "title": TITLES[baseline.name],
        "what": baseline.what,
        "parameters": dict(baseline.parameters),
        "notes": list(baseline.notes),
        "n": count,
        **made,
        "clips": {name: dict(value) for name, value in sorted(baseline.clips.items())},
    }
    path.write_text(json.dumps(text, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class _new_folder:
    """A folder to fill beside `out`, renamed to it when the block ends without an error, and removed otherwise."""

    def __init__(self, out: Path) -> None:
        self._out = out.absolute()

    def __enter__(self) -> Path:
        try:
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=f".{self._out.name}.", dir=self._out.parent))
        except OSError as error:
            raise UserError(f"{self._out} cannot be written: {error.strerror or error}") from error
        return self._folder

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        try:
            if kind is None:
                self._folder.chmod(0o755)
                self._folder.replace(self._out)
            elif isinstance(error, OSError):
                raise UserError(f"{self._out} cannot be written: {error.strerror or error}") from error
        except OSError as broken:
            raise UserError(f"{self._out} cannot be written: {broken.strerror or broken}") from broken
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
