"""The verb `d2m sample`: videos or a dataset's split in; wav, mp4 and `samples.json` out. Thin; see `sampling`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tiktok_dm.errors import UserError

if TYPE_CHECKING:
    from d2m_model.sampling.dance import Dance
    from d2m_model.sampling.sampler import DanceToMusic, Music, PreparedDance

RECORD = "samples.json"


def sample(
    checkpoint: Annotated[str, typer.Argument(help="Model folder, or its id on the Hugging Face hub.")],
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or one folder of a built dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.wav, NAME.mp4 and samples.json.")],
    codec: Annotated[Path | None, typer.Option(help="Codec folder or vqvae.pth.tar; the model's own if left.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    overlap: Annotated[float, typer.Option(help="Share of a 2-s window that the next one overlaps, 0 to 0.5.")] = 0.25,
    batch: Annotated[int, typer.Option(help="Windows that go through the model at once.")] = 16,
    seed: Annotated[int, typer.Option(help="Recorded; the model takes no noise, so the music is the same.")] = 0,
    loudness: Annotated[float, typer.Option(help="Integrated loudness to reach, LUFS.")] = -16.0,
    denoise: Annotated[bool, typer.Option("--denoise", help="Spectral gate against even noise.")] = False,
    float_wav: Annotated[bool, typer.Option("--float", help="32-bit float wav instead of 16-bit.")] = False,
    no_video: Annotated[bool, typer.Option("--no-video", help="Write wav files only.")] = False,
    dancer: Annotated[int, typer.Option(help="Which dancer leads, from 0 by size.")] = 0,
    genre: Annotated[int | None, typer.Option(help="Index, for a model with genres.")] = None,
    split: Annotated[str, typer.Option(help="Of a dataset; all for the whole of it.")] = "test",
    force: Annotated[bool, typer.Option("--force", help="Write existing files anew.")] = False,
) -> None:
    """Make music for dance videos: NAME.wav, and NAME.mp4 with the video's own pictures."""
    import torch

    from d2m_model.motion import N_JOINTS
    from d2m_model.sampling.dance import has_clips
    from d2m_model.sampling.music_file import check_loudness
    from d2m_model.sampling.sampler import DanceToMusic

    folders = [path for path in inputs if path.is_dir()]
    if folders and len(inputs) > 1:
        raise UserError("Give either videos or one dataset folder, not both and not several folders.")
    torch.manual_seed(seed)
    check_loudness(loudness)
    maker = DanceToMusic.from_pretrained(checkpoint, codec, device, overlap=overlap, batch=batch)
    visual = bool(maker.config.visual_features)
    if not (folders and maker.config.genres and genre is None):  # a dataset's rows may tell their own
        maker.check_inputs(visual and bool(folders), genre)
    job = _Job(maker, checkpoint, out, inputs, genre, seed, loudness, denoise, float_wav, not no_video, force)
    if maker.licence:
        typer.echo(maker.licence)
    if not folders:
        dances = _dances_of_videos(inputs, dancer)
    elif has_clips(folders[0]) and maker.config.motion_features in (0, N_JOINTS * 3):
        dances = _dances_of_clips(folders[0], split, dancer, visual)
    else:
        dances = _dances_of_segments(folders[0], split)
    job.run(dances, batch)
    if job.failures:
        raise UserError(f"{len(job.failures)} of {job.count} failed, as said above: {', '.join(job.failures)}.")


Loader = Callable[[], "Dance"]


def _dances_of_videos(paths: list[Path], dancer: int) -> Iterator[tuple[str, Loader]]:
    from d2m_model.sampling.dance import dance_from_video

    for path in paths:
        yield path.stem, partial(dance_from_video, path, dancer=dancer)


def _dances_of_clips(folder: Path, split: str, dancer: int, visual: bool) -> Iterator[tuple[str, Loader]]:
    from d2m_model.sampling.dance import clip_name, dance_from_clip, read_clips, read_visual

    seen = read_visual(folder, split) if visual else {}
    for row in read_clips(folder, split):
        yield clip_name(row), partial(dance_from_clip, row, dancer=dancer, visual=seen.get(int(row["clip_id"])))


def _dances_of_segments(folder: Path, split: str) -> Iterator[tuple[str, Loader]]:
    """Each segment by itself, named by its id: where there are no clips, or none with the model's skeleton."""
    from d2m_model.sampling.dance import dance_from_segment, read_segments

    for row in read_segments(folder, split):
        yield str(row["segment_id"]), partial(dance_from_segment, row)


