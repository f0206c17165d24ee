"""Probing, decoding, cutting, encoding and muxing, on films whose every instant is known."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import media_factory as factory
import numpy as np
import pytest
import soundfile

from tiktok_dm import media
from tiktok_dm.errors import MediaError

NTSC = Fraction(30000, 1001)
NTSC60 = Fraction(60000, 1001)


def numbered_film(path: Path, n: int, fps: Fraction = Fraction(30), **more) -> Path:
    stamps, base = factory.constant(n, fps)
    return factory.film(path, [factory.numbered(i) for i in range(n)], stamps, base, **more)


def numbers(path: Path, **more) -> list[int]:
    return [factory.number_of(rgb) for _, rgb in media.read_frames(path, **more)]


# --- probe


def test_probe_tells_what_a_film_holds(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 90, NTSC, sound=factory.clicks([1.0], 3.0, 44100, 2), sample_rate=44100)
    found = media.probe(film)
    assert (found.width, found.height, found.n_frames, found.rotation) == (96, 64, 90, 0)
    assert (found.fps_rational, found.video_codec, found.start_s) == ("30000/1001", "h264", 0.0)
    assert found.fps == pytest.approx(30000 / 1001)
    assert found.duration_s == pytest.approx(90 * 1001 / 30000, abs=0.03)
    assert found.audio is not None
    assert (found.audio.sample_rate, found.audio.channels, found.audio.codec) == (44100, 2, "aac")
    assert found.audio.duration_s == pytest.approx(3.0, abs=0.03)


def test_probe_counts_from_the_first_instant_of_a_transport_stream(tmp_path: Path) -> None:
    stamps = [126_000 + 3000 * k for k in range(60)]  # such a stream's clock does not begin at 0
    film = factory.film(tmp_path / "a.ts", [factory.numbered(i) for i in range(60)], stamps, Fraction(1, 90000))
    assert media.probe(film).start_s == pytest.approx(1.4)
    assert media.probe(film).duration_s == pytest.approx(2.0, abs=1e-3)
    times = [t for t, _ in media.read_frames(film)]
    assert times == pytest.approx(np.arange(60) / 30, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.mp4", None, "does not exist"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is a page that says the video is gone\n" * 50, "not a video"),
        ("page.mp4", b"<html><body>404</body></html>", "not a video"),
        ("noise.mp4", np.random.default_rng(0).bytes(5000), "not a video"),
    ],
)
def test_what_is_no_video_is_said_in_one_sentence(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=words) as caught:
        media.probe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_a_picture_and_sound_alone_are_no_videos(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(_png())
    (tmp_path / "sound.wav").write_bytes(media.encode_audio(np.zeros(4410), 44100, "wav"))
    for path, words in [
        (tmp_path, "not a file"),
        (tmp_path / "picture.png", "not a video"),
        (tmp_path / "sound.wav", "no moving picture"),
    ]:
        with pytest.raises(MediaError, match=words):
            media.probe(path)


def _png() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(factory.numbered(3)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_film_without_its_index_is_called_truncated(tmp_path: Path) -> None:
    whole = numbered_film(tmp_path / "a.mp4", 60).read_bytes()
    (tmp_path / "half.mp4").write_bytes(whole[: len(whole) // 2])  # this writer puts the index last
    with pytest.raises(MediaError, match="truncated"):
        media.probe(tmp_path / "half.mp4")


# --- pictures


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_upright(tmp_path: Path, rotation: int) -> None:
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48] = (250, 0, 0)  # red in the upper left, blue in the lower right
    upright[32:, 48:] = (0, 0, 250)
    stored = np.ascontiguousarray(np.rot90(upright, rotation // 90))  # turned back, counter-clockwise
    film = factory.film(tmp_path / "a.mp4", [stored] * 5, *factory.constant(5, Fraction(30)), rotation=rotation)
    found = media.probe(film)
    assert (found.width, found.height, found.rotation) == (96, 64, rotation)
    media.cut(film, 0, 5 / 30, tmp_path / "cut.mp4")
    assert media.probe(tmp_path / "cut.mp4").rotation == 0
    for path in (film, tmp_path / "cut.mp4"):
        rgb = media.frame_at(path, 0)
        assert rgb.shape == (64, 96, 3)
        assert rgb[16, 24].argmax() == 0
        assert rgb[16, 24, 0] > 200
        assert rgb[48, 72].argmax() == 2
        assert rgb[48, 24].max() < 40
        cropped = media.frame_at(path, 0, crop=(48, 32, 48, 32))
        assert cropped.shape == (32, 48, 3)
        assert (cropped[4:-4, 4:-4].argmax(-1) == 2).all()


def test_oblong_pixels_are_squared(tmp_path: Path) -> None:
    stamps, base = factory.constant(6, Fraction(25))
    pictures = [factory.numbered(i, 72, 64) for i in range(6)]
    film = factory.film(tmp_path / "a.mp4", pictures, stamps, base, aspect=Fraction(4, 3))
    assert (media.probe(film).width, media.probe(film).height) == (96, 64)
    assert media.frame_at(film, 0).shape == (64, 96, 3)
    done = media.cut(film, 0, 0.24, tmp_path / "cut.mp4")
    assert (done.width, done.height) == (96, 64)
    with av.open(str(tmp_path / "cut.mp4")) as container:
        # Square, or not said: None until PyAV 18, 0 since.
        assert float(container.streams.video[0].sample_aspect_ratio or 0) in (0, 1)


def test_the_grid_takes_every_second_picture_of_5994(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 120, NTSC60)
    grid = list(media.read_frames(film, fps=30))
    assert [t for t, _ in grid] == pytest.approx(np.arange(61) / 30)  # 120 * 1001 / 60000 = 2.002 s: 61 instants
    # The picture on screen at k / 30 s is number floor(k / 30 * 59.94), worked with integers.
    assert [factory.number_of(rgb) for _, rgb in grid] == [k * 60000 // (30 * 1001) for k in range(61)]


def test_the_grid_of_a_variable_rate_gives_what_is_on_screen(tmp_path: Path) -> None:
    stamps, base = factory.variable(60)
    film = factory.film(tmp_path / "a.mp4", [factory.numbered(i) for i in range(60)], stamps, base)
    grid = list(media.read_frames(film, fps=30))
    times = np.array([float(s * base) for s in stamps])
    assert len(grid) > 60
    for k, (t, rgb) in enumerate(grid):
        assert t == pytest.approx(k / 30)
        assert factory.number_of(rgb) == np.searchsorted(times, k / 30 + 1e-9, side="right") - 1


def test_the_grid_of_a_container_that_counts_milliseconds_gives_each_picture_once(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mkv", 90)
    assert numbers(film, fps=30) == list(range(90))


def test_repeated_pictures_of_the_grid_are_independent(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 5, Fraction(10))
    seen = []
    for _, rgb in media.read_frames(film, fps=30):
        seen.append(factory.number_of(rgb))
        rgb[:] = 0
    assert seen == [k // 3 for k in range(15)]


def test_a_span_is_half_open_and_found_behind_a_far_key_frame(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 200, NTSC, gop=150, b_frames=3)
    assert numbers(film, start_s=100 * 1001 / 30000, end_s=110 * 1001 / 30000) == list(range(100, 110))
    assert numbers(film, start_s=5.0, end_s=5.1) == [150, 151, 152]  # 149.85 .. 152.85
    assert numbers(film, start_s=160 * 1001 / 30000, end_s=165 * 1001 / 30000, fps=NTSC) == list(range(160, 165))
    assert factory.number_of(media.frame_at(film, 2.0)) == 59
    assert factory.number_of(media.frame_at(film, 99.0)) == 199


def test_crop_and_size(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 3)
    whole = media.frame_at(film, 0)
    assert np.abs(media.frame_at(film, 0, crop=(16, 16, 33, 31)).astype(int) - whole[16:47, 16:49]).mean() < 3
    assert media.frame_at(film, 0, size=(48, 32)).shape == (32, 48, 3)
    assert media.frame_at(film, 0, crop=(0, 0, 32, 64), max_height=16).shape == (16, 8, 3)
    assert media.to_thumbnail(whole, 32).shape == (32, 48, 3)
    with pytest.raises(ValueError, match="does not lie within"):
        media.frame_at(film, 0, crop=(80, 0, 32, 64))


# --- sound


def test_sound_is_where_its_time_stamps_say(tmp_path: Path) -> None:
    late = factory.clicks([0.25], 1.0, 48000)
    film = numbered_film(tmp_path / "a.mp4", 90, sound=late, sound_from_s=1.5)
    sound = media.read_audio(film, sample_rate=48000, start_s=0, end_s=3)
    assert sound.shape == (144000,)
    assert sound.dtype == np.float32
    assert factory.click_times(sound, 48000) == pytest.approx([1.75], abs=1e-3)
    assert np.abs(sound[:70000]).max() < 1e-3  # silence before the sound begins
    part = media.read_audio(film, sample_rate=22050, start_s=1.7, end_s=1.8)
    assert len(part) == 2205
    assert factory.click_times(part, 22050) == pytest.approx([0.05], abs=1e-3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_any_span_of_sound_equals_the_same_span_of_the_whole(tmp_path: Path, name: str) -> None:
    t = np.arange(48000 * 4) / 48000
    # Sweeps, not noise: decoders of AAC invent noise anew after each seek.
    sweeps = np.stack([0.4 * np.sin(2 * np.pi * (200 + f * t) * t) for f in (100, 150)], axis=1).astype(np.float32)
    film = numbered_film(tmp_path / name, 120, sound=sweeps)
    whole = media.read_audio(film, sample_rate=48000, mono=False)
    for start in (0.31, 1.0, 2.2):
        part = media.read_audio(film, sample_rate=48000, mono=False, start_s=start, end_s=start + 1)
        assert part.shape == (48000, 2)
        lag = 0 if name == "a.mp4" else 48  # the others know times to a millisecond or so
        at = round(start * 48000)
        errors = [np.abs(part[100:40000] - whole[at + 100 + s : at + 40000 + s]).max() for s in range(-lag, lag + 1)]
        assert min(errors) < 2e-4


def test_a_gap_in_the_sound_is_silence(tmp_path: Path) -> None:
    stamps, base = factory.constant(60, Fraction(30))
    path = tmp_path / "a.mkv"
    tone = (0.5 * np.sin(np.arange(96000) / 10)).astype(np.float32)[:, None]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=30)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        heard = out.add_stream("pcm_f32le", rate=48000, layout="mono")
        for i in stamps:
            frame = av.VideoFrame.from_ndarray(factory.numbered(i), format="rgb24")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for at in range(0, 96000, 4800):
            if 24000 <= at < 48000:
                continue  # half a second is missing
            block = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[at : at + 4800].T), "flt", "mono")
            block.sample_rate, block.pts, block.time_base = 48000, at, Fraction(1, 48000)
            out.mux(heard.encode(block))
        out.mux(heard.encode(None))
    assert base == Fraction(1, 30)
    sound = media.read_audio(path, sample_rate=48000, start_s=0, end_s=2)
    assert np.abs(sound[24100:47900]).max() == 0
    # Time stamps in milliseconds: the tone comes back to within half of one.
    assert max(np.abs(sound[48100:90000] - tone[48100 + s : 90000 + s, 0]).max() < 1e-5 for s in range(-24, 25))


def test_mono_is_the_mean_and_silence_without_sound_is_an_error(tmp_path: Path) -> None:
    sound = np.stack([np.full(48000, 0.5), np.full(48000, -0.1)], axis=1).astype(np.float32)
    film = numbered_film(tmp_path / "a.mkv", 30, sound=sound)
    mono = media.read_audio(film, sample_rate=48000, start_s=0.2, end_s=0.8)
    assert mono.mean() == pytest.approx(0.2, abs=0.01)
    with pytest.raises(MediaError, match="has no sound"):
        media.read_audio(numbered_film(tmp_path / "b.mp4", 5))


def test_flac_and_wav_bytes_hold_the_samples() -> None:
    sound = np.linspace(-1.2, 1.2, 2000)
    for format in ("flac", "wav"):
        data = media.encode_audio(sound, 22050, format)
        assert data == media.encode_audio(sound, 22050, format)
        back, rate = soundfile.read(io.BytesIO(data))
        assert rate == 22050
        assert back == pytest.approx(np.clip(sound, -1, 1), abs=1e-4)
    with pytest.raises(ValueError, match="flac"):
        media.encode_audio(sound, 22050, "ogg")


# --- cutting


FILMS = {
    "ntsc": (*factory.constant(240, NTSC), {"every": 20}),
    "pal": (*factory.constant(200, Fraction(25)), {"every": 17, "sample_rate": 44100, "channels": 2}),
    "sixty": (*factory.constant(480, Fraction(60)), {"every": 41}),
    "variable": (*factory.variable(160), {"every": 11}),
    "far-keys": (*factory.constant(240, Fraction(30)), {"every": 20, "gop": 150, "b_frames": 3}),
}


@pytest.mark.parametrize("kind", FILMS)
def test_flash_and_click_stay_together(tmp_path: Path, kind: str) -> None:
    stamps, base, options = FILMS[kind]
    film, flashes = factory.flashing(tmp_path / "a.mp4", stamps, base, **options)
    times = np.array([float(s * base) for s in stamps])
    for start, end in [(0.0, 2.0), (0.517, 3.0), (1.001, 3.2), (2.34, 5.111), (3.9, 6.2)]:
        done = media.cut(film, start, end, tmp_path / "cut.mp4")
        frame = 1 / media.probe(film).fps
        assert abs(done.start_s - start) <= frame
        assert abs(done.end_s - end) <= frame
        expected = [t - done.start_s for t in flashes if done.start_s - 1e-6 <= t < done.end_s - 1e-6]
        pictures = list(media.read_frames(tmp_path / "cut.mp4"))
        assert pictures[0][0] == 0.0
        assert len(pictures) == done.n_frames == ((times > done.start_s - 1e-6) & (times < done.end_s - 1e-6)).sum()
        lit = [t for t, rgb in pictures if rgb.mean() > 128]
        sound = media.read_audio(tmp_path / "cut.mp4", sample_rate=48000)
        heard = factory.click_times(sound, 48000)
        heard = heard[(heard > 0.01) & (heard < done.duration_s - 0.01)]
        assert lit == pytest.approx(expected, abs=1e-3)
        assert len(lit) >= 2
        inner = [t for t in lit if 0.01 < t < done.duration_s - 0.01]
        assert heard == pytest.approx(inner, abs=1e-3)
        assert len(sound) == round(media.probe(tmp_path / "cut.mp4").duration_s * 48000)
        assert media.probe(tmp_path / "cut.mp4").duration_s == pytest.approx(done.duration_s, abs=1e-3)


def test_the_ffmpeg_program_sees_the_same_instants(tmp_path: Path) -> None:
    film, _ = factory.flashing(tmp_path / "a.mp4", *factory.constant(240, NTSC), every=20, b_frames=2)
    done = media.cut(film, 1.1, 5.1, tmp_path / "cut.mp4")
    program = [str(media.ffmpeg_executable()), "-v", "error", "-i", str(tmp_path / "cut.mp4")]
    raw = subprocess.run(
        [*program, "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo", "-"],
        capture_output=True,
        check=True,
    ).stdout
    pictures = np.frombuffer(raw, np.uint8).reshape(-1, 48, 64)
    heard = np.frombuffer(
        subprocess.run([*program, "-f", "f32le", "-ac", "1", "-"], capture_output=True, check=True).stdout, np.float32
    )
    assert len(pictures) == done.n_frames == 120
    lit = np.flatnonzero(pictures.mean((1, 2)) > 128) * 1001 / 30000
    assert factory.click_times(heard, 48000) == pytest.approx(lit, abs=1e-3)
    assert len(heard) == pytest.approx(done.duration_s * 48000, abs=1024)


@pytest.mark.parametrize(("fps", "b_frames", "gop"), [(NTSC, 0, 12), (Fraction(25), 3, 125), (NTSC60, 2, 299)])
def test_the_first_and_last_picture_are_the_right_ones(tmp_path: Path, fps: Fraction, b_frames: int, gop: int) -> None:
    film = numbered_film(tmp_path / "a.mp4", 300, fps, b_frames=b_frames, gop=gop)
    for first, last in [(0, 30), (1, 40), (59, 90), (123, 170), (250, 300)]:
        # Asked for 0.4 of a frame beside the frame, on either side.
        for off in (-0.4, 0.0, 0.4):
            start, end = max(0.0, float((first + off) / fps)), float((last + off) / fps)
            done = media.cut(film, start, end, tmp_path / "cut.mp4")
            assert done.start_s == pytest.approx(float(first / fps), abs=1e-9)
            assert done.end_s == pytest.approx(float(last / fps), abs=1e-9)
            assert done.has_audio is False
            seen = numbers(tmp_path / "cut.mp4")
            assert (seen[0], seen[-1], len(seen)) == (first, last - 1, last - first)


def test_neighbouring_clips_share_no_picture_and_lose_none(tmp_path: Path) -> None:
    stamps, base = factory.variable(90)
    film = factory.film(tmp_path / "a.mp4", [factory.numbered(i) for i in range(90)], stamps, base)
    bounds = [0.0, 0.777, 1.5, 2.222, 3.0]
    seen: list[int] = []
    for start, end in pairwise(bounds):
        done = media.cut(film, start, end, tmp_path / "cut.mp4")
        times = [t for t, _ in media.read_frames(tmp_path / "cut.mp4")]
        part = numbers(tmp_path / "cut.mp4")
        # A variable rate stays one: times between pictures are the source's, to the tick.
        own = np.array([float((stamps[i] - done.start_pts) * base) for i in part])
        assert times == pytest.approx(own, abs=1e-9)
        seen += part
    assert seen == list(range(len(seen)))


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mov", "a.avi"])
def test_other_containers_are_cut_alike(tmp_path: Path, name: str) -> None:
    film = numbered_film(tmp_path / name, 120, sound=factory.clicks([k / 30 for k in (50, 70)], 4.0, 48000))
    done = media.cut(film, 45 / 30, 75 / 30, tmp_path / "cut.mp4")
    first = numbers(tmp_path / "cut.mp4")[0]
    assert first == pytest.approx(45, abs=1)
    assert done.n_frames == 30
    heard = factory.click_times(media.read_audio(tmp_path / "cut.mp4", sample_rate=48000), 48000)
    if name != "a.avi":  # AVI keeps no time stamps of its own for sound and picture
        assert heard == pytest.approx([(50 - first) / 30, (70 - first) / 30], abs=0.03 if name != "a.mov" else 1e-3)


def test_a_long_still_picture_is_cut_in_its_middle(tmp_path: Path) -> None:
    stamps, base = [0, 30, 60, 360, 390, 420], Fraction(1, 300)  # number 2 stays on screen from 0.2 s to 1.2 s
    film = factory.film(tmp_path / "a.mp4", [factory.numbered(i) for i in range(6)], stamps, base)
    done = media.cut(film, 0.7, 1.4, tmp_path / "cut.mp4")
    assert done.start_s == pytest.approx(0.7)
    assert [t for t, _ in media.read_frames(tmp_path / "cut.mp4")] == pytest.approx([0, 0.5, 0.6])
    assert numbers(tmp_path / "cut.mp4") == [2, 3, 4]


def test_sizes_are_even_and_scaled_with_their_aspect(tmp_path: Path) -> None:
    stamps, base = factory.constant(5, Fraction(30))
    odd = [factory.numbered(i, 97, 65) for i in range(5)]
    film = factory.film(tmp_path / "odd.mkv", odd, stamps, base, codec="ffv1", pixel_format="yuv444p")
    done = media.cut(film, 0, 0.1, tmp_path / "cut.mp4")
    assert (done.width, done.height) == (96, 64)
    assert numbers(tmp_path / "cut.mp4") == [0, 1, 2]
    small = media.cut(film, 0, 0.1, tmp_path / "small.mp4", max_height=33)
    assert (small.width, small.height) == (48, 32)
    assert media.cut(film, 0, 0.1, tmp_path / "big.mp4", max_height=720).height == 64


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "yuv444p", "gray"])
def test_all_pixel_formats_become_one(tmp_path: Path, pixel_format: str) -> None:
    stamps, base = factory.constant(5, Fraction(30))
    film = factory.film(
        tmp_path / "a.mkv",
        [factory.numbered(700 + i) for i in range(5)],
        stamps,
        base,
        codec="ffv1",
        pixel_format=pixel_format,
    )
    media.cut(film, 0, 0.1, tmp_path / "cut.mp4")
    with av.open(str(tmp_path / "cut.mp4")) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"
    assert numbers(tmp_path / "cut.mp4") == [700, 701, 702]
    bright = media.frame_at(tmp_path / "cut.mp4", 0)[8, 8].mean()
    assert bright == pytest.approx(230, abs=6)


def test_mono_stays_mono_and_rates_stay(tmp_path: Path) -> None:
    for channels, rate in [(1, 44100), (2, 32000)]:
        film = numbered_film(tmp_path / "a.mp4", 60, sound=factory.clicks([1.0], 2.0, rate, channels), sample_rate=rate)
        done = media.cut(film, 0.5, 1.5, tmp_path / "cut.mp4")
        found = media.probe(tmp_path / "cut.mp4").audio
        assert done.has_audio
        assert found is not None
        assert (found.channels, found.sample_rate, found.duration_s) == (channels, rate, 1.0)


def test_sound_that_comes_late_is_silence_first(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 90, sound=factory.clicks([0.5], 1.0, 48000), sound_from_s=1.0)
    media.cut(film, 0.5, 2.0, tmp_path / "cut.mp4")
    sound = media.read_audio(tmp_path / "cut.mp4", sample_rate=48000)
    assert len(sound) == 72000
    assert factory.click_times(sound, 48000) == pytest.approx([1.0], abs=1e-3)
    assert np.abs(sound[:20000]).max() < 1e-3


def test_silent_sound_is_kept(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 60, sound=np.zeros((96000, 2), np.float32))
    assert media.cut(film, 0.5, 1.5, tmp_path / "cut.mp4").has_audio
    assert np.abs(media.read_audio(tmp_path / "cut.mp4")).max() < 1e-4


def test_a_cut_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    film, _ = factory.flashing(tmp_path / "a.mp4", *factory.constant(90, NTSC), every=20)
    digests = set()
    for name in ("one.mp4", "two.mp4"):
        media.cut(film, 0.4, 2.4, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    code = f"from tiktok_dm import media; media.cut({str(film)!r}, 0.4, 2.4, {str(tmp_path / 'three.mp4')!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    digests.add(hashlib.sha256((tmp_path / "three.mp4").read_bytes()).hexdigest())
    assert len(digests) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "one.mp4", "three.mp4", "two.mp4"]


def test_sampled_pictures_come_with_the_cut(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 90)
    seen: list[tuple[float, int]] = []
    media.cut(
        film, 1, 3, tmp_path / "cut.mp4", on_frame=lambda t, rgb: seen.append((t, factory.number_of(rgb))), sample_s=0.5
    )
    assert [t for t, _ in seen] == pytest.approx([0, 0.5, 1.0, 1.5])
    assert [n for _, n in seen] == [30, 45, 60, 75]


def test_times_past_the_end_are_named(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 60)
    with pytest.raises(MediaError, match=r"1 s to 2\.5 s runs past the end of a\.mp4, which is 2\.00 s long"):
        media.cut(film, 1, 2.5, tmp_path / "cut.mp4")
    assert media.cut(film, 1, 2.03, tmp_path / "cut.mp4").end_s == pytest.approx(2.0)  # within a frame: the end
    with pytest.raises(MediaError, match="shorter than one frame"):
        media.cut(film, 1.0, 1.001, tmp_path / "short.mp4")
    with pytest.raises(ValueError, match="does not end after"):
        media.cut(film, 1, 1, tmp_path / "none.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "cut.mp4"]


def test_a_source_broken_off_in_the_middle_is_said(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    rng = np.random.default_rng(0)
    noise = (0.3 * rng.standard_normal((96000, 1))).astype(np.float32)
    media.write_video(whole, (factory.numbered(i) for i in range(60)), 30, audio=noise, sample_rate=48000)
    data = whole.read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data[: len(data) * 6 // 10])  # the index comes first, so that the file opens
    assert media.probe(broken).duration_s == pytest.approx(2.0, abs=0.01)
    assert media.cut(broken, 0, 0.5, tmp_path / "good.mp4").n_frames == 15
    for start, end in [(0.5, 1.9), (1.6, 2.0)]:
        with pytest.raises(MediaError, match="breaks off at"):
            media.cut(broken, start, end, tmp_path / "bad.mp4")
    assert not (tmp_path / "bad.mp4").exists()


def test_sound_that_goes_on_under_the_last_picture_is_kept(tmp_path: Path) -> None:
    film = numbered_film(tmp_path / "a.mp4", 60, sound=factory.clicks([2.6], 3.0, 48000))
    done = media.cut(film, 1, 3, tmp_path / "cut.mp4")
    assert done.duration_s == pytest.approx(2.0, abs=1e-3)
    assert done.n_frames == 30
    heard = factory.click_times(media.read_audio(tmp_path / "cut.mp4", sample_rate=48000), 48000)
    assert heard == pytest.approx([1.6], abs=1e-3)


def test_no_room_is_an_os_error_with_its_number(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stamps, base = factory.constant(30, Fraction(30))
    film = factory.film(tmp_path / "a.mp4", list(rng.integers(0, 255, (30, 128, 128, 3), np.uint8)), stamps, base)
    code = (
        "import resource, sys; from tiktok_dm import media, errors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "try: media.cut(sys.argv[1], 0, 1, sys.argv[2])\n"
        "except OSError as e: print(e.errno, errors.is_no_room(e))\n"
        "except errors.DiskFull as e: print('full', errors.is_no_room(e))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(film), str(tmp_path / "cut.mp4")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(errno.EFBIG), "True"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


# --- writing


def test_a_written_film_holds_pictures_and_sound(tmp_path: Path) -> None:
    sound = factory.clicks([0.5, 1.5], 2.0, 22050)[:, 0]
    media.write_video(
        tmp_path / "a.mp4", (factory.numbered(i) for i in range(60)), 30, audio=sound, sample_rate=22050, gop_s=0.5
    )
    assert numbers(tmp_path / "a.mp4") == list(range(60))
    found = media.probe(tmp_path / "a.mp4")
    assert (found.duration_s, found.fps_rational, found.n_frames) == (2.0, "30/1", 60)
    assert factory.click_times(media.read_audio(tmp_path / "a.mp4"), 22050) == pytest.approx([0.5, 1.5], abs=1e-3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [p.pts * p.time_base for p in container.demux(video=0) if p.is_keyframe]
    assert keys == [0, 0.5, 1, 1.5]
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    media.write_video(
        tmp_path / "b.mp4", (factory.numbered(i) for i in range(60)), 30, audio=sound, sample_rate=22050, gop_s=0.5
    )
    assert (tmp_path / "b.mp4").read_bytes() == data


def test_colours_and_sizes_survive_writing(tmp_path: Path) -> None:
    picture = np.zeros((61, 81, 3), np.uint8)
    picture[:, :40], picture[:, 40:] = (200, 60, 30), (30, 90, 220)
    media.write_video(tmp_path / "a.mp4", [picture] * 3, Fraction(30000, 1001))
    rgb = media.frame_at(tmp_path / "a.mp4", 0)
    assert rgb.shape == (60, 80, 3)
    assert rgb[30, 20].astype(int) == pytest.approx([200, 60, 30], abs=5)
    assert rgb[30, 60].astype(int) == pytest.approx([30, 90, 220], abs=5)
    media.write_video(tmp_path / "b.mp4", [picture] * 3, 25, size=(40, 30))
    assert media.frame_at(tmp_path / "b.mp4", 0).shape == (30, 40, 3)
    with pytest.raises(ValueError, match="no frames"):
        media.write_video(tmp_path / "c.mp4", [], 25)
    with pytest.raises(ValueError, match="frame 1 is"):
        media.write_video(tmp_path / "c.mp4", [picture, picture[:10]], 25)
    assert not (tmp_path / "c.mp4").exists()


def test_new_sound_leaves_the_picture_as_it_was(tmp_path: Path) -> None:
    film, flashes = factory.flashing(tmp_path / "a.mp4", *factory.constant(90, NTSC), every=25, b_frames=2)
    sound = factory.clicks(flashes, 3.0, 22050, 2)
    media.mux_audio(film, sound, 22050, tmp_path / "b.mp4")
    for path in (film, tmp_path / "b.mp4"):
        assert [t for t, rgb in media.read_frames(path) if rgb.mean() > 128] == pytest.approx(flashes)
    heard = media.read_audio(tmp_path / "b.mp4", sample_rate=22050)
    assert factory.click_times(heard, 22050) == pytest.approx(flashes, abs=1e-3)

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(video=0) if p.size]

    assert packets(film) == packets(tmp_path / "b.mp4")


def test_a_jpeg_is_a_small_picture() -> None:
    from PIL import Image

    data = media.encode_jpeg(factory.numbered(341))
    assert data == media.encode_jpeg(factory.numbered(341))
    assert factory.number_of(np.asarray(Image.open(io.BytesIO(data)))) == 341


def test_ffmpeg_is_found() -> None:
    program = media.ffmpeg_executable()
    assert program is not None
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("ffmpeg version")


@pytest.mark.parametrize(
    "body", ["#!/bin/sh\nexit 127\n", "#!/nowhere/sh\n", "\x7fELF"], ids=["127", "no shell", "damaged"]
)
@pytest.mark.parametrize("packaged", [True, False])
def test_an_ffmpeg_program_that_does_not_start_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, packaged: bool
) -> None:
    broken = tmp_path / "first" / "ffmpeg"
    broken.parent.mkdir()
    broken.write_text(body)
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(broken.parent))
    media.ffmpeg_executable.cache_clear()
    if not packaged:
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    found = media.ffmpeg_executable()
    assert (found is not None) is packaged
    assert found != str(broken)
    working = tmp_path / "second" / "ffmpeg"
    working.parent.mkdir()
    working.write_text("#!/bin/sh\nexit 0\n")
    working.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}{os.pathsep}{working.parent}")
    media.ffmpeg_executable.cache_clear()
    assert media.ffmpeg_executable() == str(working)
    media.ffmpeg_executable.cache_clear()


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_title_that_is_no_utf8_does_not_matter(tmp_path: Path, suffix: str) -> None:
    """PyAV 18 is told to replace such bytes, PyAV 19 does it by itself."""
    numbered_film(tmp_path / "plain.mp4", 30)
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(tmp_path / f"a.{suffix}"), "w") as out:
        out.metadata["title"] = "Caf\u00e9 Caf\u00e9"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = (tmp_path / f"a.{suffix}").read_bytes()
    assert b"Caf\xc3\xa9 Caf" in data
    (tmp_path / f"b.{suffix}").write_bytes(data.replace(b"Caf\xc3\xa9 Caf", b"Caf\xe9\xff Caf"))
    assert media.probe(tmp_path / f"b.{suffix}").n_frames in (30, None)
    assert numbers(tmp_path / f"b.{suffix}") == list(range(30))


# --- real footage


def test_clips_of_a_real_compilation_start_within_a_frame(shared_data: Path, tmp_path: Path) -> None:
    film = shared_data / "compilations" / "compilation_b.mp4"
    truth = json.loads((shared_data / "compilations" / "compilation_b.truth.json").read_text())
    frame = 1001 / 30000
    for clip in truth["clips"]:
        done = media.cut(film, clip["start_s"], clip["end_s"], tmp_path / "cut.mp4", preset="ultrafast", max_height=180)
        assert abs(done.start_s - clip["start_s"]) <= frame
        assert abs(done.end_s - clip["end_s"]) <= frame
        assert done.n_frames == clip["end_frame"] - clip["start_frame"]
        theirs = media.frame_at(film, clip["start_s"], size=(done.width, done.height)).astype(int)
        ours = media.frame_at(tmp_path / "cut.mp4", 0).astype(int)
        assert np.abs(ours - theirs).mean() < 8
        source = media.read_audio(film, start_s=done.start_s, end_s=done.end_s)
        stored = media.read_audio(tmp_path / "cut.mp4", start_s=0, end_s=done.duration_s)
        assert len(source) == len(stored)
        assert np.corrcoef(source, stored)[0, 1] > 0.99
