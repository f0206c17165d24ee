"""What proposed songs and numbers of dancers say of where each clip of a list is.

Clips of one song should lie in proposed clips of one song, whatever either is called: from where the clips probably
are, a table of known songs by proposed songs is estimated, and each clip gains where its own column stands out. For
the rounds of `align`; not for finding out which clips share a song (`songs`, `song_groups`).
"""

from __future__ import annotations

import numpy as np

from tiktok_dm.curate.recover.lattice import Lattice, Posterior
from tiktok_dm.curate.recover.model import AlignmentModel, ClipFact, Floats, VideoEvidence


class SongEvidence:
    """What proposed songs and numbers of dancers say of where each clip is.

    Attributes:
        names: (names,) proposed songs, -1 among them where a stretch has none.
        length: (stretches,) in s.
        member: (stretches, names) probability that a stretch has each proposed song.
        unsure: (stretches,) what is left to 1 of that.
        share: (names,) of the time of all proposed clips.
        songs: known songs, ascending.
    """

    def __init__(self, video: VideoEvidence, clips: list[ClipFact], model: AlignmentModel) -> None:
        self.video, self.clips, self.model = video, clips, model
        names, group = np.unique(video.stretch_song, return_inverse=True)
        self.names = names
        length = np.maximum(np.diff(video.stretch_s, axis=1)[:, 0], 0.0) if len(video.stretch_s) else np.zeros(0)
        self.length = length
        known = video.stretch_song >= 0
        member = np.zeros((len(group), len(names)))
        if len(group):
            member[np.arange(len(group)), group] = known
        # Pairs that were not sure enough to join two songs still make a stretch a possible member of the other.
        loose = np.zeros_like(member)
        for a, b, confidence in video.same_song:
            for one, other in ((int(a), int(b)), (int(b), int(a))):
                loose[one] = np.maximum(loose[one], confidence * member[other])
        sure = np.clip(video.stretch_song_confidence, 0.0, 0.98)[:, None]
        doubt = loose * (1 - member)
        doubt *= np.minimum(1.0, 0.5 / np.maximum(doubt.sum(1, keepdims=True), 1e-9))
        self.member = (member * (1 - doubt.sum(1, keepdims=True)) + doubt) * sure * known[:, None]
        self.share = length @ (member * known[:, None])
        self.share = self.share / self.share.sum() if self.share.sum() > 0 else self.share
        self.unsure = np.where(known, 1 - self.member.sum(1), 1.0)
        self.songs = np.unique([clip.song for clip in clips])
        self.use = model.songs and len(names) > 1 and bool(known.any())
        counted = video.stretch_dancers > 0
        self.use_dancers = model.dancers and bool(counted.any()) and any(clip.n_dancers for clip in clips)

    def overlap(self, lattice: Lattice, cover: Floats) -> Floats:
        """(clips, stretches) expected seconds of each clip in each stretch."""
        t = lattice.t
        out = np.zeros((len(cover), len(self.video.stretch_s)))
        for i, row in enumerate(cover):
            total = np.concatenate([[0.0], np.cumsum(row[:-1] * np.diff(t))])
            out[i] = np.diff(np.interp(self.video.stretch_s, t, total), axis=1)[:, 0] if out.shape[1] else 0.0
        return out

    def bonus(self, lattice: Lattice, posterior: Posterior) -> list[Floats | None]:
        """Per clip, collected seconds times log-likelihood ratio up to each position; None where nothing is told."""
        if not self.use and not self.use_dancers:
            return [None] * len(self.clips)
        value = np.zeros((len(self.clips), len(self.video.stretch_s)))
        if self.use:
            value += self._song_value(self.overlap(lattice, posterior.cover))
        if self.use_dancers:
            value += self._dancer_value()
        edges = self.video.stretch_s.ravel()
        out: list[Floats | None] = []
        for row in value:
            gained = np.stack([np.zeros(len(row)), row * self.length], axis=1).ravel().cumsum()
            out.append(np.interp(lattice.t, edges, gained) if len(edges) else None)
        return out

    def _song_value(self, overlap: Floats) -> Floats:
        """(clips, stretches) log-ratio of seeing this stretch's song given the clip's, from all other clips.

        Two Dirichlet estimates, one from each side of the table of songs by proposed songs: how often the known
        song goes with the proposed one, and how often the proposed one goes with the known one. The lower counts, so
        that a map far from one-to-one gains nothing.
        """
        model = self.model
        of_clip = overlap @ self.member
        of_clip /= np.maximum(overlap.sum(1, keepdims=True), 1e-6)
        of_clip *= np.minimum(1.0, overlap.sum(1, keepdims=True))  # less than a second of a clip tells less
        songs = np.searchsorted(self.songs, [clip.song for clip in self.clips])
        table = np.zeros((len(self.songs), len(self.names)))
        np.add.at(table, songs, of_clip)
        usual = np.bincount(songs, minlength=len(self.songs)) / len(songs)
        share = np.maximum(self.share, 1e-6)
        out = np.zeros((len(self.clips), len(self.video.stretch_s)))
        for i, s in enumerate(songs):
            seen = np.maximum(table[s] - of_clip[i], 0.0)
            column = np.maximum(table.sum(0) - of_clip[i], 0.0)
            row_ratio = (seen + model.song_prior * share) / ((seen.sum() + model.song_prior) * share)
            column_ratio = (seen + model.column_prior * usual[s]) / ((column + model.column_prior) * usual[s])
            ratio = np.minimum(row_ratio, column_ratio)
            out[i] = np.log(np.maximum(self.member @ ratio + self.unsure, 1e-4))
        return out

    def _dancer_value(self) -> Floats:
        """(clips, stretches) log-ratio of counting as many dancers as were counted, right four times out of five."""
        counted = self.video.stretch_dancers
        known = counted > 0
        out = np.zeros((len(self.clips), len(counted)))
        for n in np.unique(counted[known]):
            usual = (np.sum(counted[known] == n) + 0.5) / (known.sum() + 1.0)
            for i, clip in enumerate(self.clips):
                if clip.n_dancers:
                    likely = 0.8 / usual if clip.n_dancers == n else 0.2 / (1 - usual)
                    out[i, counted == n] = np.log(min(max(likely, 0.2), 5.0))
        return out

    def summary(
        self, start_s: Floats, end_s: Floats, lattice: Lattice, posterior: Posterior
    ) -> tuple[Floats, dict[int, tuple[int, float]]]:
        """Share of each clip's time under the proposed song that its own is matched to, and that map of songs."""
        share, matched = np.zeros(len(self.clips)), {}
        if not len(self.names) or not (self.video.stretch_song >= 0).any():
            return share, {}
        overlap = self.overlap(lattice, posterior.cover) @ (self.member > self.member.max(1, keepdims=True) - 1e-9)
        for song in self.songs:
            rows = [i for i, clip in enumerate(self.clips) if clip.song == song]
            total = overlap[rows].sum(0)
            if total.sum() > 0:
                matched[int(song)] = (int(self.names[total.argmax()]), float(total.max() / total.sum()))
        for i, clip in enumerate(self.clips):
            if np.isnan(start_s[i]) or clip.song not in matched:
                continue
            a, b = self.video.stretch_s[:, 0], self.video.stretch_s[:, 1]
            shared = np.clip(np.minimum(b, end_s[i]) - np.maximum(a, start_s[i]), 0.0, None)
            right = self.video.stretch_song == matched[clip.song][0]
            share[i] = float(shared[right].sum() / max(end_s[i] - start_s[i], 1e-9))
        return np.clip(share, 0.0, 1.0), matched
