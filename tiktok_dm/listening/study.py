"""What a study is: its protocol, its rules, its secret key, and the folder that holds them.

    STUDY/study.json        the design and the rules of exclusion, written before the first rater comes
    STUDY/key.json          which stimulus is whose, right answers of the sound checks, admin token: for the owner alone
    STUDY/invitations.txt   one secret token a line, for one rater each (invited studies): for the owner alone
    STUDY/stimuli/          sound and films under random names
    STUDY/votes.sqlite      the answers (unless they go to PostgreSQL)

Not for making stimuli (`making`) and not for answers (`store`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tiktok_dm.errors import UserError

STUDY, KEY, STIMULI, VOTES = "study.json", "key.json", "stimuli", "votes.sqlite"
INVITATIONS = "invitations.txt"

LOWEST, HIGHEST = 1, 5
"""Ends of the rating scale."""

ConditionKind = Literal["system", "reference", "anchor"]
TrialKind = Literal["volume", "headphones", "practice", "rating", "check"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Protocol(_Frozen):
    """What raters are asked.

    Args:
        name: `coherence` or `quality`.
        title: heading of the pages.
        question: above each clip.
        labels: of the scale's five steps, from 1.
        instructions: paragraphs before the first clip.
        video: whether clips have a picture.
        beside_original: whether each clip stands beside the original video and music.
        anchor: how the low anchor is made, in words.
    """

    name: Literal["coherence", "quality"]
    title: str
    question: str
    labels: tuple[str, str, str, str, str]
    instructions: tuple[str, ...]
    video: bool
    beside_original: bool
    anchor: str


PROTOCOLS = {
    "coherence": Protocol(
        name="coherence",
        title="Dance and music",
        question="How well does the music of this clip go with the dance?",
        labels=("Not at all", "Poorly", "Fairly", "Well", "Perfectly"),
        instructions=(
            "You will see short dance videos. Beside each one stands the same dance with its original music.",
            "Watch the original, then the clip, both to their end. Then say how well the music of the clip goes with "
            "the dance: its beat, its energy, its character. Whether you like the music does not matter.",
            "In some clips the music is the original one. Use the whole scale.",
        ),
        video=True,
        beside_original=True,
        anchor="the original music of another clip",
    ),
    "quality": Protocol(
        name="quality",
        title="Sound quality",
        question="How good is the sound quality of this clip?",
        labels=("Bad", "Poor", "Fair", "Good", "Excellent"),
        instructions=(
            "You will hear short pieces of music, without a picture.",
            "Listen to each one to its end. Then rate its sound quality: noise, distortion, dullness, interruptions. "
            "Whether you like the music does not matter.",
            "Use the whole scale.",
        ),
        video=False,
        beside_original=False,
        anchor="the reference, low-passed at 3.5 kHz (ITU-R BS.1534-3)",
    ),
}
"""The two tests of D2M-GAN's appendix; the quality labels are the ones of ITU-T P.800."""


class Exclusion(_Frozen):
    """The rules by which a rater's answers leave the analysis, fixed when the study is made.

    Args:
        failed_checks: so many attention checks failed, or more.
        least_share: a smaller share than this of the rating trials was answered.
        quick_s: an answer is quick when it comes less than so many seconds after the earliest possible moment.
        quick_share: a greater share of answers than this was quick.
        reference_below: the mean rating of the hidden reference is below this; counted from two such ratings on.
        same_rating_from: so many ratings or more, all the same.
        volume: the volume check was never passed.
        headphones: `record` keeps raters who fail the headphone check (and says so in the table), `exclude` does not.
        headphones_right: share of right answers that passes it (Woods et al. 2017 ask for 5 of 6).
    """

    failed_checks: int = Field(default=1, ge=1)
    least_share: float = Field(default=0.5, ge=0, le=1)
    quick_s: float = Field(default=0.5, ge=0)
    quick_share: float = Field(default=0.5, ge=0, le=1)
    reference_below: float = Field(default=3.0, ge=LOWEST, le=HIGHEST)
    same_rating_from: int = Field(default=8, ge=2)
    volume: bool = True
    headphones: Literal["record", "exclude"] = "record"
    headphones_right: float = Field(default=5 / 6, ge=0, le=1)

    def in_words(self) -> list[str]:
        """One sentence a rule."""
        rules = [
            f"failed {self.failed_checks} or more of the attention checks",
            f"answered less than {self.least_share:.0%} of the clips",
            f"answered more than {self.quick_share:.0%} of the clips within {self.quick_s:g} s of the earliest moment",
            f"rated the hidden reference below {self.reference_below:g} on average (from two ratings of it on)",
            f"gave {self.same_rating_from} or more ratings, all the same",
        ]
        if self.volume:
            rules.append("never passed the volume check")
        if self.headphones == "exclude":
            rules.append(f"fewer than {self.headphones_right:.0%} right answers in the headphone check")
        return rules


