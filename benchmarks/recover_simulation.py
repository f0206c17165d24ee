"""Compilations simulated from the facts of their clips, and proposals that err at stated rates.

To show how many clips `tiktok_dm.curate.recover.driver` finds again, and how sure it rightly is. A film is a list of
stretches with times, songs and clip ids; nothing is rendered, nothing is decoded: what is simulated is what a proposer
would have written. Not for testing the proposer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiktok_dm.schema import SEGMENT_S, whole_segments

if TYPE_CHECKING:
    import numpy as np

    from tiktok_dm.annotations.tables import Annotations
    from tiktok_dm.curate.proposals import Proposals

FPS = 30
LENGTHS = ("uniform", "alike")


@dataclass(frozen=True)
class Stretch:
    """A piece of a film, `start_s` to `end_s`: a known clip, a clip that the list leaves out (both None), or a card.

    Args:
        clip_id: of a known clip.
        song: any integer; None for a card.
    """

    start_s: float
    end_s: float
    song: int | None = None
    clip_id: int | None = None

    @property
    def is_card(self) -> bool:
        return self.song is None


@dataclass(frozen=True)
class Extras:
    """What a film holds beside its known clips, as chances and lengths.

    Args:
        edge_card: of a title, and of an outro card.
        card: of a card between two clips.
        left_out: of a clip between two clips that the list does not have.
        lengths: how long a clip of K segments is: `uniform` over 2K..2K+2 s, or `alike`: clips with equal K of one
            compilation differ by 0.15 s only (a challenge that everybody dances to the same bars).
        hand_s: deviation (s) of the lengths that the clips' segments were counted on from those of the shots: nobody
            cuts to the frame by hand.
    """

    edge_card: float = 0.7
    card: float = 0.03
    left_out: float = 0.03
    lengths: str = "uniform"
    hand_s: float = 0.0


@dataclass(frozen=True)
class Damage:
    """How proposals err, as rates.

    Args:
        missed: share of the boundaries that no proposed clip has.
        missed_weak: share of the missed ones that still stand among the candidates, with a low confidence.
        false_cuts: proposed cuts inside a clip, per true boundary.
        weak: candidates that were rightly not used, per true boundary.
        crossfade: share of the boundaries proposed up to 0.4 s off; the others are at most 2 frames off.
        songs: share of the proposed clips with a wrong song, half of them in a song of their own.
        rejected: share of the proposed clips that are taken for cards.
        cards: share of the cards that are taken for clips.
    """

    missed: float = 0.0
    missed_weak: float = 0.5
    false_cuts: float = 0.0
    weak: float = 1.0
    crossfade: float = 0.03
    songs: float = 0.0
    rejected: float = 0.0
    cards: float = 0.0

    @classmethod
    def at(cls, rate: float) -> Damage:
        """Missed and false cuts, wrong songs and cards taken for clips at one rate; half as many clips rejected."""
        return cls(missed=rate, false_cuts=rate, songs=rate, rejected=rate / 2, cards=rate)


def simulate_films(
    annotations: Annotations, rng: np.random.Generator, extras: Extras | None = None
) -> dict[int, list[Stretch]]:
    """One film for every compilation, with all its clips in order; lengths fit the clips' whole segments."""
    extras = extras or Extras()
    films = {}
    other_song = int(annotations.clips.song_id.max()) + 1
    for compilation_id in sorted({int(number) for number in annotations.clips.compilation_id}):
        clips = annotations.clips[annotations.clips.compilation_id == compilation_id].sort_values("clip_id")
        film: list[Stretch] = []
        usual: dict[int, float] = {}

        if rng.random() < extras.edge_card:
            _add(film, rng.uniform(1.5, 5.0))
        for clip_id, song, k in clips[["clip_id", "song_id", "released_segments"]].to_numpy(int).tolist():
            if film and not film[-1].is_card:
                if rng.random() < extras.card:
                    _add(film, rng.uniform(1.0, 4.0))
                if rng.random() < extras.left_out:
                    other_song += 1
                    _add(film, rng.uniform(4.0, 16.0), song if rng.random() < 0.5 else other_song)
            rest = rng.uniform(0.0, SEGMENT_S)
            if extras.lengths == "alike":
                usual.setdefault(k, rest)
                rest = usual[k] + rng.normal(0.0, 0.15)
            # Whole frames are added below; half a frame of room keeps the number of segments.
            length = SEGMENT_S * k + min(max(rest, 0.5 / FPS), SEGMENT_S - 1.5 / FPS)
            _add(film, length + rng.normal(0.0, extras.hand_s), song, clip_id)
        if rng.random() < extras.edge_card:
            _add(film, rng.uniform(1.5, 6.0))
        films[compilation_id] = film
    return films


