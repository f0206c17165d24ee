"""`tiktok-dm listen new`: pair the files, make the stimuli, write the study. Not for holding it (`server`)."""

from __future__ import annotations

import math
import secrets
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from tiktok_dm.errors import MediaError, Problem, ProblemsError, UserError
from tiktok_dm.listening import stimuli
from tiktok_dm.listening import study as studies
from tiktok_dm.listening.assignment import draw
from tiktok_dm.listening.stimuli import Piece
from tiktok_dm.listening.study import Clip, Condition, Exclusion, Key, Material, Study

REFERENCE, ANCHOR = "reference", "anchor"
_PRACTICE_S = 4.0
_SECONDS_A_RATING = 8.0
"""What a rater needs besides listening; for the forecast of the session's length alone."""


@dataclass(frozen=True)
class Wanted:
    """What a study is made from.

    Args:
        protocol: `coherence` or `quality`.
        systems: folders of generated files by system.
        reference: folder of the original music (or films), or a dataset.
        videos: folder of films, or a dataset; None: the reference's own.
        midi: systems that a synthesiser plays from MIDI; they are left out of the quality protocol.
        split: of a dataset.
        items: clips a rater.
        pool: clips in the study; None: as many as a rater rates.
        raters: to finish.
        seed: of all choices.
        max_seconds: clips are cut to this length.
        loudness_lufs: of every stimulus.
        checks, headphone_trials, practice: of `Study`.
        exclusion: of `Study`.
        consent: paragraphs; None: the default ones.
        contact: of `Study`.
    """

    protocol: str
    systems: dict[str, Path]
    reference: Path
    videos: Path | None = None
    midi: frozenset[str] = frozenset()
    split: str | None = None
    items: int = 15
    pool: int | None = None
    raters: int = 26
    access: Literal["invited", "open"] = "invited"
    address_limit: int = 3
    seed: int = 0
    max_seconds: float = 10.0
    loudness_lufs: float = stimuli.LOUDNESS_LUFS
    checks: int = 2
    headphone_trials: int = 6
    practice: bool = True
    exclusion: Exclusion = field(default_factory=Exclusion)
    consent: tuple[str, ...] | None = None
    contact: str = ""


def _check(wanted: Wanted, folder: Path) -> None:
    if wanted.protocol not in studies.PROTOCOLS:
        raise UserError(f"there is no protocol {wanted.protocol!r}: the protocols are coherence and quality")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: name a new folder, nothing is overwritten")
    unknown = sorted(wanted.midi - wanted.systems.keys())
    if unknown:
        raise UserError(f"--midi names {unknown[0]}, which is no system of this study: check the name")
    if not wanted.systems:
        raise UserError("a study compares systems: give at least one as --systems name=DIR")
    taken = {REFERENCE, ANCHOR} & wanted.systems.keys()
    if taken:
        raise UserError(f"a system cannot be called {taken.pop()}: the study has a condition of that name, rename it")
    if wanted.protocol == "quality" and not wanted.systems.keys() - wanted.midi:
        raise UserError("every system was named with --midi, and MIDI systems are left out of the quality protocol")
    if not stimuli.SHORTEST_S <= wanted.max_seconds <= 120:
        raise UserError(f"--max-seconds is {wanted.max_seconds:g}: give {stimuli.SHORTEST_S:g} to 120 s")
    if not -40 <= wanted.loudness_lufs <= -10:
        raise UserError(f"a loudness of {wanted.loudness_lufs:g} LUFS is no listening level: give -40 to -10")


def _ids_alike(reference: Path, pieces: dict[str, Piece], what: str) -> dict[str, Piece]:
    if not pieces:
        raise UserError(f"no id of {reference} is an id of the generated files: name them by their {what}")
    return pieces


@dataclass
class _Paired:
    """Pieces by id: of each system, the originals' music, their pictures (coherence alone)."""

    systems: dict[str, dict[str, Piece]]
    reference: dict[str, Piece]
    videos: dict[str, Piece]


