"""Splits of whole songs, balanced in clips and compilations; and the audit that finds leaks between splits.

For tables of clips, whether annotated or out of a built dataset. Not for files (`tiktok_dm.annotations.tables`), and
not for hearing whether two songs are the same, or seeing whether two clips are: such pairs are found elsewhere
(`tiktok_dm.curate.leaks`) and given to `audit_splits`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiktok_dm.annotations.titles import near_titles, normal_title
from tiktok_dm.errors import UserError
from tiktok_dm.schema import SPLITS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_array

# A share of clips this near to the wanted one is good enough; what is left of the choice goes to the compilations.
_SHARE_TOLERANCE = 0.01
_RESTARTS = 8
_SWAP_LIMIT = 250_000  # pairs of songs looked at in one step; above it, swaps are left out

SongPairs = Iterable[Sequence[Any]]
ClipPairs = Iterable[Sequence[Any]]


@dataclass(frozen=True)
class Finding:
    """One thing an audit found.

    Args:
        kind: `song_in_two_splits`, `clip_in_two_splits`, `near_duplicate_across_splits`, `clip_twice_across_splits`,
            `song_without_split`, `clip_without_song`, `unknown_split`, `unknown_song`, `empty_split`,
            `near_duplicate_within_split`, `clip_twice_within_split`, `near_title_across_splits` or
            `near_title_within_split`.
        severity: `error` where what a model hears in training is tested too, or a clip has no place; else `warning`.
        message: what it is and what to do, in one sentence.
        song_ids, clip_ids: whom it concerns.
    """

    kind: str
    severity: str
    message: str
    song_ids: tuple[int, ...] = ()
    clip_ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}"


# ------------------------------------------------------------------------------------------- assigning


def assign_splits(
    clips: pd.DataFrame, test_fraction: float, seed: int, validation_fraction: float = 0.0
) -> pd.DataFrame:
    """Give every song of `clips` to one split, so that the test share of clips is near `test_fraction`, in each
    compilation too.

    The split depends on the numbers in `clips` and on `seed` alone, not on the order of rows or a library's version.
    A song is never divided, so the share of clips is within one song of the wanted one, not exact.

    Args:
        clips: `song_id` and `compilation_id` of each clip; other columns are not looked at.
        test_fraction: wanted share of clips, between 0 and 1.
        seed: any integer; another one gives another split.
        validation_fraction: the same for a validation split; 0 for none.

    Returns:
        `song_id` (Int64, ascending) and `split` (string).

    Raises:
        UserError: a fraction out of range, a clip without song, or fewer songs than splits.

    Example:
        >>> from tiktok_dm import assign_splits, read_annotations
        >>> from tiktok_dm.shipped import shipped
        >>> clips = read_annotations(shipped("annotations", "tiktok_dm")).clips
        >>> splits = assign_splits(clips, test_fraction=0.2, seed=0)
        >>> int(clips.song_id.isin(splits.song_id[splits.split == "test"]).sum())
        85
    """
    import numpy as np
    import pandas as pd
    from scipy.sparse import csr_array

    for name, value in (("test", test_fraction), ("validation", validation_fraction)):
        if not (0 < value < 1 or (name == "validation" and value == 0)):
            raise UserError(f"the {name} fraction is {value:g}: give a number between 0 and 1, such as 0.2")
    if test_fraction + validation_fraction >= 1:
        raise UserError(
            f"the test and validation fractions make {test_fraction + validation_fraction:g} together: leave something "
            "for train, such as 0.2 and 0.1"
        )
    if len(clips) == 0:
        raise UserError("there are no clips to split: annotate some first")
    if clips.song_id.isna().any():
        raise UserError(
            f"{int(clips.song_id.isna().sum())} clips have no song_id, and splits are made of whole songs: fill it in"
        )
    wanted = {"test": test_fraction, **({"validation": validation_fraction} if validation_fraction else {})}
    rows, song_ids = pd.factorize(clips.song_id.astype("int64"), sort=True)
    columns, compilations = pd.factorize(clips.compilation_id.astype("Int64").fillna(-1).astype("int64"), sort=True)
    songs = [int(song) for song in song_ids]
    counts = csr_array((np.ones(len(clips)), (rows, columns)), shape=(len(songs), len(compilations)))
    counts.sum_duplicates()
    if len(songs) <= len(wanted):
        raise UserError(
            f"there {'is 1 song' if len(songs) == 1 else f'are {len(songs)} songs'} for {len(wanted) + 1} splits, and "
            "a song belongs to one split alone: add songs, or ask for fewer splits"
        )
    split = ["train"] * len(songs)
    for k, (name, fraction) in enumerate(wanted.items()):
        free = [s for s in range(len(songs)) if split[s] == "train"]
        # Every later split, and train, keeps at least one song.
        most = len(free) - (len(wanted) - k)
        for s in _choose(counts[free], fraction * counts.sum(axis=0), [songs[s] for s in free], f"{seed}:{name}", most):
            split[free[s]] = name
    return pd.DataFrame({"song_id": pd.array(songs, dtype="Int64"), "split": pd.array(split, dtype="string")})


def _choose(counts: csr_array, target: np.ndarray, songs: list[int], seed: str, most: int) -> list[int]:
    """Rows of `counts` (songs x compilations) whose sum is near `target`: best of several seeded local searches."""
    import numpy as np

    search = _Search(counts, target, most)
    best: tuple[float, list[int]] | None = None
    for restart in range(_RESTARTS):
        # Hashes rather than a random generator: their order is the same under every version of every library.
        ranks = {song: hashlib.sha256(f"{seed}:{restart}:{song}".encode()).digest() for song in songs}
        order = sorted(range(len(songs)), key=lambda s: ranks[songs[s]])
        chosen = search.start(order)
        search.improve(chosen, np.array(order))
        candidate = search.cost(chosen), [int(s) for s in np.flatnonzero(chosen)]
        if best is None or candidate[0] < best[0]:
            best = candidate
    assert best is not None
    return best[1]


class _Search:
    """A local search for songs whose clips, in each compilation c and in all, are near `target`, at the cost
    `1e6 off^2 + sum_c (sum_c - target_c)^2 / target_c`; `off` is how far the total lies outside the tolerance.

    A song is in few of many compilations: the cost of a step is written out as its change, which is linear in `counts`
    but for a constant of each song, so that all steps are valued in one product with a sparse matrix.
    """

    def __init__(self, counts: csr_array, target: np.ndarray, most: int) -> None:
        import numpy as np

        self._counts, self._target, self._most = counts, target, most
        self._by_compilation = counts.tocsc()
        self._scale = 1 / np.maximum(target, 1e-9)
        self._sizes = counts.sum(axis=1)
        self._squares = counts.power(2) @ self._scale
        self._wanted = float(target.sum())
        self._tolerance = max(0.5, _SHARE_TOLERANCE * float(self._sizes.sum()))

    def _penalty(self, clips: Any) -> Any:
        import numpy as np

        return 1e6 * np.maximum(np.abs(clips - self._wanted) - self._tolerance, 0) ** 2

    def cost(self, chosen: np.ndarray) -> float:
        """Rounded, as every change of it is, so that a tie is a tie whatever the order in which a machine adds."""
        sums = self._counts[chosen].sum(axis=0)
        return round(float(self._penalty(sums.sum()) + ((sums - self._target) ** 2 * self._scale).sum()), 6)

    def start(self, order: list[int]) -> np.ndarray:
        """Songs in their order, each taken where it lowers the cost; the first one always."""
        import numpy as np

        # Plain numbers: an array operation of two or three elements takes longer than they do.
        ends, columns, clips = (
            part.tolist() for part in (self._counts.indptr, self._counts.indices, self._counts.data)
        )
        off, scale = (-self._target).tolist(), self._scale.tolist()
        sizes, squares = self._sizes.tolist(), self._squares.tolist()
        chosen = np.zeros(len(order), dtype=bool)
        total, penalty, taken = 0.0, float(self._penalty(0.0)), 0
        for s in order:
            if taken == self._most:
                break
            cells = range(ends[s], ends[s + 1])
            after = 1e6 * max(abs(total + sizes[s] - self._wanted) - self._tolerance, 0.0) ** 2
            change = squares[s] + 2 * sum(clips[k] * off[columns[k]] * scale[columns[k]] for k in cells)
            if not taken or round(after - penalty + change, 6) < 0:
                chosen[s] = True
                total, penalty, taken = total + sizes[s], after, taken + 1
                for k in cells:
                    off[columns[k]] += clips[k]
        return chosen

    def improve(self, chosen: np.ndarray, order: np.ndarray) -> None:
        """Add, remove or swap songs in `chosen`, the best step first, until no step lowers the cost."""
        import numpy as np

        counts, columns = self._counts, self._by_compilation
        sums = counts[chosen].sum(axis=0)
        linear = 2 * (counts @ ((sums - self._target) * self._scale))
        total = float(sums.sum())
        while True:
            leave, enter = self._squares - linear, self._squares + linear
            inside, outside = order[chosen[order]], order[~chosen[order]]
            steps: list[tuple[np.ndarray, list[np.ndarray]]] = []
            if len(inside) > 1:
                steps.append((self._penalty(total - self._sizes[inside]) + leave[inside], [inside]))
            if len(inside) < self._most:
                steps.append((self._penalty(total + self._sizes[outside]) + enter[outside], [outside]))
            if len(inside) * len(outside) <= _SWAP_LIMIT:
                shared = (counts[inside] * self._scale) @ counts[outside].T
                clips = total - self._sizes[inside, None] + self._sizes[outside]
                swaps = leave[inside, None] + enter[outside] - 2 * shared.toarray()
                steps.append((self._penalty(clips) + swaps, [inside, outside]))
            lowest, flips = 0.0, np.zeros(0, dtype=np.int64)
            for costs, members in steps:
                changes = np.round(costs - self._penalty(total), 6)
                best = np.unravel_index(changes.argmin(), changes.shape)
                if changes[best] < lowest:
                    lowest = float(changes[best])
                    flips = np.array([mine[k] for mine, k in zip(members, best, strict=True)])
            if not len(flips):
                return
            for s in flips:
                sign = -1 if chosen[s] else 1
                chosen[s] = not chosen[s]
                total += sign * float(self._sizes[s])
                for k in range(counts.indptr[s], counts.indptr[s + 1]):
                    c = counts.indices[k]
                    cells = slice(columns.indptr[c], columns.indptr[c + 1])
                    change = 2 * sign * counts.data[k] * self._scale[c]
                    linear[columns.indices[cells]] += change * columns.data[cells]


def count_splits(clips: pd.DataFrame, splits: pd.DataFrame) -> dict[str, dict[str, int]]:
    """How many `songs`, `clips` and `compilations` each split has, in the order train, test, validation; a split
    without songs is left out.
    """
    of_clip = clips.song_id.map(dict(zip(splits.song_id, splits.split, strict=True)))
    counts = {}
    for split in SPLITS:
        songs = splits.song_id[splits.split == split]
        if len(songs):
            mine = clips[of_clip == split]
            compilations = int(mine.compilation_id.nunique())
            counts[split] = {"songs": int(songs.nunique()), "clips": len(mine), "compilations": compilations}
    return counts


# ------------------------------------------------------------------------------------------- auditing


def audit_splits(
    clips: pd.DataFrame,
    splits: pd.DataFrame,
    near_duplicates: SongPairs | Callable[[pd.DataFrame], SongPairs] | None = None,
    twice: ClipPairs | None = None,
    catalogue: pd.DataFrame | None = None,
) -> list[Finding]:
    """Look for leaks between splits, and for clips and songs without a place.

    Args:
        clips: `clip_id` and `song_id`; where it has a `split` (as a built dataset does), that is held against the
            song's.
        splits: `song_id` and `split`.
        near_duplicates: pairs `(song_id, song_id)` or `(song_id, song_id, similarity 0..1)` of songs that sound the
            same under two ids; or a function of `clips` that gives them, such as a comparison of fingerprints. None:
            not looked for.
        twice: pairs `(clip_id, clip_id)` or `(clip_id, clip_id, how alike in words)` of clips that are one dance to
            one stretch of music, twice in the table. None: not looked for.
        catalogue: `song_id`, `title`, `artist` of all songs: titles that are nearly the same are told. None: not
            looked for.

    Returns:
        Errors first (of them, what crosses splits first), then warnings; empty when all is well.
    """
    table = splits[["song_id", "split"]].dropna().drop_duplicates()
    of_song: dict[int, list[str]] = {}
    for song, split in zip(table.song_id, table.split, strict=True):
        of_song.setdefault(int(song), []).append(str(split))
    clip_songs: dict[int, set[int]] = {}
    clip_splits: dict[int, set[str]] = {}
    songs_of_clips: dict[int, set[int]] = {}
    homeless = []
    own = clips["split"] if "split" in clips else [None] * len(clips)
    for clip, song, split in zip(clips.clip_id, clips.song_id, own, strict=True):
        if _absent(song):
            homeless.append(int(clip))
        else:
            clip_songs.setdefault(int(clip), set()).add(int(song))
            songs_of_clips.setdefault(int(song), set()).add(int(clip))
            clip_splits.setdefault(int(clip), set()).update(of_song.get(int(song), []))
        if not _absent(split):
            clip_splits.setdefault(int(clip), set()).add(str(split))

    findings = []
    for song, names in sorted(of_song.items()):
        if len(names) > 1:
            message = (
                f"song {song} is in {_listed(names)}: keep one line for it, so that no song is heard in two splits"
            )
            findings.append(
                Finding("song_in_two_splits", "error", message, (song,), _ids(songs_of_clips.get(song, ())))
            )
    for clip, held in sorted(clip_splits.items()):
        songs = _ids(clip_songs.get(clip, ()))
        if len(held) > 1 and not any(len(of_song.get(song, [])) > 1 for song in songs):
            message = f"clip {clip} is in {_listed(held)}: its own split, its songs' and its doubles' must be one"
            findings.append(Finding("clip_in_two_splits", "error", message, songs, (clip,)))
    across, inside = _near_duplicates(clips, near_duplicates, of_song, songs_of_clips)
    twice_across, twice_inside = _twice(twice, clip_splits, clip_songs)
    titles_across, titles_inside = _near_titles(catalogue, of_song, songs_of_clips)
    findings += across + twice_across + titles_across
    for song, mine in sorted(songs_of_clips.items()):
        if song not in of_song:
            message = f"song {song} has {_many(len(mine), 'clip')} but no split: add a line for it"
            findings.append(Finding("song_without_split", "error", message, (song,), _ids(mine)))
    if homeless:
        message = f"{_many(len(homeless), 'clip')} without song_id cannot be given a split: fill it in"
        findings.append(Finding("clip_without_song", "error", message, (), _ids(homeless)))
    for split in sorted({split for names in of_song.values() for split in names} - set(SPLITS)):
        songs = _ids(song for song, names in of_song.items() if split in names)
        message = f"{split!r} is not a split: write train, test or validation"
        findings.append(Finding("unknown_split", "error", message, songs))
    for song in sorted(set(of_song) - set(songs_of_clips)):
        message = f"song {song} has a split but no clip: remove the line, or look for its clips"
        findings.append(Finding("unknown_song", "warning", message, (song,)))
    filled = {split for song, names in of_song.items() if song in songs_of_clips for split in names}
    for split in SPLITS[:2]:
        if split not in filled:
            findings.append(Finding("empty_split", "warning", f"no clip is in {split}: give it some songs"))
    return findings + inside + twice_inside + titles_inside


def _near_titles(
    songs: pd.DataFrame | None, of_song: dict[int, list[str]], songs_of_clips: dict[int, set[int]]
) -> tuple[list[Finding], list[Finding]]:
    """Songs of two ids whose titles are one, or nearly: an error across splits where they are one title."""
    across, inside = [], []
    for (a, b), (one, other) in near_songs(songs).items():
        names = set(of_song.get(a, [])) | set(of_song.get(b, []))
        mine = _ids(songs_of_clips.get(a, set()) | songs_of_clips.get(b, set()))
        same = normal_title(one) == normal_title(other)
        what = f"songs {a} and {b} are called {one!r} and {other!r}"
        if len(names) > 1:
            message = f"{what} and are in {_listed(names)}: if they are one song, give them one id"
            across.append(Finding("near_title_across_splits", "error" if same else "warning", message, (a, b), mine))
        else:
            message = f"{what}: if they are one song, give them one id"
            inside.append(Finding("near_title_within_split", "warning", message, (a, b), mine))
    return across, inside


def near_songs(songs: pd.DataFrame | None) -> dict[tuple[int, int], tuple[str, str]]:
    """Pairs of songs whose titles are one or nearly one, with both titles; see `titles.near_titles`."""
    if songs is None or "title" not in songs:
        return {}
    titles = {int(k): str(t) for k, t in zip(songs.song_id, songs.title, strict=True) if not _absent(t)}
    artists = {}
    if "artist" in songs:
        artists = {int(k): str(a) for k, a in zip(songs.song_id, songs.artist, strict=True) if not _absent(a)}
    return {pair: (titles[pair[0]], titles[pair[1]]) for pair in near_titles(titles, artists)}


def _near_duplicates(
    clips: pd.DataFrame,
    pairs: SongPairs | Callable[[pd.DataFrame], SongPairs] | None,
    of_song: dict[int, list[str]],
    songs_of_clips: dict[int, set[int]],
) -> tuple[list[Finding], list[Finding]]:
    across, inside = [], []
    strongest: dict[tuple[int, int], float | None] = {}
    for pair in (pairs(clips) if callable(pairs) else pairs) or ():
        a, b = sorted((int(pair[0]), int(pair[1])))
        similarity = float(pair[2]) if len(pair) > 2 else None
        if a != b and (strongest.get((a, b)) is None or (similarity or 0) > (strongest[a, b] or 0)):
            strongest[a, b] = similarity
    for (a, b), similarity in sorted(strongest.items(), key=lambda item: (-(item[1] or 0), item[0])):
        names = set(of_song.get(a, [])) | set(of_song.get(b, []))
        alike = f"songs {a} and {b} sound the same" + ("" if similarity is None else f" (similarity {similarity:.2f})")
        mine = _ids(songs_of_clips.get(a, set()) | songs_of_clips.get(b, set()))
        if len(names) > 1:
            message = f"{alike} and are in {_listed(names)}: give them one id, or one split"
            across.append(Finding("near_duplicate_across_splits", "error", message, (a, b), mine))
        else:
            message = f"{alike} under two ids: give them one id"
            inside.append(Finding("near_duplicate_within_split", "warning", message, (a, b), mine))
    return across, inside


def _twice(
    pairs: ClipPairs | None, clip_splits: dict[int, set[str]], clip_songs: dict[int, set[int]]
) -> tuple[list[Finding], list[Finding]]:
    across, inside = [], []
    found: dict[tuple[int, int], str] = {}
    for pair in pairs or ():
        a, b = sorted((int(pair[0]), int(pair[1])))
        if a != b:
            found.setdefault((a, b), str(pair[2]) if len(pair) > 2 else "")
    for (a, b), how in sorted(found.items()):
        names = clip_splits.get(a, set()) | clip_splits.get(b, set())
        songs = _ids(clip_songs.get(a, set()) | clip_songs.get(b, set()))
        alike = f"clips {a} and {b} are one clip" + (f" ({how})" if how else "")
        if len(names) > 1:
            message = f"{alike} and are in {_listed(names)}: remove one of them, or give their songs one split"
            across.append(Finding("clip_twice_across_splits", "error", message, songs, (a, b)))
        else:
            message = f"{alike}: remove one of them"
            inside.append(Finding("clip_twice_within_split", "warning", message, songs, (a, b)))
    return across, inside


def _absent(value: object) -> bool:
    import pandas as pd

    return bool(pd.isna(value))  # type: ignore[call-overload]


def _ids(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(int(value) for value in values))


def _listed(names: Iterable[str]) -> str:
    order = sorted(set(names), key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
    return " and ".join(order)


def _many(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
