"""How many of the 445 released clips `tiktok-dm recover` finds again, against the error rate of the proposals.

Compilations are simulated from the released facts (order, songs, whole segments); see
`benchmarks.recover_simulation`. At rate e, a share e of the cuts is missed (half of these still stand among the
candidates, with a low confidence), as many false ones are added, a share e of the clips has a wrong song, of the cards
is taken for clips, and e / 2 of the clips are taken for cards. A clip is found when both ends are within half a second.

- the curve, with and without what the proposals say of songs, beside two plain ones: the i-th proposed clip taken for
  the i-th known one, and the share of clips that have a candidate within half a second of both ends (no method that
  only chooses among candidates can do better; lengths can);
- the same for films of other kinds;
- compilations with several songs, where nothing is known of the clips' lengths: order and songs must do;
- whether the confidences are what they say;
- the two real compilations, their truth damaged in the same way (`--data`, shared footage's folder; left out without).

    python benchmarks/recover.py [--json FILE] [--plot FILE] [--seeds N] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recover_simulation import (
    Damage,
    Extras,
    Stretch,
    annotations_of_truth,
    film_of_truth,
    simulate_films,
    simulate_proposals,
)
from tiktok_dm.annotations.released import released_annotations
from tiktok_dm.annotations.tables import Annotations
from tiktok_dm.curate.proposals import Proposals
from tiktok_dm.curate.recover.alignment import align
from tiktok_dm.curate.recover.evidence import evidence, facts
from tiktok_dm.curate.recover.model import TOLERANCE_S, AlignmentModel

RATES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
KINDS = {
    "as above": Extras(),
    "no cards inside, no clips left out": Extras(card=0.0, left_out=0.0),
    "a tenth of the clips left out": Extras(left_out=0.1),
    "clips of equal length": Extras(lengths="alike"),
    "cut by hand, +-0.15 s": Extras(hand_s=0.15),
}
KIND_RATES = (0.0, 0.1, 0.2)
BINS = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99, 1.0)


@dataclass
class Counts:
    """One entry a clip: whether it was found, with what confidence, and of which compilation."""

    found: list[bool] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    in_order: list[bool] = field(default_factory=list)
    candidates: list[bool] = field(default_factory=list)
    compilation: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def run(
    annotations: Annotations,
    films: Mapping[int, list[Stretch]],
    proposals: Proposals,
    model: AlignmentModel,
    to: Counts,
) -> None:
    """Align every compilation, and count."""
    for number, film in films.items():
        truth = {s.clip_id: (s.start_s, s.end_s) for s in film if s.clip_id is not None}
        ids, known = facts(annotations, number)
        video = evidence(proposals, number)
        began = time.process_time()
        found = align(video, known, model)
        to.seconds.append(time.process_time() - began)
        mine = proposals.clips[proposals.clips.compilation_id == number].sort_values("start_s")
        boundaries = np.concatenate([video.candidate_s, [0.0, video.duration_s]])
        for i, clip in enumerate(ids):
            start, end = truth[clip]
            to.found.append(_near(found.start_s[i], start) and _near(found.end_s[i], end))
            to.confidence.append(float(found.confidence[i]))
            to.in_order.append(i < len(mine) and _near(mine.start_s.iloc[i], start) and _near(mine.end_s.iloc[i], end))
            to.candidates.append(all(np.abs(boundaries - at).min() <= TOLERANCE_S for at in (start, end)))
            to.compilation.append(number)


def _near(a: float, b: float) -> bool:
    return bool(abs(a - b) <= TOLERANCE_S + 1e-9)


def simulated(rate: float, seeds: int, extras: Extras, model: AlignmentModel) -> Counts:
    annotations, counts = released_annotations(), Counts()
    for seed in range(seeds):
        rng = np.random.default_rng([seed, round(1000 * rate)])
        films = simulate_films(annotations, rng, extras)
        run(annotations, films, simulate_proposals(films, Damage.at(rate), rng), model, counts)
    return counts


def without_lengths(rate: float, seeds: int, model: AlignmentModel) -> Counts:
    """The compilations with several songs, their clips' numbers of segments forgotten by the alignment."""
    import pandas as pd

    annotations, counts = released_annotations(), Counts()
    forgetful = replace(
        annotations,
        clips=annotations.clips.assign(released_segments=pd.array([pd.NA] * len(annotations.clips), "Int64")),
    )
    for seed in range(seeds):
        rng = np.random.default_rng([seed, round(1000 * rate)])
        films = {n: film for n, film in simulate_films(annotations, rng).items() if n in several_songs()}
        run(forgetful, films, simulate_proposals(films, Damage.at(rate), rng), model, counts)
    return counts