def _add(film: list[Stretch], length: float, song: int | None = None, clip_id: int | None = None) -> None:
    begin = film[-1].end_s if film else 0.0
    film.append(Stretch(begin, round((begin + length) * FPS) / FPS, song, clip_id))


def simulate_proposals(
    films: Mapping[int, Sequence[Stretch]], damage: Damage, rng: np.random.Generator, folder: Path | str = "simulated"
) -> Proposals:
    """What a proposer that errs at the rates of `damage` would have written of `films`; nothing is written here.

    Confidences of right and wrong values overlap: a true cut has Beta(8, 1.5), a missed one that was considered
    Beta(2, 4), a false one Beta(4, 3), what was rightly not used Beta(1.5, 6). Ids of clips and songs are the
    proposer's own. Compilations keep their ids.
    """
    import pandas as pd

    from tiktok_dm.curate.proposals import empty_proposals

    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("compilations", "clips", "proposals", "rejected", "candidates")
    }
    songs_seen: list[tuple[int, int, bool]] = []  # proposed song, true song, whether it is right
    names: dict[tuple[int, int], int] = {}
    for compilation_id, film in sorted(films.items()):
        rows["compilations"].append({"compilation_id": compilation_id, "file": f"{compilation_id:06d}.mp4"})
        right_here: set[tuple[int, int]] = set()  # proposed and true song of the clips of this film that are right
        cuts = _cuts(film, damage, rng)
        rows["candidates"] += [
            {"compilation_id": compilation_id, "at_s": at, "kind": kind, "confidence": c, "used": "yes" if u else "no"}
            for at, kind, c, u in cuts
        ]
        used = [at for at, _, _, u in cuts if u]
        sure = {at: c for at, _, c, u in cuts if u}
        for a, b in pairwise(used):
            if b - a < 1.5 / FPS:
                continue
            real = max(film, key=lambda s: min(b, s.end_s) - max(a, s.start_s))
            card = real.is_card != (rng.random() < (damage.cards if real.is_card else damage.rejected))
            if card:
                right = real.is_card
                rows["rejected"].append(
                    {
                        "compilation_id": compilation_id,
                        "start_s": a,
                        "end_s": b,
                        "kind": "card",
                        "confidence": rng.beta(8, 2) if right else rng.beta(4, 3),
                    }
                )
                continue
            true_song = -1 if real.song is None else real.song
            right = rng.random() >= damage.songs and not real.is_card
            here = sorted({s for s, t in right_here if t != true_song})
            if right:
                # A song that is heard in two compilations is one song to a proposer, but two in the release.
                song = names.setdefault((compilation_id, true_song), len(names))
            elif here and rng.random() < 0.5:
                song = int(rng.choice(here))
            else:
                song = names.setdefault((compilation_id, -2 - len(names)), len(names))
            clip_id = len(rows["clips"])
            songs_seen.append((song, true_song, right))
            if right:
                right_here.add((song, true_song))
            rows["clips"].append(
                {
                    "clip_id": clip_id,
                    "compilation_id": compilation_id,
                    "song_id": song,
                    "start_s": a,
                    "end_s": b,
                    "n_dancers": 1,
                }
            )
            rows["proposals"].append(
                {
                    "clip_id": clip_id,
                    "start_confidence": sure[a],
                    "end_confidence": sure[b],
                    "song_confidence": rng.beta(9, 1.5) if right else rng.beta(4, 3),
                }
            )
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    tables["songs"] = pd.DataFrame({"song_id": sorted({row["song_id"] for row in rows["clips"]})})
    tables["same_songs"] = pd.DataFrame(_pairs(rows["clips"], songs_seen, rng))
    return empty_proposals(folder).with_tables(**tables)


