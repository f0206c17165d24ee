"""What a user can cause, as one plain sentence each: what is wrong, where, what to do.

Not for bugs: those keep their tracebacks.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass


class UserError(Exception):
    """A mistake or circumstance that the user can mend; its text is one plain sentence."""


class MediaError(UserError):
    """A media file that is missing, empty, truncated, or not what it should be."""


class Filtered(Exception):
    """A stage's verdict: this item does not belong in the dataset (reason in words)."""


class Unavailable(Exception):
    """A source could not be had.

    Args:
        reason: short class of the cause, such as ``private``, ``removed``, ``network``, ``truncated``.
        raw: the message of the library that said so, unshortened.
    """

    def __init__(self, reason: str, raw: str = "") -> None:
        super().__init__(reason, raw)
        self.reason = reason
        self.raw = raw

    def __str__(self) -> str:
        return f"{self.reason}: {self.raw}" if self.raw else self.reason


class Gone(Unavailable):
    """A stage's verdict: this item is not to be had, and another try is not worth it."""


class DiskFull(UserError):
    """No room left where the build writes; it stops, and nothing finished is lost."""


# EFBIG is what a file-size limit of the account gives: for the user the same thing as a full disk.
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_no_room(error: BaseException) -> bool:
    """Whether `error`, or what caused it, says that nothing more can be written."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, DiskFull) or (isinstance(seen, OSError) and seen.errno in _NO_ROOM):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@dataclass(frozen=True)
class Problem:
    """One finding in an input file.

    Args:
        file: its name.
        row: line number in the file as an editor shows it (the header is line 1), or None for the whole file.
        column: column name, or None for the whole row.
        message: what is wrong and what to do, in one sentence.
    """

    file: str
    row: int | None
    column: str | None
    message: str

    def __str__(self) -> str:
        where = self.file
        if self.row is not None:
            where += f", line {self.row}"
        if self.column is not None:
            where += f", column {self.column}"
        return f"{where}: {self.message}"


class ProblemsError(UserError):
    """All problems of an input at once; `problems` holds them."""

    def __init__(self, problems: Sequence[Problem], summary: str = "") -> None:
        self.problems = list(problems)
        self.summary = summary
        head = summary or f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''} found"
        super().__init__("\n".join([head + ":", *(f"  {p}" for p in self.problems)]))

    def __reduce__(self) -> tuple:
        return type(self), (self.problems, self.summary)


_OF_THE_PLACE = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "this account may not do that",
    errno.EPERM: "this account may not do that",
    errno.ENOSPC: "no room is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file is larger than is allowed here",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "too many files are open",
    errno.EIO: "the disk reports an error",
}


def about_the_place(error: OSError) -> str | None:
    """One sentence for an error that lies with a folder or a disk; None for any other, which keeps its traceback."""
    what = _OF_THE_PLACE.get(error.errno or 0)
    if what is None:
        return None
    where = f"{error.filename} cannot be read or written" if error.filename else "a file cannot be read or written"
    return f"{where}: {what}. Mend that or choose another folder, then run the same command again"
