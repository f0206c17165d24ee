"""Score a system: its music against the reference's, clip by clip and as a whole, with intervals and all problems.

Each file is decoded and measured once (`clip_features`); the metrics are functions of what was measured. Not for
reading files (`pairs`), not for the metrics themselves, not for what becomes of the scores (`evaluation`), and not for
printing (`evaluate_cli`).
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tiktok_dm.benchmark import pairs
from tiktok_dm.benchmark.clip_features import Audio, ClipFeatures, FeatureCache, Pulse, measure_all, read_sound
from tiktok_dm.benchmark.evaluation import Evaluation, breakdown_groups
from tiktok_dm.benchmark.metrics import alignment, intervals, published_beats, tracked_beats
from tiktok_dm.benchmark.metrics.definitions import BESIDE, METRICS, REFERENCE, SHUFFLED, clip_metrics
from tiktok_dm.benchmark.metrics.intervals import Score
from tiktok_dm.benchmark.pairs import Finding
from tiktok_dm.benchmark.reference import Item, Reference
from tiktok_dm.errors import UserError
from tiktok_dm.schema import SAMPLE_RATE

if TYPE_CHECKING:
    import pandas as pd

    from tiktok_dm.benchmark.metrics.genre import GenreClassifier
    from tiktok_dm.benchmark.training_music import Sound

_PARTNERS = 10
"""Other songs' clips with which each reference is paired for the shuffled levels that are computed pair by pair."""


_BOUNDS = {"fad": (0.0, math.inf), "density": (0.0, math.inf), "coverage": (0.0, 1.0)}


@dataclass(frozen=True)
class EvaluateOptions:
    """How to score.

    Args:
        split, config: of a reference that is a dataset, see `pairs.read_reference`.
        partial: score what is there when files are missing or unusable; otherwise that is an error.
        workers: processes that measure files; the result does not depend on it.
        seed: of resampled songs, shuffled pairs and permutations.
        resamples: swaps of the tests that compare systems.
        detector: of beats, that another package adds (`plugins`), in the place of this project's tracker.
        embedder: whose rows the distribution metrics take; None leaves them out.
        weights: the embedder's, where it needs any.
        training: dataset whose train split the generated music is looked up in; None leaves memorisation out.
        genres: csv file with `song_id` and `genre` of songs of the training split, for the genre classifier; None
            leaves genre agreement out, unless a classifier is given.
        classifier: of genres, instead of one made from `genres`.
    """

    split: str = "test"
    config: str | None = None
    partial: bool = False
    workers: int = 1
    seed: int = 0
    resamples: int = intervals.RESAMPLES
    detector: str | None = None
    embedder: str | None = "log-mel"
    weights: Path | None = None
    training: Path | None = None
    genres: Path | None = None
    classifier: GenreClassifier | None = None


