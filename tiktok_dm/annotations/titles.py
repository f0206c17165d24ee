"""When two titles name one song: a normal form for what is the same, and pairs that are nearly the same.

What differs by spelling alone (Unicode form, width, case, spaces, the kind of apostrophe, quotation mark or dash, the
way a guest is written) is one title. What differs by more is never made one, only reported: a person knows.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping

_APOSTROPHES = str.maketrans(dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02bc\u02b9\u0060\u00b4\uff07", "'"))
_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\uff02", '"'))
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d", "-"))
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_GUEST = re.compile(r"\s*[(\[]?\s*\b(?:(?:feat|ft|featuring)(?:\.|\b)|w/)\s*([^()\[\]]+?)\s*[)\]]?(?=\s*(?:[(\[-]|$))")
_LEAST_RATIO = 0.9  # of letters that two long titles share, in order, to be nearly the same
_LEAST_LETTERS = 6


def normal_title(title: str) -> str:
    """The form in which titles are compared; equal for titles that differ by spelling alone, and its own form."""
    text = unicodedata.normalize("NFKC", title.translate(_APOSTROPHES).translate(_QUOTES).translate(_DASHES))
    text = _INVISIBLE.sub("", text.translate(_APOSTROPHES).translate(_QUOTES).translate(_DASHES))
    text = unicodedata.normalize("NFKC", text.casefold())
    # Until nothing changes: what one step takes away may be what kept another from a match.
    for _ in range(len(text) + 1):
        again = _respelled(text)
        if again == text:
            break
        text = again
    return text


def _respelled(text: str) -> str:
    text = unicodedata.normalize("NFKC", " ".join(text.split()).casefold())
    text = re.sub(r"\s*-(?=\s)\s*|\s+-\s*", " - ", text)
    return " ".join(_GUEST.sub(r" feat. \1", text).split())


def _letters(title: str) -> str:
    """A title without accents, punctuation and guests."""
    bare = unicodedata.normalize("NFKD", normal_title(title).partition(" feat. ")[0].replace("&", " and "))
    return "".join(letter for letter in bare if letter.isalnum())


def near_titles(titles: Mapping[int, str], artists: Mapping[int, str] | None = None) -> list[tuple[int, int]]:
    """Pairs of songs whose titles are nearly the same, and whose artists are not known to differ.

    Args:
        titles: by song id; empty ones are left out.
        artists: by song id, where known.

    Returns:
        (lower id, higher id), rising.
    """
    artists = artists or {}
    letters = {song: _letters(title) for song, title in titles.items() if title.strip() and _letters(title)}
    pairs = set()
    for a, b in _candidates(letters):
        mine, theirs = (_letters(artists.get(song, "")) for song in (a, b))
        if mine and theirs and mine != theirs and mine not in theirs and theirs not in mine:
            continue
        one, other = letters[a], letters[b]
        if one == other or (_digits(one) == _digits(other) and _alike(one, other)):
            pairs.add((min(a, b), max(a, b)))
    return sorted(pairs)


def _candidates(letters: Mapping[int, str]) -> Iterable[tuple[int, int]]:
    """Pairs that share their first or their last three letters: a slip seldom changes both."""
    groups: dict[str, list[int]] = {}
    for song, text in letters.items():
        for key in {"=" + text, "<" + text[:3], ">" + text[-3:]}:
            groups.setdefault(key, []).append(song)
    for members in groups.values():
        for k, a in enumerate(members):
            for b in members[k + 1 :]:
                if abs(len(letters[a]) - len(letters[b])) <= 0.25 * max(len(letters[a]), len(letters[b])):
                    yield a, b


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _alike(one: str, other: str) -> bool:
    if min(len(one), len(other)) < _LEAST_LETTERS:
        return False
    match = difflib.SequenceMatcher(None, one, other, autojunk=False)
    return match.quick_ratio() >= _LEAST_RATIO and match.ratio() >= _LEAST_RATIO