def _pair(wanted: Wanted, protocol: studies.Protocol, scratch: Path) -> _Paired:
    names = [n for n in wanted.systems if protocol.name != "quality" or n not in wanted.midi]
    dataset = any(path is not None and stimuli.is_dataset(path) for path in (wanted.reference, wanted.videos))
    heard = stimuli.SOUND | stimuli.FILM
    systems = {n: stimuli.folder_pieces(wanted.systems[n], heard, dataset) for n in names}
    stems = {stem for pieces in systems.values() for stem in pieces}

    def given(path: Path, kinds: set[str], called: str) -> dict[str, Piece]:
        if stimuli.is_dataset(path):
            unpacked = scratch / called
            unpacked.mkdir()
            pieces = stimuli.dataset_pieces(path, stems, wanted.split, unpacked)
            return _ids_alike(path, pieces, "segment_id or clip_id")
        return stimuli.folder_pieces(path, kinds, dataset)

    reference = given(wanted.reference, heard, "reference")
    videos = {}
    if protocol.video:
        if wanted.videos is not None:
            videos = given(wanted.videos, stimuli.FILM, "videos")
        else:
            videos = {k: p for k, p in reference.items() if p.path.suffix.lower() in stimuli.FILM}
            if not videos:
                raise UserError(
                    f"{wanted.reference} holds music without a picture: name the dance videos with --videos"
                )
    return _Paired(systems, reference, videos)


def _lengths(paired: _Paired, wanted: Wanted) -> dict[str, float]:
    """Common length of every item that all have, s.

    Raises:
        ProblemsError: every file that is missing, cannot be read, or is too short.
    """
    sides = [(f"system {name}", pieces, "audio") for name, pieces in paired.systems.items()]
    sides.append(("the reference", paired.reference, "audio"))
    if paired.videos:
        sides.append(("the videos", paired.videos, "video"))
    anywhere = {k for pieces in paired.systems.values() for k in pieces}
    if not stimuli.is_dataset(wanted.reference):
        anywhere |= paired.reference.keys()
    problems, lengths = [], {}
    for item in sorted(anywhere):
        shortest = wanted.max_seconds
        for side, pieces, need in sides:
            if item not in pieces:
                problems.append(Problem(item, None, None, f"missing in {side}"))
                continue
            try:
                length = stimuli.length_s(pieces[item], need)
            except MediaError as error:
                problems.append(Problem(item, None, None, f"in {side}: {error}"))
                continue
            if length < stimuli.SHORTEST_S:
                problems.append(
                    Problem(
                        item,
                        None,
                        None,
                        f"in {side}: {length:.2f} s is too short, at least {stimuli.SHORTEST_S:g} s are needed",
                    )
                )
            shortest = min(shortest, length)
        lengths[item] = shortest
    if problems:
        raise ProblemsError(problems, "the files do not pair up")
    return lengths


def _mismatch(items: Sequence[str], paired: _Paired, lengths: dict[str, float], seed: int) -> dict[str, str]:
    """For each item another one whose original music takes its place as the low anchor.

    Of another song where that is known, then long enough, then the one that was used least.
    """
    rng = draw(seed, "anchor")
    used = dict.fromkeys(items, 0)
    chosen = {}
    for item in items:
        song = paired.reference[item].song

        def fit(other: str, item: str = item, song: str | None = song) -> tuple[bool, bool, int, float]:
            same_song = song is not None and paired.reference[other].song == song
            return same_song, lengths[other] < lengths[item], used[other], rng.random()

        chosen[item] = min((other for other in items if other != item), key=fit)
        used[chosen[item]] += 1
    return chosen


