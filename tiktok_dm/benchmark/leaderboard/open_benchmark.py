"""A dataset as submissions are held against it: its content, its test references, and the music that is known from it.

Not for checking a submission (`submission_check`) or scoring one (`evaluate`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tiktok_dm.audio.landmark_fingerprint import FOUND, SILENCE, Index, fingerprint
from tiktok_dm.audio.song_index import SongIndex
from tiktok_dm.audio.spectrogram_sketch import sketch
from tiktok_dm.benchmark.leaderboard.content import (
    Difference,
    content_identity,
    differences,
    read_sketches,
    shipped_reference,
    sound_digest,
)
from tiktok_dm.benchmark.pairs import read_reference
from tiktok_dm.benchmark.reference import Item, Reference, read_dataset
from tiktok_dm.errors import ProblemsError, UserError
from tiktok_dm.runtime.store import canonical_json
from tiktok_dm.schema import SAMPLE_RATE

EDITED = 0.9
"""Confidence of the search for songs from which on a prediction is edited music of the dataset."""
_SHORT_S = 3.0
SAME_STEPS = 2
"""A sound whose every sample lies within so many 16-bit steps of another's is that sound, written anew."""


class Identity(NamedTuple):
    """What tells one build's files from another's. What is kept between runs goes by it, for it costs no decoding.

    A submission is bound to `OpenBenchmark.content` instead: another Parquet library writes other bytes.

    Args:
        name: from its manifest.
        sha256: over name and checksum of every file under `data/` in its manifest. The card and the report are left
            out: their words change with the toolkit, and no score depends on them.
    """

    name: str
    sha256: str