class _Job:
    """One call: dances are gathered until their windows fill a batch, then made and written; failures are kept."""

    def __init__(
        self,
        maker: DanceToMusic,
        checkpoint: str,
        out: Path,
        inputs: list[Path],
        genre: int | None,
        seed: int,
        loudness: float,
        denoise: bool,
        float_wav: bool,
        video: bool,
        force: bool,
    ) -> None:
        from d2m_model.codec.files import fingerprint

        self.maker, self.out, self.genre, self.loudness = maker, out, genre, loudness
        self.denoise, self.float_wav, self.video, self.force = denoise, float_wav, video, force
        self.failures: list[str] = []
        self.count = 0
        self.names: set[str] = set()
        self.inputs = {path.resolve() for path in inputs}
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"The folder {out} cannot be made: {error.strerror or error}.") from error
        self.records = _read_records(out / RECORD)
        self.common = {
            "checkpoint": checkpoint,
            "preset": maker.config.preset,
            "level": maker.config.level,
            "codec_sha256": fingerprint(maker.codec),  # type: ignore[arg-type]
            "licence": maker.licence,
            "seed": seed,
            "overlap": maker.overlap,
            "denoise": denoise,
            "device": str(maker.device),
        }

    def run(self, dances: Iterator[tuple[str, Loader]], batch: int) -> None:
        """Make and write everything; `samples.json` is up to date after each group."""
        waiting: list[PreparedDance] = []
        windows = 0
        for name, load in dances:
            self.count += 1
            try:
                self.check_name(name)
                prepared = self.maker.prepare(load())
            except UserError as error:
                self.fail(name, error)
                continue
            waiting.append(prepared)
            windows += len(prepared.plan.starts)
            if windows >= batch:
                self.make(waiting)
                waiting, windows = [], 0
        self.make(waiting)

    def check_name(self, name: str) -> None:
        """Raise `UserError` if the files of that name cannot be written, before any work is done for them."""
        from d2m_model.sampling.music_file import check_free

        if name in self.names:
            raise UserError(f"another input is called {name} too; rename one of them, or sample it into another folder")
        self.names.add(name)
        for path in (self.out / f"{name}.wav", self.out / f"{name}.mp4"):
            if path.resolve() in self.inputs:
                raise UserError(f"{path} is the input itself; choose another folder")
            if path.suffix == ".wav" or self.video:
                check_free(path, self.force)

    def fail(self, name: str, error: UserError) -> None:
        self.failures.append(name)
        typer.echo(f"{name}: {error}", err=True)

    def make(self, dances: list[PreparedDance]) -> None:
        """Music for some dances, written and recorded."""
        if not dances:
            return
        began = time.perf_counter()
        made = self.maker.many(dances, self.genre)
        factor = sum(music.duration_s for music in made) / (time.perf_counter() - began)
        for one, music in zip(dances, made, strict=True):
            try:
                self.write(one.dance, music, factor)
            except UserError as error:
                self.fail(one.dance.name, error)
        self.write_records()

    def write(self, dance: Dance, music: Music, factor: float) -> None:
        from d2m_model.sampling.music_file import denoise, metadata, set_loudness, write_film, write_wav

        config = self.maker.config
        texts = metadata(music.licence, dance.source, f"D2M-GAN ({config.preset}, {config.level} level)")
        audio = denoise(music.audio, music.sample_rate) if self.denoise else music.audio
        loud = set_loudness(audio, music.sample_rate, self.loudness)
        wav, film = self.out / f"{dance.name}.wav", self.out / f"{dance.name}.mp4"
        write_wav(wav, loud.audio, music.sample_rate, texts, float_samples=self.float_wav, force=self.force)
        record = self.records[dance.name] = {
            "name": dance.name,
            "source": dance.source,
            "wav": wav.name,
            "video": None,
            "seconds": round(music.duration_s, 6),
            "windows": len(music.plan.starts),
            "loudness_lufs": None if loud.lufs is None else round(loud.lufs, 2),
            "gain_db": round(loud.gain_db, 2),
            **self.common,
            "realtime_factor": round(factor, 3),
        }
        if self.video and dance.video is not None:
            write_film(film, dance.video, loud.audio, music.sample_rate, texts, force=self.force)
            record["video"] = film.name
        typer.echo(f"{wav} ({music.duration_s:.1f} s, {factor:.1f} times as fast as it plays)")

    def write_records(self) -> None:
        from tiktok_dm.files import write_atomic

        entries = [self.records[name] for name in sorted(self.records)]
        text = json.dumps({"samples": entries}, indent=2, ensure_ascii=False)
        write_atomic(self.out / RECORD, f"{text}\n".encode())


def _read_records(path: Path) -> dict[str, dict[str, Any]]:
    """Entries of an earlier call into the same folder, by name: they are kept."""
    if not path.exists():
        return {}
    try:
        return {str(entry["name"]): dict(entry) for entry in json.loads(path.read_text(encoding="utf-8"))["samples"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no record of earlier samples: move it away or choose another folder.") from error