def make(folder: Path, wanted: Wanted, tell: Callable[[str], None] = lambda text: None) -> tuple[Study, Key]:
    """Make a study in a new folder, which appears only when complete.

    Args:
        folder: a name that is not taken.
        wanted: what it is made from.
        tell: gets a line for each item.

    Raises:
        UserError: what is asked for cannot be had; ProblemsError names every missing, unreadable or short file.
    """
    _check(wanted, folder)
    protocol = studies.PROTOCOLS[wanted.protocol]
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made = scratch / "study"
        (made / studies.STIMULI).mkdir(parents=True)
        paired = _pair(wanted, protocol, scratch)
        lengths = _lengths(paired, wanted)
        pool = wanted.pool or wanted.items
        if len(lengths) < pool or pool < wanted.items or pool < 2:
            raise UserError(
                f"{len(lengths)} clips are there for a study of {pool} with {wanted.items} a rater: "
                "give more files, or lower --items and --pool"
            )
        order = sorted(lengths)
        draw(wanted.seed, "items").shuffle(order)
        items, rest = order[:pool], order[pool:]
        conditions = [Condition(name=name, kind="system") for name in paired.systems]
        conditions += [Condition(name=REFERENCE, kind="reference"), Condition(name=ANCHOR, kind="anchor")]
        draw(wanted.seed, "conditions").shuffle(conditions)
        if wanted.raters * wanted.items < pool * len(conditions):
            raise UserError(
                f"{wanted.raters} raters with {wanted.items} clips each leave some of the {pool * len(conditions)} "
                "combinations of system and clip without a vote: raise --raters or lower --pool"
            )
        maker = _Maker(made / studies.STIMULI, scratch, paired, lengths, protocol, wanted.loudness_lufs)
        swap = _mismatch(items, paired, lengths, wanted.seed) if protocol.name == "coherence" else {}
        clips, originals = [], []
        for k, item in enumerate(items):
            tell(f"{k + 1} of {len(items)}: {item}")
            row, original = maker.item(item, conditions, swap.get(item))
            clips.append(row)
            originals.extend(original)
        materials = _materials(maker, wanted, rest)
        heard = max(row[0].seconds for row in clips) * (2 if protocol.beside_original else 1)
        minutes = math.ceil((wanted.items + wanted.checks) * (heard + _SECONDS_A_RATING) / 60 + 2)
        study = Study(
            name=secrets.token_hex(16),
            protocol=protocol,
            seed=wanted.seed,
            n_items=pool,
            n_conditions=len(conditions),
            items_a_rater=wanted.items,
            raters=wanted.raters,
            access=wanted.access,
            address_limit=wanted.address_limit if wanted.access == "open" else None,
            checks=wanted.checks,
            headphone_trials=wanted.headphone_trials,
            practice=wanted.practice,
            loudness_lufs=wanted.loudness_lufs,
            longest_s=120 + 6 * heard,
            exclusion=wanted.exclusion,
            consent=wanted.consent or studies.default_consent(protocol, wanted.items, minutes),
            contact=wanted.contact,
        )
        key = Key(
            admin_token=secrets.token_urlsafe(24),
            conditions=tuple(conditions),
            items=tuple(items),
            clips=tuple(clips),
            originals=tuple(originals),
            materials=tuple(materials),
            notes=tuple(maker.notes),
        )
        studies.write(made, study, key)
        if study.access == "invited":
            studies.invite(made, study.raters)
        if folder.exists():
            folder.rmdir()  # it was empty
        made.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return study, key


