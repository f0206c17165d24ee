"""Curation on compilations of nine kinds, drawn by seed: what it weighs is fitted here, and how good it is said.

    python -m benchmarks.unseen fit --seeds 0 16 [--data FOLDER]
    python -m benchmarks.unseen report --seeds 1 41 [--data FOLDER] [--json benchmarks/unseen.json]

Even seeds and odd ones share neither dancers nor songs: fit on even ones, report on odd ones. FOLDER holds `clips/` and
`compilations/` of real footage; without it the embedded dancers and songs are drawn alone. `fit` prints the
coefficients that `curate.cuts.music_changes` and `curate.cuts.transition_evidence` hold. `report` prints by kind: cuts
within two frames and pairs of clips with one song (precision, recall, F1); and how often a stated confidence of a cut
is right. For whole films through `propose` see `propose.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.agreement import Counts, KnownClip, cut_agreement, match_clips, pair_agreement
from tests.curate.unseen_compilations import FPS, KINDS, Unseen, draw, scanned, truth
from tiktok_dm.curate.cuts import transition_evidence
from tiktok_dm.curate.cuts.music_changes import Music, features, probability
from tiktok_dm.curate.cuts.shots import Boundary, find_shots
from tiktok_dm.curate.cuts.transitions import Candidate, changes, find_candidates
from tiktok_dm.curate.proposals import empty_proposals
from tiktok_dm.curate.song_groups import group_clips, sketch_of
from tiktok_dm.curate.video_findings import VideoFindings

BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)
TOLERANCE_S = 2.5 / FPS
MORE = 6  # times as many compilations are only listened to


# ------------------------------------------------------------------------------------------------------------------ fit


def labelled(candidate: Candidate, cuts: list[dict[str, Any]]) -> tuple[int, int] | None:
    """(1, place of the cut) or (0, -1) for none; None for a part of a transition, of which nothing is asked."""
    for place, cut in enumerate(cuts):
        middle, first, last = (round(cut[name] * FPS) for name in ("at_s", "start_s", "end_s"))
        if abs(candidate.middle - middle) <= (1 if candidate.kind == "hard_cut" else 4):
            return 1, place
        if candidate.first <= last + 2 and first - 2 <= candidate.last:
            return None
    return 0, -1


def sounds(kind: str, seed: int, data: Path | None) -> Iterator[tuple[int, Music]]:
    """(whether the song changes, numbers) at the cuts of a compilation, at camera cuts, and somewhere in its clips."""
    one = draw(kind, seed, data)
    known, rng = truth(one), np.random.default_rng([seed, 5])
    clips = [part for part in one.parts if part.part.kind == "clip"]
    cuts = {round(cut["at_s"], 4) for cut in known["transitions"]}
    for clip, part in zip(known["clips"], clips, strict=True):
        at = [(float(rng.uniform(clip["start_s"], clip["end_s"])), 0)]
        at += [(clip["start_s"] + t, 0) for t, _ in part.cuts[:2]]
        if round(clip["start_s"], 4) in cuts:
            at.append((clip["start_s"], int(not clip["runs_on"])))
        for instant, label in at:
            if label == 0 and not clip["runs_on"] and min(instant - clip["start_s"], clip["end_s"] - instant) < 1.0:
                continue
            numbers = features(one.sound, instant)
            if isinstance(numbers, Music):
                yield label, numbers


def evidence_rows(kind: str, seed: int, data: Path | None) -> Iterator[tuple[str, int, np.ndarray, Any]]:
    """(kind, label, numbers of the pictures, numbers of the music) of every candidate, seen far and near."""
    one = draw(kind, seed, data)
    scan, cuts = scanned(one), truth(one)["transitions"]
    change, n = changes(scan), len(scan.pictures)
    for candidate in find_candidates(scan, change):
        found = labelled(candidate, cuts)
        if found is None:
            continue
        label, place = found
        others = [cut for k, cut in enumerate(cuts) if k != place]
        ends = [(round(cut["start_s"] * FPS), round(cut["end_s"] * FPS)) for cut in others]
        low = max((last for _, last in ends if last <= candidate.first), default=0)
        high = min((first for first, _ in ends if first >= candidate.last), default=n)
        for limits in (None, (low, high)):
            if limits and (candidate.first - low < 3 or high - candidate.last < 3):
                continue
            numbers = transition_evidence.evidence(scan, change, candidate, limits)
            fade_s = 0.0 if candidate.kind == "hard_cut" else (candidate.last - candidate.first) / FPS
            within_s = (low / FPS, high / FPS) if limits else None
            yield (
                candidate.kind,
                label,
                numbers.vector(),
                features(scan.sound, candidate.middle / FPS, fade_s, within_s),
            )


def near(before: np.ndarray, numbers: np.ndarray, labels: np.ndarray, pull: float) -> np.ndarray:
    """Coefficients of a logistic regression, the constant last, drawn towards `before` (a normal prior about them)."""
    from scipy.optimize import minimize

    x = np.column_stack([numbers, np.ones(len(numbers))]).astype(float)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z, away = x @ w, w - before
        value = float(np.logaddexp(0, z).sum() - z @ labels + pull / 2 * away @ away)
        return value, x.T @ (1 / (1 + np.exp(-z)) - labels) + pull * away

    return np.asarray(minimize(loss, before.astype(float), jac=True, method="L-BFGS-B").x)


def fit(seeds: range, data: Path | None) -> dict[str, Any]:
    """Coefficients of the music and of the cuts, by logistic regression; rounded to two places."""
    from sklearn.linear_model import LogisticRegression

    many = range(seeds.start, seeds.start + MORE * (seeds.stop - seeds.start), 2)
    listened = [pair for seed in many for kind in KINDS for pair in sounds(kind, seed, data)]
    found = LogisticRegression(C=3, class_weight="balanced").fit(
        [music.vector() for _, music in listened], [label for label, _ in listened]
    )
    weights, offset = np.round(found.coef_[0], 2), round(float(found.intercept_[0]), 2)
    result: dict[str, Any] = {"music": (weights.tolist(), offset)}
    rows = [row for seed in seeds for kind in KINDS for row in evidence_rows(kind, seed, data)]
    before = {
        "hard": (transition_evidence._HARD, transition_evidence._HARD_OFFSET, 1.0),
        "soft": (transition_evidence._SOFT, transition_evidence._SOFT_OFFSET, 12.0),
    }
    for name, (coefficients, constant, pull) in before.items():
        numbers, labels = [], []
        for kind, label, pictures, sound in rows:
            if (kind == "hard_cut") != (name == "hard"):
                continue
            runs_on = probability(sound, weights, offset) if isinstance(sound, Music) else sound
            # Each with and without its music: not every video has some.
            for heard in (runs_on, None):
                numbers.append(np.append(pictures, transition_evidence.music_terms(heard)))
                labels.append(label)
        fresh = near(np.append(coefficients, constant), np.array(numbers), np.array(labels), pull)
        result[name] = ([round(float(w), 2) for w in fresh[:-1]], round(float(fresh[-1]), 2))
    return result


# --------------------------------------------------------------------------------------------------------------- report


def proposed(one: Unseen) -> tuple[list[KnownClip], list[Boundary]]:
    """The clips that curation proposes, with their songs, and every instant that it considered."""
    scan = scanned(one)
    shots, boundaries = find_shots(scan)
    findings = VideoFindings(scan.path, scan.sha256, 0, shots, boundaries)
    ids = {(0, k): number for number, k in enumerate(findings.clips)}
    sketches = {str(ids[0, k]): sketch_of(scan, shots[k].start_s, shots[k].end_s) for k in findings.clips}
    groups = group_clips(empty_proposals(Path(tempfile.gettempdir()) / "nothing"), [findings], ids, sketches)
    clips = [KnownClip(shots[k].start_s, shots[k].end_s, str(groups.song_of[str(ids[0, k])])) for k in findings.clips]
    return clips, [boundary for boundary in boundaries if boundary.kind not in ("start", "end")]


def figures(counts: Counts) -> dict[str, Any]:
    """Counts with what follows from them."""
    return {**counts._asdict(), **{name: round(getattr(counts, name), 3) for name in ("precision", "recall", "f1")}}


def report(seeds: range, kinds: list[str], data: Path | None) -> dict[str, Any]:
    """Cuts and same-song pairs by kind, and the reliability of stated confidences."""
    cuts, songs = ({kind: Counts(0, 0, 0) for kind in [*kinds, "all"]} for _ in range(2))
    stated: list[tuple[float, bool]] = []
    for seed in seeds:
        for kind in kinds:
            one = draw(kind, seed, data)
            known = truth(one)
            clips, boundaries = proposed(one)
            at = [cut["at_s"] for cut in known["transitions"]]
            true = [KnownClip(clip["start_s"], clip["end_s"], clip["song"]) for clip in known["clips"]]
            here = cut_agreement(clips, at, known["duration_s"], TOLERANCE_S)
            pairs = pair_agreement(clips, true, match_clips(clips, true))
            for name in (kind, "all"):
                cuts[name] = Counts(*(a + b for a, b in zip(cuts[name], here, strict=True)))
                songs[name] = Counts(*(a + b for a, b in zip(songs[name], pairs, strict=True)))
            stated += [(b.confidence, min(abs(b.at_s - t) for t in at) <= TOLERANCE_S) for b in boundaries]
    table = np.array(stated, float).reshape(-1, 2)
    curve = []
    for low, high in pairwise(BINS):
        inside = table[(table[:, 0] >= low) & ((table[:, 0] < high) | (high == 1.0))]
        if len(inside):
            curve.append(
                {"stated": round(inside[:, 0].mean(), 3), "right": round(inside[:, 1].mean(), 3), "n": len(inside)}
            )
    return {
        "seeds": [seeds.start, seeds.stop, seeds.step],
        "cuts": {kind: figures(counts) for kind, counts in cuts.items()},
        "same_song_pairs": {kind: figures(counts) for kind, counts in songs.items()},
        "reliability_of_cuts": curve,
    }


def main() -> None:
    """Fit or report, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("fit", "report"))
    parser.add_argument("--seeds", type=int, nargs=2, required=True, metavar=("FIRST", "END"))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    seeds = range(*arguments.seeds, 2)
    result = fit(seeds, arguments.data) if arguments.what == "fit" else report(seeds, arguments.kinds, arguments.data)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