class Study(_Frozen):
    """The design of a study; holds nothing that says which clip is whose.

    Args:
        format: of this file.
        name: hash that the database is tied to.
        protocol: what is asked.
        seed: of every choice that the study makes.
        n_items: clips (videos or pieces) in the study.
        n_conditions: versions of each clip: systems, hidden reference, low anchor.
        items_a_rater: clips that a rater rates, each of another item.
        raters: places: the study takes no new rater while so many have finished or are at it.
        access: `invited`: by a link of the rater's own, one session each; `open`: anybody.
        address_limit: sessions that one network address may begin in a day in an open study; None: any number.
        checks: attention checks a rater.
        headphone_trials: of the headphone check; 0 leaves it out.
        practice: whether a practice clip comes first.
        loudness_lufs: integrated loudness of every stimulus, ITU-R BS.1770-4.
        lease_s: a clip that was handed out returns so long after the rater's page was last heard of.
        longest_s: ... and at the latest so long after it was handed out.
        patience_s: a rater for whom no clip is free waits at most so long, then the session ends early.
        exclusion: the rules.
        consent: paragraphs of the consent page.
        contact: whom to ask.
    """

    format: Literal[1] = 1
    name: str
    protocol: Protocol
    seed: int
    n_items: int = Field(ge=1)
    n_conditions: int = Field(ge=2)
    items_a_rater: int = Field(ge=1)
    raters: int = Field(ge=1)
    access: Literal["invited", "open"] = "open"  # as before there were invitations
    address_limit: int | None = Field(default=None, ge=1)
    checks: int = Field(default=2, ge=0)
    headphone_trials: int = Field(default=6, ge=0)
    practice: bool = True
    loudness_lufs: float
    lease_s: float = Field(default=60.0, gt=0)
    longest_s: float = Field(gt=0)
    patience_s: float = Field(default=180.0, ge=0)
    exclusion: Exclusion = Exclusion()
    consent: tuple[str, ...]
    contact: str = ""


class Condition(_Frozen):
    """One version of every clip: a system, the hidden reference, or the low anchor."""

    name: str
    kind: ConditionKind


class Clip(_Frozen):
    """A stimulus: the name of its file in `stimuli/`, and its length in seconds."""

    file: str
    seconds: float = Field(gt=0)


class Material(_Frozen):
    """A trial that is not rated for the study.

    Args:
        kind: what for.
        clip: to be heard.
        original: beside it, where the protocol has one.
        choices: number of possible answers, 1 to so many.
        expected: the right answer; None where any will do, or where each rater gets a number of their own.
    """

    kind: TrialKind
    clip: Clip
    original: Clip | None = None
    choices: int = HIGHEST
    expected: int | None = None


class Key(_Frozen):
    """What raters must not know.

    Args:
        admin_token: opens the results.
        conditions: in the order in which cells count them.
        items: ids, likewise.
        clips: of item k and condition c at `[k][c]`.
        originals: of item k, shown beside; empty where the protocol has none.
        materials: practice, checks.
        notes: what making the stimuli could not do, in words.
    """

    admin_token: str
    conditions: tuple[Condition, ...]
    items: tuple[str, ...]
    clips: tuple[tuple[Clip, ...], ...]
    originals: tuple[Clip, ...] = ()
    materials: tuple[Material, ...] = ()
    notes: tuple[str, ...] = ()

    def of_kind(self, kind: TrialKind) -> list[int]:
        """Indices of the materials of a kind."""
        return [k for k, material in enumerate(self.materials) if material.kind == kind]


def default_consent(protocol: Protocol, items: int, minutes: int) -> tuple[str, ...]:
    """Paragraphs of the consent page."""
    what = "watch dance videos with music" if protocol.video else "listen to short pieces of music"
    return (
        f"In this study you {what} and rate {items} clips. It takes about {minutes} minutes.",
        "Taking part is voluntary. You may stop at any time by closing the page; what you have answered until then is "
        "kept. You may go on later in the same browser, or with your personal link.",
        "We keep your ratings, how long each took, and whether the sound checks were passed. We keep no name, no "
        "e-mail address and no network address. The ratings may be published, without anything that points to you.",
        "By starting you say that you are at least 18 years old, that you hear normally as far as you know, and that "
        "you agree to take part.",
    )


def digest(folder: Path) -> str:
    """SHA-256 of the design as it stands in the folder."""
    return hashlib.sha256((folder / STUDY).read_bytes()).hexdigest()


def write(folder: Path, study: Study, key: Key) -> None:
    """Write the two files; the key is readable for its owner alone."""
    (folder / STUDY).write_text(study.model_dump_json(indent=2) + "\n", encoding="utf-8")
    descriptor = os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key.model_dump_json(indent=2) + "\n")


def invitations(folder: Path) -> list[str]:
    """The tokens of a study's invitation links, in the order in which they were made."""
    try:
        return (folder / INVITATIONS).read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []


def invite(folder: Path, raters: int) -> list[str]:
    """Make further invitations, readable for the owner alone; a server that runs takes them at once."""
    new = [secrets.token_urlsafe(24) for _ in range(raters)]
    try:
        descriptor = os.open(folder / INVITATIONS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise UserError(
            f"Invitations cannot be written into {folder} ({error.strerror}): allow writing there."
        ) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write("".join(f"{token}\n" for token in new))
    return new


def read(folder: Path) -> tuple[Study, Key]:
    """The study in a folder.

    Raises:
        UserError: no study there, a damaged one, or a stimulus that is missing.
    """
    if not (folder / STUDY).is_file() or not (folder / KEY).is_file():
        raise UserError(f"{folder} holds no study ({STUDY} and {KEY}): make one with `tiktok-dm listen new`")
    try:
        study = Study.model_validate_json((folder / STUDY).read_bytes())
        key = Key.model_validate_json((folder / KEY).read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"the study in {folder} is damaged ({error.title}, {where}: {first['msg']}): restore its files"
        ) from error
    clips = [*(c for row in key.clips for c in row), *key.originals, *(m.clip for m in key.materials)]
    missing = [c.file for c in clips if not (folder / STIMULI / c.file).is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} stimuli of the study in {folder} are missing, {missing[0]} first: restore them"
        )
    if len(key.clips) != study.n_items or any(len(row) != study.n_conditions for row in key.clips):
        raise UserError(f"{STUDY} and {KEY} in {folder} do not belong together: restore both")
    return study, key
