"""The rows of another's table as compilations, clips, songs and splits: which link, which ids, which times.

Whatever the table leaves open stays empty or, where released clips are given, is taken from them, and is noted. Not for
reading files and naming columns (`tiktok_dm.annotations.foreign_table`), nor for writing
(`tiktok_dm.annotations.author_file`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tiktok_dm.annotations.foreign_table import ForeignTable, parse_range, parse_time, plain
from tiktok_dm.annotations.released import Difference
from tiktok_dm.annotations.rules import RawTable, check_table
from tiktok_dm.annotations.tables import Annotations, DatasetMeta, typed
from tiktok_dm.annotations.titles import normal_title
from tiktok_dm.errors import Problem, ProblemsError

if TYPE_CHECKING:
    import pandas as pd

_NO_TITLES = {
    "unknown",
    "untitled",
    "unnamed",
    "none",
    "n/a",
    "na",
    "?",
    "-",
    "tbd",
    "original sound",
    "no title",
    "id",
}
"""Normal forms of titles that name no song."""
_DURATION_SLACK_S = 1.0  # annotated times are often whole seconds


class ForeignClips:
    """One pass over a foreign table, by `annotations`.

    Args:
        table: as it was read.
        places: which of its columns holds which field.
        released: clips to take missing ids from, or None.

    Afterwards `notes` says what was decided, `differences` where the table disagrees with itself, `durations` the
    annotated lengths (s, by clip id), and `places` what each column turned out to hold.
    """

    def __init__(self, table: ForeignTable, places: dict[str, int], released: Annotations | None) -> None:
        self.table, self.places, self.released = table, dict(places), released
        self.notes: list[str] = []
        self.differences: list[Difference] = []
        self.durations: dict[int, float] = {}
        self.problems: list[Problem] = []
        self.files: list[str] = []
        self.fact_song: dict[int, int] = {}
        self.fact_compilation: dict[int, int] = {}
        if released is not None:
            clips = released.clips.astype({"clip_id": int, "song_id": int, "compilation_id": int})
            self.fact_song = dict(zip(clips.clip_id, clips.song_id, strict=True))
            self.fact_compilation = dict(zip(clips.clip_id, clips.compilation_id, strict=True))

    def cells(self, name: str) -> list[str]:
        place = self.places.get(name)
        return [""] * len(self.table.rows) if place is None else [row[place] for row in self.table.rows]

    def say(self, row: int, name: str, message: str) -> None:
        column = self.table.header[self.places[name]] if name in self.places else None
        self.problems.append(Problem(self.table.file, self.table.lines[row], column, message))

    def annotations(self, out: Path) -> Annotations:
        """The table as annotations whose root will be `out`; `ProblemsError` names everything that is wrong."""
        self._settle_columns()
        starts, ends, durations = self._times()
        compilation_cells = self._filled_down("compilation_id")
        links = self._links(compilation_cells)
        clip_ids, own_ids = self._clip_ids(compilation_cells, links)
        compilation_ids = self._compilation_ids(compilation_cells, clip_ids, links, own_ids)
        song_ids, titles = self._song_ids(clip_ids, own_ids)
        cells = {
            "clip_id": clip_ids,
            "compilation_id": compilation_ids,
            "song_id": song_ids,
            "start_s": ["" if s is None else repr(s) for s in starts],
            "end_s": ["" if s is None else repr(s) for s in ends],
            "n_dancers": self.cells("n_dancers"),
            "notes": self.cells("notes"),
        }
        clips = self._checked("clips", cells, range(len(clip_ids)))
        files = self.files or self.cells("file")
        by_compilation = {"title": self.cells("compilation_title"), "url": links, "file": files}
        compilations = self._grouped("compilations", "compilation_id", compilation_ids, by_compilation)
        artists: dict[tuple[str, str], str] = {}
        one_spelling = [
            artists.setdefault((song, normal_title(artist)), artist)
            for song, artist in zip(song_ids, self.cells("artist"), strict=True)
        ]
        by_song = {"title": titles, "artist": one_spelling, "genre": self.cells("genre")}
        songs = self._grouped("songs", "song_id", song_ids, by_song)
        splits = None
        if "split" in self.places:
            named = {"split": [cell.lower() for cell in self.cells("split")]}
            splits = self._grouped("splits", "song_id", song_ids, named)
        if self.problems:
            raise ProblemsError(sorted(dict.fromkeys(self.problems), key=lambda problem: problem.row or 0))
        for clip, duration in zip(clips.clip_id, durations, strict=True):
            if duration is not None:
                self.durations[int(clip)] = duration
        self._compare_durations(clips)
        found = Annotations(out.name, out, DatasetMeta(), compilations, clips, songs, splits)
        return replace(self._with_released(found), clips=clips.sort_values("clip_id").reset_index(drop=True))

    def _with_released(self, found: Annotations) -> Annotations:
        """Name, split and segment counts of the release, where every clip has its released song and compilation."""
        import pandas as pd

        release = self.released
        if release is None:
            return found
        if any(
            self.fact_song.get(clip) != song or self.fact_compilation.get(clip) != compilation
            for clip, song, compilation in found.clips[["clip_id", "song_id", "compilation_id"]].itertuples(index=False)
        ):
            self.notes.append(
                "some clips are not as released, so the released name, licence and split are not taken over"
            )
            return found
        counts = release.clips.set_index("clip_id").released_segments
        found.clips["released_segments"] = pd.array([counts[clip] for clip in found.clips.clip_id], dtype="Int64")
        splits = found.splits
        if splits is None and release.splits is not None:
            of_song = dict(zip(release.splits.song_id, release.splits.split, strict=True))
            if set(found.songs.song_id) <= set(of_song):
                rows = [(song, of_song[song]) for song in found.songs.song_id]
                splits = typed("splits", pd.DataFrame(rows, columns=["song_id", "split"]))
                self.notes.append("the split is the released one, by song id")
        return replace(found, name=release.name, meta=release.meta, splits=splits)

    def _checked(self, table: str, cells: dict[str, list[str]], rows: Sequence[int]) -> pd.DataFrame:
        """`cells` of the given rows, checked as `table`; problems speak of the file's own columns."""
        import pandas as pd

        frame = pd.DataFrame({name: [cells[name][r] or None for r in rows] for name in cells}, dtype="string")
        checked = check_table(table, RawTable(self.table.file, frame, tuple(self.table.lines[r] for r in rows)))
        own = {"compilations": {"title": "compilation_title"}, "songs": {"title": "song_title"}}.get(table, {})
        for problem in checked.problems:
            place = self.places.get(own.get(problem.column or "", problem.column or ""))
            column = problem.column if place is None else self.table.header[place]
            self.problems.append(replace(problem, column=column))
        return checked.frame

    def _grouped(self, table: str, key: str, ids: list[str], cells: dict[str, list[str]]) -> pd.DataFrame:
        """One row for each of `ids`, in order, from the rows that carry it; what differs within one id is a problem."""
        first: dict[str, int] = {}
        merged: dict[str, list[str]] = {name: list(values) for name, values in cells.items()}
        for row, value in enumerate(ids):
            if not value:
                continue
            top = first.setdefault(value, row)
            for name, values in merged.items():
                if values[row] and not values[top]:
                    values[top] = values[row]
                elif values[row] and values[row] != values[top]:
                    fields = {"title": "song_title" if key == "song_id" else "compilation_title"}
                    self.say(
                        row,
                        fields.get(name, name),
                        f"{key} {value} has {values[row]!r} here but {values[top]!r} in line "
                        f"{self.table.lines[top]}: correct one of them",
                    )
        order = sorted(first, key=lambda value: (int(value) if re.fullmatch("[0-9]{1,16}", value) else -1, value))
        known = [value for value in order if re.fullmatch("[0-9]{1,9}", value)]  # others are the clips table's problem
        return self._checked(table, {key: ids, **merged}, [first[value] for value in known])

    # ---------------------------------------------------------------------------------- times

    def _times(self) -> tuple[list[float | None], list[float | None], list[float | None]]:
        n = len(self.table.rows)
        ranges = self.cells("time_range")
        starts: list[float | None] = [None] * n
        ends: list[float | None] = [None] * n
        durations: list[float | None] = [None] * n
        for row in range(n):
            starts[row], ends[row] = self._time(row, "start_s"), self._time(row, "end_s")
            durations[row] = self._time(row, "duration_s")
            if text := ranges[row]:
                try:
                    starts[row], ends[row] = parse_range(text)
                except ValueError as error:
                    self.say(row, "time_range", str(error))
            start, end, duration = starts[row], ends[row], durations[row]
            if duration is not None and start is not None and end is None:
                ends[row] = round(start + duration, 6)
            elif duration is not None and end is not None and start is None:
                starts[row] = round(end - duration, 6)
        if not any(start is not None for start in starts):
            what = "only durations" if any(d is not None for d in durations) else "no times"
            self.notes.append(f"the file holds {what}, so start and end stay empty: clips cannot be built from it yet")
        return starts, ends, durations

    def _time(self, row: int, name: str) -> float | None:
        text = self.table.rows[row][self.places[name]] if name in self.places else ""
        if not text:
            return None
        try:
            return parse_time(text)
        except ValueError as error:
            self.say(row, name, str(error))
            return None

    def _settle_columns(self) -> None:
        """What a column holds outweighs its name: `duration` may hold ranges, `time` starts, `video` numbers."""

        def ranges(name: str) -> bool:
            filled = [text for text in self.cells(name) if text]
            return bool(filled) and sum(_is_range(text) for text in filled) * 2 > len(filled)

        videos = [text for text in self.cells("url") if text]
        if "clip_id" not in self.places and videos and all(_number(text) >= 0 for text in videos):
            self.places["clip_id"] = self.places.pop("url")
        for name in ("duration_s", "start_s"):
            if "time_range" not in self.places and ranges(name):
                self.places["time_range"] = self.places.pop(name)
        if "time_range" in self.places and any(self.cells("time_range")) and not ranges("time_range"):
            if "start_s" not in self.places:
                self.places["start_s"] = self.places.pop("time_range")
            else:
                del self.places["time_range"]

    def _compare_durations(self, clips: pd.DataFrame) -> None:
        for clip, start, end in zip(clips.clip_id, clips.start_s.isna(), clips.end_s - clips.start_s, strict=True):
            told = self.durations.get(int(clip))
            if not start and told is not None and abs(end - told) > _DURATION_SLACK_S:
                message = f"clip {clip}: the file says {told:g} s, but its start and end are {end:g} s apart"
                self.differences.append(Difference("other_duration", int(clip), message))

    # ---------------------------------------------------------------------------------- ids

    def _filled_down(self, name: str) -> list[str]:
        """Cells of a column that is often written on the first row of its clips alone."""
        cells: list[str] = []
        filled = 0
        for text in self.cells(name):
            if not text and cells and cells[-1]:
                text, filled = cells[-1], filled + 1
            cells.append(text)
        if filled:
            self.notes.append(f"{filled} rows without {name} take that of the row above")
        return cells

    def _links(self, compilation_cells: list[str]) -> list[str]:
        place = self.places.get("url")
        links: list[str] = []
        filled = 0
        for row, text in enumerate(self.cells("url")):
            target = self.table.links.get((row, place), "") if place is not None else ""
            link = canonical_link(text if "://" in text or not target else target)
            if not link and row and links[-1] and compilation_cells[row] == compilation_cells[row - 1]:
                link, filled = links[-1], filled + 1
            links.append(link)
        if filled:
            self.notes.append(f"{filled} rows without a link take that of the row above")
        return links

    def _clip_ids(self, compilation_cells: list[str], links: list[str]) -> tuple[list[str], bool]:
        """Clip ids, and whether they are the file's own."""
        ids = self.cells("clip_id")
        if "clip_id" not in self.places:
            self.notes.append("the file has no clip ids: clips are numbered from 0 in its order")
            return [str(row) for row in range(len(ids))], False
        groups = list(zip(compilation_cells, links, ids, strict=True))
        if all(ids) and len(set(ids)) < len(ids) and len(set(groups)) == len(groups):
            self.notes.append(
                "clip ids start again in every compilation: clips are numbered from 0 in the file's order"
            )
            return [str(row) for row in range(len(ids))], False
        return self._from_zero("clip_id", ids, set(self.fact_song)), True

    def _compilation_ids(self, cells: list[str], clip_ids: list[str], links: list[str], own_ids: bool) -> list[str]:
        if "compilation_id" in self.places:
            return self._from_zero("compilation_id", cells, set(self.fact_compilation.values()))
        released = [str(self.fact_compilation.get(_number(c), "")) if own_ids else "" for c in clip_ids]
        files = self._filled_down("file")
        if not any(links) and all(files):
            distinct_files = list(dict.fromkeys(files))
            self.notes.append("compilations are the files, numbered from 0 in the order in which they appear")
            self.files = files
            return [str(distinct_files.index(file)) for file in files]
        if not any(links):
            if all(released):
                self.notes.append("the file has no links: each clip's compilation is the released one")
                return released
            self.say(
                0,
                "url",
                "no column holds the compilation's link, file or id: say which with --column url=NAME, --column "
                "file=NAME or --column compilation_id=NAME",
            )
            return ["0"] * len(links)
        pairs = {pair for pair in zip(links, released, strict=True) if all(pair)}
        distinct = list(dict.fromkeys(link for link in links if link))
        if len(pairs) == len(distinct) == len({link for link, _ in pairs}) == len({known for _, known in pairs}):
            by_link = dict(pairs)
            self.notes.append("links have the compilation ids of their clips in the release")
        else:
            by_link = {link: str(k) for k, link in enumerate(distinct)}
            self.notes.append("links are numbered from 0 in the order in which they appear")
        for row, link in enumerate(links):
            if not link:
                self.say(row, "url", "the row has no link, and none stands above it: fill it in")
        return [by_link.get(link, "0") for link in links]

    def _song_ids(self, clip_ids: list[str], own_ids: bool) -> tuple[list[str], list[str]]:
        """Song ids, and titles (a column of ids that are words is one of titles)."""
        titles = self.cells("song_title")
        labels = self.cells("song_id") if "song_id" in self.places else titles
        released = [str(self.fact_song.get(_number(c), "")) if own_ids else "" for c in clip_ids]
        if not any(labels):
            if not all(released):
                self.say(
                    0, "song_id", "no column holds the song: say which with --column song_id=NAME or song_title=NAME"
                )
                return ["0"] * len(labels), titles
            self.notes.append("the file names no songs: each clip's song is the released one")
            return released, titles
        if "song_id" in self.places:
            # In a column of ids a word is a slip; in one called `song` numbers are ids where all are, else titles.
            numbers = [bool(re.fullmatch(r"[+-]?[0-9]+", label)) for label in labels if label]
            of_ids = re.search(r"(id|no|nr|number|index)$", plain(self.table.header[self.places["song_id"]]))
            if any(numbers) if of_ids else all(numbers):
                return self._from_zero("song_id", labels, set(self.fact_song.values())), titles
        keys = self._song_keys(labels)
        pairs = {pair for pair in zip(keys, released, strict=True) if all(pair)}
        distinct = list(dict.fromkeys(key for key in keys if key))
        if len(pairs) == len(distinct) == len({key for key, _ in pairs}) == len({known for _, known in pairs}):
            by_key = dict(pairs)
            self.notes.append("songs have the ids of their clips in the release")
        else:
            by_key = {key: str(k) for k, key in enumerate(distinct)}
            self.notes.append("songs are numbered from 0 in the order in which they appear")
        self._say_what_is_joined(labels, keys, by_key)
        named = titles if any(titles) else labels
        first: dict[str, str] = {}
        for key, title in zip(keys, named, strict=True):
            first.setdefault(key, title)
        # One song has one title: the first spelling of it.
        return [by_key.get(key, "") for key in keys], [first[key] if key else "" for key in keys]

    def _song_keys(self, labels: list[str]) -> list[str]:
        """By which rows are of one song: the title's normal form, and the artist's where the file names artists.

        A row without an artist is of the one song of that title, where there is only one.
        """
        titles = [normal_title(label) for label in labels]
        artists = [normal_title(artist) for artist in self.cells("artist")]
        known: dict[str, set[str]] = {}
        for title, artist in zip(titles, artists, strict=True):
            known.setdefault(title, set()).update({artist} - {""})
        keys = []
        for title, artist in zip(titles, artists, strict=True):
            only = next(iter(known[title])) if len(known[title]) == 1 else ""
            keys.append(f"{title}\n{artist or only}" if title else "")
        return keys

    def _say_what_is_joined(self, labels: list[str], keys: list[str], ids: Mapping[str, str]) -> None:
        spelled: dict[str, list[str]] = {}
        rows: dict[str, int] = {}
        for label, key in zip(labels, keys, strict=True):
            if key:
                rows[key] = rows.get(key, 0) + 1
                if label not in spelled.setdefault(key, []):
                    spelled[key].append(label)
        for key, labels_of_one in spelled.items():
            if len(labels_of_one) > 1:
                words = " and ".join(repr(label) for label in labels_of_one)
                self.notes.append(f"{words} are one title, spelled in {len(labels_of_one)} ways: song {ids[key]}")
            if key.partition("\n")[0] in _NO_TITLES and rows[key] > 1:
                self.notes.append(
                    f"{rows[key]} clips have the title {labels_of_one[0]!r} and count as one song, {ids[key]}: "
                    "give each song a title of its own if they are several"
                )

    def _from_zero(self, name: str, ids: list[str], released: set[int]) -> list[str]:
        """`ids` less one where they are exactly the released ids counted from one."""
        if released and {_number(value) for value in ids} == {known + 1 for known in released}:
            self.notes.append(f"{name} counts from 1 in the file and from 0 in the release: one is taken off")
            return [str(_number(value) - 1) for value in ids]
        return ids


def _is_range(text: str) -> bool:
    try:
        parse_range(text)
    except ValueError:
        return False
    return True


def _number(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,16}", text) else -1


def canonical_link(text: str) -> str:
    """One form for each YouTube video, without start times and lists; other links as they are, with a scheme."""
    text = text.strip()
    if re.fullmatch(r"[A-Za-z0-9_-]{11}", text):
        return f"https://www.youtube.com/watch?v={text}"
    if re.match(r"(www\.|m\.)?(youtube\.com|youtu\.be)/", text):
        text = f"https://{text}"
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").removeprefix("www.").removeprefix("m.")
    except ValueError:
        return text
    video = ""
    if host == "youtu.be":
        video = parts.path.strip("/")
    elif host in ("youtube.com", "youtube-nocookie.com"):
        match = re.match(r"/(?:shorts|embed|live|v)/([^/]+)", parts.path)
        video = match[1] if match else "".join(parse_qs(parts.query).get("v", [""])[:1])
    return f"https://www.youtube.com/watch?v={video}" if re.fullmatch(r"[A-Za-z0-9_-]{11}", video) else text