def _cuts(film: Sequence[Stretch], damage: Damage, rng: np.random.Generator) -> list[tuple[float, str, float, bool]]:
    """Instants, kind, confidence and whether used, of all candidates of one film, ascending."""
    last = film[-1].end_s
    out = [(0.0, "start", 0.99, True), (last, "end", 0.99, True)]
    true = [stretch.start_s for stretch in film[1:]]
    for at in true:
        missed = rng.random() < damage.missed
        if rng.random() < damage.crossfade:
            at, kind = at + rng.choice([-1, 1]) * rng.uniform(0.1, 0.4), "crossfade"
        else:
            at, kind = at + rng.choice([0, 0, 0, -1, 1, -2, 2]) / FPS, "hard_cut"
        if not missed:
            out.append((at, kind, rng.beta(8, 1.5), True))
        elif rng.random() < damage.missed_weak:
            out.append((at, "motion", rng.beta(2, 4), False))
    for _ in range(rng.poisson(damage.false_cuts * len(true))):
        out.append((rng.uniform(0.5, last - 0.5), "hard_cut", rng.beta(4, 3), True))
    for _ in range(rng.poisson(damage.weak * len(true))):
        out.append((rng.uniform(0.5, last - 0.5), "motion", rng.beta(1.5, 6), False))
    out.sort()
    kept: list[tuple[float, str, float, bool]] = []
    for cut in out:
        # No proposer gives two boundaries within a few frames.
        if kept and cut[0] - kept[-1][0] < 3 / FPS:
            if cut[1] == "end":
                kept[-1] = cut
            continue
        kept.append((round(float(cut[0]), 4), cut[1], float(cut[2]), cut[3]))
    return kept


def _pairs(
    clips: Sequence[Mapping[str, Any]], songs: Sequence[tuple[int, int, bool]], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Pairs of clips: neighbours in one proposed song, and half of the wrongly placed with one of their true song."""
    out = []
    latest: dict[int, int] = {}
    for i, clip in enumerate(clips):
        song, true_song, right = songs[i]
        if song in latest:
            out.append({"clip_a": latest[song], "clip_b": i, "confidence": rng.beta(9, 1.5)})
        latest[song] = i
        if not right and true_song >= 0 and rng.random() < 0.5:
            others = [
                j
                for j in range(i)
                if songs[j][2] and songs[j][1] == true_song and clips[j]["compilation_id"] == clip["compilation_id"]
            ]
            if others:
                out.append({"clip_a": int(rng.choice(others)), "clip_b": i, "confidence": rng.beta(3, 4)})
    return out


# ------------------------------------------------------------------------------------------- films whose truth is known


def film_of_truth(truths: Sequence[Mapping[str, Any]]) -> dict[int, list[Stretch]]:
    """Films of compilations whose times are known, numbered as they come.

    Args:
        truths: each with `duration_s`, `clips` (`start_s`, `end_s`, `song`) and, maybe, `non_clips`.
    """
    films: dict[int, list[Stretch]] = {}
    songs = _song_ids(truths)
    clip_id = 0
    for number, truth in enumerate(truths):
        film = [Stretch(card["start_s"], card["end_s"]) for card in truth.get("non_clips", ())]
        for clip in truth["clips"]:
            film.append(Stretch(clip["start_s"], clip["end_s"], songs[number, clip["song"]], clip_id))
            clip_id += 1
        films[number] = sorted(film, key=lambda stretch: stretch.start_s)
    return films


def annotations_of_truth(truths: Sequence[Mapping[str, Any]], folder: Path | str = "truth") -> Annotations:
    """The same compilations as the release tells of its own: order, songs (numbered apart) and whole segments only."""
    import pandas as pd

    from tiktok_dm.annotations.tables import Annotations, DatasetMeta, typed

    songs = _song_ids(truths)
    clips = [
        {
            "clip_id": stretch.clip_id,
            "compilation_id": number,
            "song_id": stretch.song,
            "released_segments": whole_segments(stretch.end_s - stretch.start_s),
        }
        for number, film in film_of_truth(truths).items()
        for stretch in film
        if stretch.clip_id is not None
    ]
    return Annotations(
        Path(folder).name,
        Path(folder),
        DatasetMeta(),
        typed("compilations", pd.DataFrame({"compilation_id": range(len(truths))})),
        typed("clips", pd.DataFrame(clips)),
        typed("songs", pd.DataFrame({"song_id": sorted(songs.values())})),
    )


def _song_ids(truths: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], int]:
    """One id for a song in each compilation, as the release has it."""
    pairs = [(number, clip["song"]) for number, truth in enumerate(truths) for clip in truth["clips"]]
    return {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