def evaluate(
    reference: Path | Reference,
    generated: Path | Mapping[str, Audio],
    options: EvaluateOptions | None = None,
    *,
    cache: FeatureCache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score generated music against its references.

    Args:
        reference: a folder of sound files, a built dataset, or what `pairs.read_reference` made of one.
        generated: a folder of sound files, or sounds by id.
        options: see `EvaluateOptions`.
        cache: keeps what was measured, for further systems on the same reference.
        progress: called with (files measured, files in all).

    Raises:
        ProblemsError: without `partial`: files are missing, unreadable, empty, not finite, or there twice; all are
            named.
        UserError: nothing to score, or an unusable reference.

    Example:
        >>> from pathlib import Path
        >>> from tiktok_dm import evaluate
        >>> from tiktok_dm.benchmark.pairs import read_reference
        >>> truth = read_reference(Path("demo"), split="all", config="clips")
        >>> scores = evaluate(truth, {name: item.audio for name, item in truth.items.items()})
        >>> scores.metrics["beat_f_70ms"].value
        1.0
    """
    options = options or EvaluateOptions()
    if options.resamples < 100:
        raise UserError(f"a comparison needs at least 100 resamples, not {options.resamples}")
    findings: list[Finding] = []
    if isinstance(generated, Path):
        files, findings = pairs.sound_files(generated)
        generated = dict(files)
    if isinstance(reference, Path):
        reference = pairs.read_reference(reference, split=options.split, config=options.config, generated=generated)
    sounds, more = pairs.pair(reference, generated)
    findings += more
    items, measured, more = _measured(reference, sounds, options, cache, progress)
    findings += more
    if not options.partial:
        pairs.stop_for(
            findings,
            f"not every one of the {len(reference.items)} references can be scored (--partial: score the rest)",
        )
    lost = {finding.id for finding in findings if finding.fatal}
    items = [item for item in items if item.id not in lost]
    if not items:
        raise UserError("not one generated file can be scored: see the problems named, and make the files again")
    return _Scoring(reference, items, sounds, measured, options, findings).evaluation()


# ------------------------------------------------------------------------------------------- measuring


def _measured(
    reference: Reference,
    sounds: Mapping[str, Audio],
    options: EvaluateOptions,
    cache: FeatureCache | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[Item], dict[str, tuple[ClipFeatures, ClipFeatures]], list[Finding]]:
    """The paired items, (reference, generated) features by id, and what decoding showed to be wrong."""
    items = [item for key, item in reference.items.items() if key in sounds]
    both: list[Audio] = [sound for item in items for sound in (item.audio, sounds[item.id])]
    features = measure_all(
        both,
        workers=options.workers,
        embedder=options.embedder,
        weights=options.weights,
        detector=options.detector,
        cache=cache,
        progress=progress,
        meanwhile=_load,
    )
    findings = []
    measured = {}
    for k, item in enumerate(items):
        ours, theirs = features[2 * k], features[2 * k + 1]
        measured[item.id] = ours, theirs
        if ours.problem is not None:
            raise UserError(f"the reference {item.id} cannot be used: {ours.message}; mend or remove it first")
        if theirs.problem is not None:
            findings.append(Finding(theirs.problem, item.id, f"{theirs.message}; it has no score"))
            continue
        if theirs.seconds < ours.seconds - pairs.SHORT_TOLERANCE_S:
            lengths = f"{theirs.seconds:.2f} s where its reference lasts {ours.seconds:.2f} s"
            message = f"{lengths}; what is missing counts as silent"
            findings.append(Finding("short", item.id, message))
        if theirs.silent:
            peak = (
                "all its samples are zero" if theirs.peak_dbfs is None else f"its peak is {theirs.peak_dbfs:.1f} dBFS"
            )
            findings.append(Finding("silent", item.id, f"{peak}; it is scored like any other"))
    return items, measured, findings


def _load() -> None:
    """Import what scoring needs and what is slow to import, while workers load their own."""
    for name in ("mir_eval.beat", "pandas", "scipy.ndimage", "scipy.signal", "scipy.spatial.distance"):
        importlib.import_module(name)


# ------------------------------------------------------------------------------------------- scoring


class _Scoring:
    """One evaluation in the making."""

    def __init__(
        self,
        reference: Reference,
        items: list[Item],
        sounds: Mapping[str, Audio],
        measured: Mapping[str, tuple[ClipFeatures, ClipFeatures]],
        options: EvaluateOptions,
        findings: list[Finding],
    ) -> None:
        self.reference, self.items, self.options, self.findings = reference, items, options, findings
        self.sounds = sounds
        self.ours = [measured[item.id][0] for item in items]
        self.theirs = [measured[item.id][1] for item in items]
        self.notes = list(reference.notes)
        # Where no song is known each clip is its own.
        self.songs: list[Any] = [item.song_id if reference.has_songs else f"clip {item.id}" for item in items]
        self.table: dict[str, list[Any]] = {}
        self.p_values: dict[str, float] = {}
        self.parameters: dict[str, Any] = {}

    def evaluation(self) -> Evaluation:
        """All of it, in order."""
        import pandas as pd

        self._describe()
        self._clip_scores()
        self._shuffled_scores()
        self._alignment()
        self._training()
        per_clip = pd.DataFrame(self.table)
        metrics = self._scores(per_clip, np.ones(len(per_clip), dtype=bool))
        beside = {
            name: self._interval(per_clip[[name]].to_numpy(np.float64), np.ones(len(per_clip), dtype=bool))
            for name in BESIDE
            if name in per_clip
        }
        undefined = {name: int(per_clip[list(METRICS[name].columns)].isna().any(axis=1).sum()) for name in metrics}
        parts = breakdown_groups(per_clip)
        breakdowns = {
            kind: {label: self._scores(per_clip, rows) for label, rows in groups.items()}
            for kind, groups in parts.items()
        }
        metrics |= self._distributions()
        self._warn(undefined)
        counts = {
            "references": len(self.reference.items),
            "clips": len(self.items),
            "songs": len(set(self.songs)) if self.reference.has_songs else 0,
        }
        return Evaluation(
            self.reference.name,
            metrics,
            beside,
            self.p_values,
            per_clip,
            {name: count for name, count in undefined.items() if count},
            breakdowns,
            self.findings,
            self.notes,
            counts,
            {**_parameters(self.options, self.reference.has_songs), **self.parameters},
            self.songs,
        )

    def _describe(self) -> None:
        for name in ("id", "song_id", "clip_id", "compilation_id", "n_dancers", "pose_confidence", "seen_compilation"):
            self.table[name] = [getattr(item, name) for item in self.items]
        self.table["clip_seconds"] = [
            item.clip_seconds if item.clip_seconds is not None else ours.seconds
            for item, ours in zip(self.items, self.ours, strict=True)
        ]
        self.table["seconds"] = [features.seconds for features in self.ours]
        self.table["generated_seconds"] = [features.seconds for features in self.theirs]

    def _clip_scores(self) -> None:
        rows = []
        for k, (ours, theirs) in enumerate(zip(self.ours, self.theirs, strict=True)):
            bins = [
                published_beats.onset_bins(features.onsets_s[detector], features.samples)
                for detector in ("d2m", "loris")
                for features in (ours, theirs)
            ]
            beats, bpm = self._reference_pulse(k)
            found = _until(theirs.whole.beats_s, ours.seconds)
            rows.append(
                {
                    **published_beats.clip_scores(*bins),
                    **tracked_beats.clip_scores(beats, found, bpm, theirs.whole.tempo_bpm),
                    **_window_scores(ours.windows, theirs.windows),
                }
            )
        for name in rows[0]:
            self.table[name] = [row[name] for row in rows]
        for added in clip_metrics():
            scores = [
                added.score(read_sound(item.audio), read_sound(self.sounds[item.id]), SAMPLE_RATE, item)
                for item in self.items
            ]
            for metric in added.metrics:
                self.table[metric.name] = [float(score[metric.name]) for score in scores]

    def _reference_pulse(self, k: int) -> tuple[np.ndarray, float | None]:
        """Beats and tempo of a reference: the dataset's where it says them, else tracked."""
        item, ours = self.items[k], self.ours[k]
        if item.beats_s is None:
            return ours.whole.beats_s, ours.whole.tempo_bpm
        return item.beats_s, item.tempo_bpm

    def _shuffled_scores(self) -> None:
        """The published hit rate and the F-measure with other songs' music, over the time that both last."""
        rng = np.random.default_rng([self.options.seed, 2])
        songs = np.array([str(song) for song in self.songs])
        names = ("beat_hit_d2m_shuffled", "beat_f_70ms_shuffled")
        rows: list[tuple[float, float]] = []
        for k, ours in enumerate(self.ours):
            others = np.flatnonzero(songs != songs[k])
            chosen = rng.permutation(others)[:_PARTNERS]
            found = []
            for j in chosen:
                theirs = self.theirs[j]
                samples = min(ours.samples, theirs.samples)
                seconds = samples / SAMPLE_RATE
                bins = [published_beats.onset_bins(_until(f.onsets_s["d2m"], seconds), samples) for f in (ours, theirs)]
                beats, _ = self._reference_pulse(k)
                found.append(
                    (
                        published_beats.beat_hit_d2m(*bins),
                        tracked_beats.beat_f_measure(_until(beats, seconds), _until(theirs.whole.beats_s, seconds)),
                    )
                )
            values = np.array(found).reshape(-1, 2)
            rows.append((_nanmean(values[:, 0]), _nanmean(values[:, 1])))
        for column, name in enumerate(names):
            self.table[name] = [row[column] for row in rows]

    def _alignment(self) -> None:
        if any(item.poses is None for item in self.items):
            return
        seconds = [features.seconds for features in self.ours]
        musics = [_until(theirs.whole.beats_s, length) for theirs, length in zip(self.theirs, seconds, strict=True)]
        own_musics = [_until(ours.whole.beats_s, length) for ours, length in zip(self.ours, seconds, strict=True)]

        def beats_of(find: Callable[[np.ndarray], np.ndarray]) -> list[list[np.ndarray]]:
            return [
                [_until(find(item.poses[:, dancer]), ours.seconds) for dancer in range(item.poses.shape[1])]
                for item, ours in zip(self.items, self.ours, strict=True)
                if item.poses is not None
            ]

        smoothed, own_beats = beats_of(alignment.motion_beats), beats_of(alignment.motion_beats_aistpp)
        for over, name, motions in (
            ("motion", "beat_align_motion_aistpp", own_beats),
            ("motion", "beat_align_motion_smoothed", smoothed),
            ("music", "beat_align_music_bailando", smoothed),
        ):
            lead = alignment.score_matrix([dancers[0] for dancers in motions], musics, seconds, over=over)
            everyone = _all_dancers(motions, musics, seconds, over)
            own = alignment.score_matrix([dancers[0] for dancers in motions], own_musics, seconds, over=over)
            own_everyone = _all_dancers(motions, own_musics, seconds, over)
            for suffix, scores, reference in (("", lead, own), ("_all", everyone, own_everyone)):
                key = name + suffix
                self.table[key] = np.diagonal(scores).tolist()
                self.table[key + SHUFFLED] = alignment.shuffled_level(scores, self.songs).tolist()
                self.table[key + REFERENCE] = np.diagonal(reference).tolist()
                self.p_values[key] = alignment.p_value(scores, self.songs, seed=self.options.seed)

    def _training(self) -> None:
        """Memorisation, and genre agreement by a classifier fitted to labelled training songs."""
        from tiktok_dm.benchmark import training_music

        options = self.options
        if options.training is None and options.classifier is None:
            return
        made = training_music.Both(self._heard(generated=False), self._heard(generated=True))
        if options.training is not None:
            # Of the kind that is scored: a whole clip lies near itself, and a segment near its own clip's segments.
            config = options.config or self.reference.config or "clips"
            known = training_music.read_training(options.training, config, options.embedder, options.weights)
            self.table |= known.memorisation(made)
            self.parameters["training"] = known.describe()
            if options.genres is not None and options.classifier is None:
                classifier: GenreClassifier = known.classifier(options.genres)
            elif options.classifier is not None:
                classifier = options.classifier
            else:
                return
        else:
            assert options.classifier is not None
            classifier = options.classifier
        columns, described = training_music.genre_agreement(made, classifier)
        self.table |= columns
        self.parameters["genre"] = described

    def _heard(self, *, generated: bool) -> list[Sound]:
        from tiktok_dm.benchmark.training_music import Sound

        return [
            Sound(item.id, read_sound(self.sounds[item.id] if generated else item.audio), SAMPLE_RATE)
            for item in self.items
        ]

    def _interval(
        self,
        values: np.ndarray,
        rows: np.ndarray,
        statistic: intervals.Statistic = intervals.mean,
        bounds: tuple[float, float] = (-math.inf, math.inf),
    ) -> Score:
        songs = [song for song, use in zip(self.songs, rows, strict=True) if use]
        return intervals.interval(values[rows], songs, statistic, bounds=bounds)

    def _scores(self, per_clip: pd.DataFrame, rows: np.ndarray) -> dict[str, Score]:
        return {
            name: self._interval(
                per_clip[list(metric.columns)].to_numpy(np.float64), rows, metric.statistic, metric.bounds
            )
            for name, metric in METRICS.items()
            if set(metric.columns) <= set(per_clip.columns)
        }

    def _distributions(self) -> dict[str, Score]:
        if self.options.embedder is None:
            return {}
        from tiktok_dm.benchmark.embedders.registry import get_embedder
        from tiktok_dm.benchmark.metrics.distribution import distribution_metrics

        made = get_embedder(self.options.embedder, self.options.weights)
        ours, theirs = ([features.rows for features in side] for side in (self.ours, self.theirs))

        def metrics(chosen: np.ndarray) -> dict[str, float]:
            sides = [
                np.concatenate([rows for rows, use in zip(side, chosen, strict=True) if use and rows is not None])
                for side in (ours, theirs)
            ]
            return distribution_metrics(*sides, seed=self.options.seed)

        self.parameters["embedding"] = {
            "embedder": made.name,
            "version": made.version,
            "reference_set": self.reference.name,
            "reference_rows": sum(len(rows) for rows in ours if rows is not None),
            "generated_rows": sum(len(rows) for rows in theirs if rows is not None),
            "dimensions": made.dim,
        }
        rows = min(self.parameters["embedding"]["reference_rows"], self.parameters["embedding"]["generated_rows"])
        if rows < 2 * made.dim:
            self.notes.append(
                f"FAD fits a Gaussian of {made.dim} dimensions to {rows} rows here, which is too few: read KAD"
            )
        scores = intervals.jackknife(metrics, self.songs, seed=self.options.seed)
        return {name: _bounded(score, *_BOUNDS.get(name, (-math.inf, math.inf))) for name, score in scores.items()}

    def _warn(self, undefined: Mapping[str, int]) -> None:
        count = undefined.get("beat_hit_d2m", 0)
        if count:
            self.notes.append(
                f"{count} references have no onset by D2M-GAN's detector: coverage and hit would divide by zero "
                "there and leave these clips out"
            )
        songs = len(set(self.songs))
        if songs < intervals.FEWEST_SONGS:
            self.notes.append(
                f"no intervals: {songs} {'song says' if songs == 1 else 'songs say'} too little of how much songs "
                f"differ, and {intervals.FEWEST_SONGS} are needed"
            )
        if not any(item.beats_s is not None for item in self.items):
            self.notes.append("the reference's beats were tracked, not annotated")
        self.notes.append(
            "a tracker finds beats in any steady pulse: tracked beats say where beats fall, not that there is music"
        )


def _bounded(score: Score, least: float, most: float) -> Score:
    """The score with an interval that ends where the metric does."""
    if score.low is None or score.high is None:
        return score
    return replace(score, low=max(score.low, least), high=min(score.high, most))


def _window_scores(ours: Sequence[Pulse], theirs: Sequence[Pulse]) -> dict[str, float]:
    """Mean over a clip's two-second windows, each tracked alone; one that the generated music lacks has no beat."""
    rows = []
    for k, window in enumerate(ours):
        other = theirs[k] if k < len(theirs) else Pulse(np.zeros(0), None)
        rows.append(tracked_beats.clip_scores(window.beats_s, other.beats_s, window.tempo_bpm, other.tempo_bpm))
    names = tracked_beats.clip_scores(np.zeros(0), np.zeros(0), None, None)
    return {f"{name}_2s": _nanmean(np.array([row[name] for row in rows])) for name in names}


def _all_dancers(
    motions: Sequence[Sequence[np.ndarray]], musics: Sequence[np.ndarray], seconds: Sequence[float], over: str
) -> np.ndarray:
    """Mean over a clip's dancers of their scores with every music, (clips, clips); who has no motion beat stays out."""
    most = max(len(dancers) for dancers in motions)
    layers = [
        alignment.score_matrix(
            [dancers[place] if place < len(dancers) else np.zeros(0) for dancers in motions], musics, seconds, over=over
        )
        for place in range(most)
    ]
    stack = np.stack(layers)
    known = ~np.isnan(stack)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(stack, nan=0.0).sum(axis=0) / known.sum(axis=0)


def _until(times_s: np.ndarray, seconds: float) -> np.ndarray:
    return times_s[times_s < seconds]


def _nanmean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _parameters(options: EvaluateOptions, has_songs: bool) -> dict[str, Any]:
    import importlib.metadata

    return {
        "seed": options.seed,
        "resamples": options.resamples,
        "resampled": "songs" if has_songs else "clips",
        "level": intervals.LEVEL,
        "sample_rate": SAMPLE_RATE,
        "detectors": {detector.name: asdict(detector) for detector in (published_beats.D2M, published_beats.LORIS)},
        "beat_window_s": tracked_beats.WINDOW_S,
        "alignment_sigma_s": alignment.SIGMA_S,
        "alignment_smoothing_s": alignment.SMOOTHING_S,
        "short_tolerance_s": pairs.SHORT_TOLERANCE_S,
        "tools": {name: importlib.metadata.version(name) for name in ("librosa", "mir_eval", "scipy", "soxr")},
    }