@dataclass
class _Maker:
    """Writes stimuli; remembers what could not be brought to the target."""

    folder: Path
    scratch: Path
    paired: _Paired
    lengths: dict[str, float]
    protocol: studies.Protocol
    target_lufs: float
    notes: list[str] = field(default_factory=list)

    def item(self, item: str, conditions: Sequence[Condition], swap: str | None) -> tuple[tuple[Clip, ...], list[Clip]]:
        """The stimuli of an item by condition, and its original where one stands beside."""
        seconds, picture = self._picture(item)
        reference = stimuli.read_sound(self.paired.reference[item], seconds)
        row = []
        for condition in conditions:
            if condition.kind == "system":
                sound = stimuli.read_sound(self.paired.systems[condition.name][item], seconds)
            elif condition.kind == "reference":
                sound = reference
            elif swap is None:
                sound = stimuli.low_passed(reference)
            else:
                other = stimuli.read_sound(self.paired.reference[swap], min(seconds, self.lengths[swap]))
                sound = np.resize(other, len(reference))  # begins again where the other music is shorter
            row.append(self._write(sound, picture, f"{item} by {condition.name}"))
        original = []
        if self.protocol.beside_original:
            original.append(self._write(reference, picture, f"{item}, original", note=False))
        return tuple(row), original

    def extra(self, item: str) -> tuple[Clip, Clip | None]:
        """A clip of an item that is not rated for the study: its reference, and the original beside it."""
        seconds, picture = self._picture(item)
        reference = stimuli.read_sound(self.paired.reference[item], seconds)
        clip = self._write(reference, picture, item, note=False)
        original = self._write(reference, picture, item, note=False) if self.protocol.beside_original else None
        return clip, original

    def ball(self, beat_s: float) -> tuple[Clip, Clip | None]:
        """A clip of this project's own, for where no item is to spare."""
        picture = None
        if self.protocol.video:
            picture = self.scratch / "ball.mp4"
            if not picture.exists():
                stimuli.practice_film(picture, _PRACTICE_S)
        clip = self._write(stimuli.practice_sound(_PRACTICE_S, beat_s), picture, "practice", note=False)
        if not self.protocol.beside_original:
            return clip, None
        return clip, self._write(stimuli.practice_sound(_PRACTICE_S), picture, "practice", note=False)

    def plain(self, sound: np.ndarray) -> Clip:
        """Sound at its own level."""
        return Clip(file=stimuli.write_sound(self.folder, sound), seconds=len(sound) / stimuli.SAMPLE_RATE)

    def _picture(self, item: str) -> tuple[float, Path | None]:
        if not self.protocol.video:
            return self.lengths[item], None
        picture = self.scratch / "picture.mp4"
        return stimuli.cut_picture(self.paired.videos[item], self.lengths[item], picture), picture

    def _write(self, sound: np.ndarray, picture: Path | None, what: str, note: bool = True) -> Clip:
        level, lack = stimuli.normalise(sound, self.target_lufs)
        if note and lack == math.inf:
            self.notes.append(f"{what} is silent and stays so")
        elif note and lack > 0.1:
            self.notes.append(f"{what} stays {lack:.1f} dB below the loudness of the others because of its peaks")
        if picture is None:
            name = stimuli.write_sound(self.folder, level)
        else:
            name = stimuli.write_film(self.folder, picture, level)
        return Clip(file=name, seconds=len(sound) / stimuli.SAMPLE_RATE)


def _materials(maker: _Maker, wanted: Wanted, rest: Sequence[str]) -> list[Material]:
    """Sound checks, practice and attention checks; clips that the study does not rate serve where there are some."""
    materials = [
        Material(kind="volume", clip=maker.plain(stimuli.volume_sound(n)), choices=5, expected=n) for n in (2, 3, 4)
    ]
    if wanted.headphone_trials:
        for quietest, inverted in ((1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)):
            clip = maker.plain(stimuli.headphone_sound(quietest, inverted))
            materials.append(Material(kind="headphones", clip=clip, choices=3, expected=quietest))
    spare = list(rest)
    if wanted.practice:
        clip, original = maker.extra(spare.pop(0)) if len(spare) > wanted.checks else maker.ball(0.5)
        materials.append(Material(kind="practice", clip=clip, original=original))
    for k in range(wanted.checks):
        clip, original = maker.extra(spare.pop(0)) if spare else maker.ball((0.4, 0.55, 0.7)[k % 3])
        materials.append(Material(kind="check", clip=clip, original=original))
    return materials