def identity(dataset: Path) -> Identity:
    """Name and checksum of a dataset's manifest.

    Raises:
        UserError: no dataset there, or one without a manifest.
    """
    path = dataset / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = {name: entry["sha256"] for name, entry in manifest["files"].items() if name.startswith("data/")}
        name = str(manifest["name"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{dataset} is no dataset with a manifest ({error}): give the folder that `tiktok-dm build` wrote"
        ) from error
    if not files:
        raise UserError(f"{path} names no data file: build the dataset again")
    return Identity(name, hashlib.sha256(canonical_json({"name": name, "files": files}).encode()).hexdigest())


@dataclass(frozen=True)
class OpenBenchmark:
    """One configuration of a dataset's test split.

    Args:
        dataset: its folder.
        identity: see `identity`.
        config: `clips` or `segments`.
        reference: the test split.
    """

    dataset: Path
    identity: Identity
    config: str
    reference: Reference

    @cached_property
    def content(self) -> str:
        """The identity of what is scored; see `content.content_identity`."""
        return content_identity(self.identity.name, self.config, self.reference.items.values())

    @cached_property
    def samples(self) -> dict[str, int]:
        """Length of each reference at 22,050 Hz, by id."""
        return {name: len(item.sound()) for name, item in self.reference.items.items()}

    @cached_property
    def training(self) -> list[Item]:
        """The train split; empty where the dataset has none."""
        try:
            return list(read_reference(self.dataset, split="train", config=self.config).items.values())
        except UserError:
            return []

    @cached_property
    def known(self) -> KnownMusic:
        """All music of the dataset: test and train, and whole clips also where segments are scored."""
        items = {name: item for item in [*self.reference.items.values(), *self.training] for name in [item.id]}
        if self.config == "segments" and (self.dataset / "data" / "clips").is_dir():
            items |= read_reference(self.dataset, split="all", config="clips").items
        return KnownMusic(items.values(), set(self.reference.items))


class Content(NamedTuple):
    """What one configuration's test split holds.

    Args:
        identity: see `content.content_identity`.
        reference: how it differs from the reference that is shipped for a dataset of its name; empty where it is that
            one, None where none is shipped.
    """

    identity: str
    reference: list[Difference] | None


def contents(dataset: Path) -> dict[str, Content]:
    """Of each configuration that has a test split; of none in a dataset without a manifest, which has no name.

    Raises:
        UserError: files that cannot be read; music that cannot be decoded.
    """
    if not (dataset / "manifest.json").is_file():
        return {}
    name = identity(dataset).name
    found = {}
    for config in ("clips", "segments"):
        if _has_test(dataset, config):
            items = read_dataset(dataset, "test", config).items
            found[config] = Content(content_identity(name, config, items.values()), _as_shipped(name, config, items))
    return found


def _has_test(dataset: Path, config: str) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    paths = sorted((dataset / "data" / config).glob("*.parquet"))
    try:
        return any("test" in parquet.read_table(path, columns=["split"])["split"].to_pylist() for path in paths)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(f"a file of {dataset} cannot be read ({error}): run `tiktok-dm verify` on it") from error


def _as_shipped(name: str, config: str, items: Mapping[str, Item]) -> list[Difference] | None:
    path = shipped_reference(name, config)
    if path is None:
        return None
    sketches, problems = read_sketches(path, path.name)
    if problems:
        raise ProblemsError(problems, "the shipped reference cannot be used: install the toolkit again")
    return differences(sketches, items)


def open_benchmark(dataset: Path, config: str | None = None, ids: Iterable[str] = ()) -> OpenBenchmark:
    """Open the test split of a dataset.

    Args:
        config: `clips` or `segments`; None: what the ids look like.
        ids: of predictions.

    Raises:
        UserError: no such dataset, or nothing in it to score against.
    """
    known = identity(dataset)
    reference = read_reference(dataset, split="test", config=config, generated=ids)
    return OpenBenchmark(dataset, known, reference.config or "clips", reference)


class KnownMusic:
    """The dataset's own music, in which a prediction must not be found.

    Args:
        items: with unique ids.
        test: ids of the test split's items.
    """

    def __init__(self, items: Iterable[Item], test: set[str]) -> None:
        self._test = test
        self._digests: dict[str, str] = {}
        prints, whole = [], []
        for item in items:
            sound = item.sound()
            if not len(sound) or np.abs(sound).max() < SILENCE:
                continue
            self._digests.setdefault(sound_digest(sound), item.id)
            prints.append((item.id, fingerprint(sound, SAMPLE_RATE)))
            whole.append((item, sound))
        self._index = Index(prints)
        self._songs = SongIndex()
        self._first: dict[str, str] = {}
        for key, members in _joined(whole).items():
            self._songs.add(key, sketch(np.concatenate([sound for _, sound in members]), SAMPLE_RATE))
            self._first[key] = members[0][0].id

    def find(self, sound: np.ndarray, own: Item) -> str | None:
        """What a prediction is a copy of, in words; None where it is no copy.

        By checksum of its samples, sample by sample against its own reference, and by fingerprint from
        `fingerprint.FOUND` on.

        Args:
            sound: float32 (samples,) at 22,050 Hz, finite.
            own: the reference of its id.
        """
        if not len(sound) or np.abs(sound).max() < SILENCE:
            return None
        copied = self._digests.get(sound_digest(sound))
        if copied is not None:
            return f"it holds the very samples of {self._called(copied, own)}"
        true = own.sound()
        both = min(len(true), len(sound))
        if both and np.abs(true).max() >= SILENCE and np.abs(true[:both] - sound[:both]).max() <= SAME_STEPS / 2**15:
            return f"it holds the samples of {self._called(own.id, own)}, written anew"
        name, found = self._index.search(fingerprint(sound, SAMPLE_RATE))
        if name is not None and found.score >= FOUND:
            return (
                f"its fingerprint is that of {self._called(name, own)} (score {found.score:.2f}; {FOUND:g} and more is "
                "a copy)"
            )
        return None

    def find_edited(self, sounds: Mapping[str, np.ndarray], items: Mapping[str, Item]) -> dict[str, str]:
        """Predictions whose music is the dataset's played faster or slower, transposed, in noise or backwards.

        By the search that `propose` uses for songs (`SongIndex`), segments of a clip joined in their order. Found are
        those of confidence `EDITED` or more; so is one in twenty pieces of other music of the same kind, so that a few
        files prove nothing (`check.EDITED_SHARE`). `benchmarks/copies.json` has what is found and how often it errs.

        Args:
            sounds: float32 (samples,) at 22,050 Hz by id.
            items: the references, by id.

        Returns:
            What each is a copy of, in words, by id.
        """
        heard = [(items[key], sound) for key, sound in sounds.items() if np.abs(sound).max(initial=0) >= SILENCE]
        found: dict[str, str] = {}
        for members in _joined(heard).values():
            sound = np.concatenate([sound for _, sound in members])
            for played, how in ((sound, ""), (sound[::-1], "backwards, ")):
                best = next(iter(self._songs.search(sketch(played, SAMPLE_RATE))), None)
                if best is not None and best.confidence >= EDITED:
                    own = members[0][0]
                    called = self._called(self._first[best.a], own)
                    for item, _ in members:
                        found.setdefault(
                            item.id,
                            f"its music is that of {called} ({how}{best.reason}; confidence {best.confidence:.2f}, and "
                            f"{EDITED:g} and more is a copy)",
                        )
        return found

    def _called(self, name: str, own: Item) -> str:
        if name == own.id:
            return "its own ground truth"
        return f"the test music {name}" if name in self._test else f"the dataset's clip {name}"


def _joined(sounds: Iterable[tuple[Item, np.ndarray]]) -> dict[str, list[tuple[Item, np.ndarray]]]:
    """Sounds by clip, those of segments in the order of their ids: two seconds are too short to know a song by."""
    groups: dict[str, list[tuple[Item, np.ndarray]]] = {}
    for item, sound in sounds:
        short = item.clip_id is not None and len(sound) < _SHORT_S * SAMPLE_RATE
        groups.setdefault(f"segments of {item.clip_id}" if short else item.id, []).append((item, sound))
    return {key: sorted(members, key=lambda member: member[0].id) for key, members in groups.items()}
