"""A new submission: predictions under their benchmark ids, their manifest, what they are for, and a card to fill in.

What can be known is filled in; every other field says `FILL IN` and is refused by `submission_check` until it is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tiktok_dm.benchmark.leaderboard.content import REFERENCE, sketch, sketches_text
from tiktok_dm.benchmark.leaderboard.open_benchmark import OpenBenchmark, open_benchmark
from tiktok_dm.benchmark.leaderboard.submission import BLANK, CARD, FOLDER, MAIN_SEEDS
from tiktok_dm.benchmark.leaderboard.tables import MANIFEST, Entry, manifest_text
from tiktok_dm.benchmark.pairs import pair, sound_files
from tiktok_dm.errors import Problem, ProblemsError, UserError
from tiktok_dm.files import sha256_file

_CARD = """\
# See submissions/README.md for each field. `tiktok-dm submit check` says what is still to do.
system: {system}
version: {version}
authors:
  - {blank}
paper: {blank}            # a link, or none
code:
  url: {blank}            # a link, or none
  commit: {blank}         # hexadecimal, or none
licence:                  # SPDX names, or none
  code: {blank}
  predictions: {blank}
track: {blank}            # closed: this benchmark's train split and nothing else; open: anything
standing: {standing:<16}# main: {main} seeds at least; deterministic: no randomness; secondary: the rest
pretrained: []            # one entry a part: name, source (a link), licence, trained_on
training_data:
  sets:
    - {{name: {dataset}, split: train}}
  overlap: {blank}        # with the test split: none, possible or known
  overlap_note: {blank}   # how it was looked for, and what was found
seeds: [{seeds}]
parameters: {blank}       # their number, of all parts together
hardware: {blank}         # that the predictions were made on
real_time_factor: {blank} # seconds of computing for a second of music
post_processing: []       # such as denoising, loudness, resampling; one entry a step
benchmark:
  dataset: {dataset}
  content: "{content}"
  split: test
  config: {config}
predictions:
{place}
"""


def new(
    folder: Path,
    dataset: Path,
    predictions: Mapping[int, Path],
    *,
    config: str | None = None,
    archive: Path | None = None,
) -> list[str]:
    """Make `submissions/<system>/<version>`, which appears only when whole.

    Args:
        folder: new, or empty.
        dataset: the benchmark.
        predictions: folder of wav files by seed; ids as `pairs.pair` takes them.
        config: `clips` or `segments`; None: what the ids look like.
        archive: write the predictions to this new zip file instead of beside the card, to be uploaded.

    Returns:
        What to do next, a sentence each.

    Raises:
        UserError: the folder or the archive is there already; no wav files; nothing that fits the benchmark.
        ProblemsError: files that cannot be listed: no wav, unreadable, or two for one id.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: choose another folder, or remove it first")
    if archive is not None and (archive.exists() or archive.suffix != ".zip"):
        raise UserError(f"{archive} must be a new file that ends with .zip: choose another name")
    folder = folder.absolute()
    ids = [name for place in predictions.values() for name in sound_files(place)[0]]
    benchmark = open_benchmark(dataset, config, ids)
    listed = _listed(predictions, benchmark)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        entries = []
        for (seed, name), path in listed.items():
            copy = beside / FOLDER / str(seed) / f"{name}.wav"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            entries.append(_entry(seed, name, copy))
        place = f"  folder: {FOLDER}"
        if archive is not None:
            _pack(beside / FOLDER, archive)
            shutil.rmtree(beside / FOLDER)
            place = f"  url: {BLANK}            # where you put {archive.name}\n  sha256: {sha256_file(archive)}"
        (beside / MANIFEST).write_text(manifest_text(entries), encoding="utf-8")
        sketches = [sketch(item) for item in benchmark.reference.items.values()]
        (beside / REFERENCE).write_text(sketches_text(sketches), encoding="utf-8")
        (beside / CARD).write_text(_card(folder, benchmark, sorted(predictions), place), encoding="utf-8")
        beside.chmod(0o755)
        beside.replace(folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    steps = [f"fill in what says `{BLANK}` in {folder / CARD}"]
    if archive is not None:
        steps.append(f"upload {archive} and write its link into the card")
    return [*steps, f"run `tiktok-dm submit check {folder} --dataset {dataset}`"]


def seed_folders(predictions: Path) -> dict[int, Path]:
    """Subfolders of predictions that are named by a seed; without any, the folder itself as seed 0.

    Raises:
        UserError: no such folder.
    """
    if not predictions.is_dir():
        raise UserError(f"there is no folder {predictions}: give the folder that holds the music")
    found = {
        int(path.name): path
        for path in sorted(predictions.iterdir())
        if path.is_dir() and path.name.isascii() and path.name.isdigit()
    }
    return dict(sorted(found.items())) or {0: predictions}


def _listed(predictions: Mapping[int, Path], benchmark: OpenBenchmark) -> dict[tuple[int, str], Path]:
    """Each file by seed and benchmark id; ids that the benchmark lacks keep their names, for the check to tell of."""
    listed: dict[tuple[int, str], Path] = {}
    problems = []
    for seed, place in sorted(predictions.items()):
        files, findings = sound_files(place)
        problems += [
            Problem(
                f"{place.name}/{path.name}", None, None, "it is no wav file: write the music as wav, 22,050 Hz, mono"
            )
            for path in files.values()
            if path.suffix.lower() != ".wav"
        ]
        found, more = pair(benchmark.reference, files)
        for finding in [*findings, *more]:
            if finding.kind == "ambiguous":
                problems.append(Problem(place.name, None, None, str(finding)))
            elif finding.kind == "extra":
                problems.append(Problem(place.name, None, None, f"{finding.id}: the test split has no such id"))
        listed |= {(seed, name): files[path.stem] for name, path in sorted(found.items()) if isinstance(path, Path)}
    if problems:
        raise ProblemsError(problems, "these predictions cannot be listed")
    return listed


def _entry(seed: int, name: str, path: Path) -> Entry:
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{seed}/{name}.wav cannot be read as sound ({error}): write it again") from error
    return Entry(0, name, seed, sha256_file(path), info.samplerate, info.frames)


def _card(folder: Path, benchmark: OpenBenchmark, seeds: list[int], place: str) -> str:
    return _CARD.format(
        system=json.dumps(folder.parent.name),
        version=json.dumps(folder.name),
        blank=BLANK,
        standing="main" if len(seeds) >= MAIN_SEEDS else "secondary",
        main=MAIN_SEEDS,
        dataset=json.dumps(benchmark.identity.name),
        content=benchmark.content,
        config=benchmark.config,
        seeds=", ".join(map(str, seeds)),
        place=place,
    )


def _pack(folder: Path, archive: Path) -> None:
    """A zip of `SEED/ID.wav`, the same bytes for the same files."""
    beside = archive.with_name(f".{archive.name}.part")
    with zipfile.ZipFile(beside, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as zipped:
        for path in sorted(folder.rglob("*.wav")):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            zipped.writestr(info, path.read_bytes())
    beside.replace(archive)