def several_songs() -> set[int]:
    clips = released_annotations().clips
    songs = clips.groupby("compilation_id").song_id.nunique()
    return {int(number) for number in songs.index[songs > 1]}


def real(rate: float, seeds: int, data: Path) -> Counts:
    """The real compilations' own lists of clips, found in their damaged truth."""
    truths = [json.loads(path.read_text()) for path in sorted((data / "compilations").glob("*.truth.json"))]
    annotations, counts = annotations_of_truth(truths), Counts()
    films = film_of_truth(truths)
    for seed in range(seeds):
        rng = np.random.default_rng([seed, round(1000 * rate)])
        run(annotations, films, simulate_proposals(films, Damage.at(rate), rng), AlignmentModel(), counts)
    return counts


def curve(seeds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], float]:
    """Rows by rate; the table of confidences; the longest time that one compilation took."""
    several = several_songs()
    rows, sure, right, slowest = [], [], [], 0.0
    for rate in RATES:
        counts = simulated(rate, seeds, Extras(), AlignmentModel())
        without = simulated(rate, seeds, Extras(), AlignmentModel(songs=False))
        mixed = np.array([number in several for number in counts.compilation])
        by_seed = np.array(counts.found).reshape(seeds, -1).mean(1)
        timed = np.array(counts.confidence) >= 0.2
        rows.append(
            {
                "rate": rate,
                "found": _mean(counts.found),
                "found_lowest_seed": round(float(by_seed.min()), 4),
                "found_highest_seed": round(float(by_seed.max()), 4),
                "expected": _mean(counts.confidence),
                "found_without_songs": _mean(without.found),
                "found_several_songs": _mean(np.array(counts.found)[mixed]),
                "found_several_songs_without": _mean(np.array(without.found)[mixed]),
                "given_times": _mean(timed),
                "right_of_sure": _mean(np.array(counts.found)[np.array(counts.confidence) >= 0.9]),
                "sure": _mean(np.array(counts.confidence) >= 0.9),
                "in_order": _mean(counts.in_order),
                "candidates_at_both_ends": _mean(counts.candidates),
            }
        )
        sure += counts.confidence
        right += counts.found
        slowest = max(slowest, *counts.seconds)
        print({k: v for k, v in rows[-1].items() if not k.startswith("found_")}, flush=True)
    table = []
    for low, high in pairwise(BINS):
        at = (np.array(sure) >= low) & (np.array(sure) < high if high < 1 else np.array(sure) >= low)
        if at.any():
            said, was = float(np.array(sure)[at].mean()), float(np.array(right)[at].mean())
            table.append(
                {"from": low, "to": high, "clips": int(at.sum()), "said": round(said, 4), "was": round(was, 4)}
            )
    return rows, table, slowest


def _mean(values: Any) -> float:
    return round(float(np.mean(values)), 4) if len(values) else float("nan")


def draw(result: Mapping[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = result["curve"]
    rate = [100 * row["rate"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), gridspec_kw={"width_ratios": [1.7, 1]})

    def line(name: str, label: str, **style: Any) -> None:
        left.plot(rate, [100 * row[name] for row in rows], label=label, **style)

    low, high = ([100 * row[f"found_{end}_seed"] for row in rows] for end in ("lowest", "highest"))
    left.fill_between(rate, low, high, color="#1f77b4", alpha=0.18, linewidth=0)
    line("found", f"recover ({result['seeds']} seeds, band: lowest to highest)", color="#1f77b4", marker="o", lw=2)
    line("found_without_songs", "recover, songs not used", color="#1f77b4", marker="o", ls="--", lw=1, mfc="white")
    line("candidates_at_both_ends", "a candidate stands at both ends", color="#777777", marker="s", ls=":", lw=1.5)
    line("in_order", "plain: i-th proposed clip = i-th known clip", color="#d62728", marker="^", lw=1.5)
    left.set(xlabel="error rate of the proposals (%)", ylabel="clips found within 0.5 s at both ends (%)")
    left.set(ylim=(0, 102), xlim=(-0.5, 30.5))
    left.set_title("The 445 released clips in simulated compilations", fontsize=11)
    left.grid(alpha=0.3)
    left.legend(fontsize=8.5, loc="center right", bbox_to_anchor=(1.0, 0.5))
    table = result["confidence"]
    right.plot([0, 100], [0, 100], color="#777777", lw=1, ls=":")
    right.plot([100 * row["said"] for row in table], [100 * row["was"] for row in table], "o-", color="#1f77b4")
    numbers = "\n".join(f"{row['from']:.0%} to {row['to']:.0%}: {row['clips']:,} clips" for row in reversed(table))
    right.text(103, 3, numbers, ha="right", va="bottom", fontsize=8, linespacing=1.4)
    right.set(xlabel="confidence given (%)", ylabel="clips found (%)", xlim=(0, 105), ylim=(0, 105))
    right.set_title("Are the confidences what they say?", fontsize=11)
    right.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent
    parser.add_argument("--json", type=Path, default=here / "recover.json")
    parser.add_argument("--plot", type=Path, default=here.parent / "docs" / "images" / "recover.png")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--data", type=Path, default=None)
    given = parser.parse_args()
    rows, table, slowest = curve(given.seeds)
    result: dict[str, Any] = {
        "seeds": given.seeds,
        "clips": len(released_annotations().clips),
        "tolerance_s": TOLERANCE_S,
        "curve": rows,
        "confidence": table,
        "films_of_other_kinds": {},
        "slowest_compilation_cpu_s": round(slowest, 2),
    }
    for name, extras in KINDS.items():
        few = max(1, given.seeds // 2)
        counts = {str(rate): simulated(rate, few, extras, AlignmentModel()) for rate in KIND_RATES}
        result["films_of_other_kinds"][name] = {
            rate: {"found": _mean(c.found), "expected": _mean(c.confidence), "in_order": _mean(c.in_order)}
            for rate, c in counts.items()
        }
        print(name, result["films_of_other_kinds"][name], flush=True)
    few = max(1, given.seeds // 2)
    result["lengths_unknown_several_songs"] = {
        str(rate): {
            "found": _mean(without_lengths(rate, few, AlignmentModel(grid_s=0.5)).found),
            "found_without_songs": _mean(without_lengths(rate, few, AlignmentModel(grid_s=0.5, songs=False)).found),
        }
        for rate in (0.0, 0.05, 0.1)
    }
    print(result["lengths_unknown_several_songs"], flush=True)
    if given.data is not None:
        result["real_compilations_damaged"] = {
            str(rate): {"found": _mean(c.found), "expected": _mean(c.confidence), "in_order": _mean(c.in_order)}
            for rate in RATES
            for c in [real(rate, 4 * given.seeds, given.data)]
        }
        print(result["real_compilations_damaged"])
    given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, given.plot)
    print_tables(result)


def print_tables(result: Mapping[str, Any]) -> None:
    print("\n| error rate | found | without songs | expected | sure (>= 0.9) | right of those | plain, in order |")
    print("|---|---|---|---|---|---|---|")
    for row in result["curve"]:
        names = ("found", "found_without_songs", "expected", "sure", "right_of_sure", "in_order")
        print(f"| {row['rate']:.0%} | " + " | ".join(f"{row[name]:.1%}" for name in names) + " |")
    print("\n| confidence | clips | said | was |\n|---|---|---|---|")
    for row in result["confidence"]:
        print(f"| {row['from']:g} to {row['to']:g} | {row['clips']} | {row['said']:.1%} | {row['was']:.1%} |")


if __name__ == "__main__":
    main()
