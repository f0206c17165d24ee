"""Films of many containers, codecs and clocks, whose frames carry numbers: cut to the frame, muxed without a loss.

The films are made by an ffmpeg program; without one these tests are skipped. Lengths, instants and rates are drawn.
"""

from __future__ import annotations

import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.media_factory import click_times, clicks, number_of, numbered
from tiktok_dm import media
from tiktok_dm.errors import MediaError
from tiktok_dm.media.encoding import ffmpeg_executable
from tiktok_dm.media.sound import mixed_down

FFMPEG = ffmpeg_executable()
pytestmark = pytest.mark.skipif(
    FFMPEG is None, reason="these films are made by an ffmpeg program, and none starts here"
)
RATE = 48_000

# name: file name, frame rate, options of picture and sound, further steps on the finished file.
KINDS: dict[str, tuple[str, str, str, str]] = {
    "mp4 h264": ("a.mp4", "30", "-c:v libx264 -c:a aac", ""),
    "mkv h264 b-frames": ("a.mkv", "30", "-c:v libx264 -bf 3 -c:a aac", ""),
    "mkv hevc": ("a.mkv", "25", "-c:v libx265 -preset ultrafast -x265-params log-level=none -c:a aac", ""),
    "mkv h264 open gop": ("a.mkv", "30", "-c:v libx264 -bf 3 -x264-params open-gop=1:keyint=20 -c:a flac", ""),
    "mov prores": ("a.mov", "24", "-c:v prores_ks -c:a pcm_s16le", ""),
    "avi mjpeg": ("a.avi", "30", "-c:v mjpeg -q:v 3 -c:a pcm_s16le", ""),
    "avi mpeg4": ("a.avi", "25", "-c:v mpeg4 -q:v 3 -c:a libmp3lame", ""),
    "ogv theora": ("a.ogv", "30", "-c:v libtheora -q:v 8 -c:a libvorbis", ""),
    "webm vp9": ("a.webm", "30", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus", ""),
    "webm vp8": ("a.webm", "30", "-c:v libvpx -b:v 2M -c:a libvorbis", ""),
    "mp4 av1": ("a.mp4", "24", "-c:v libaom-av1 -cpu-used 8 -crf 30 -usage realtime -c:a aac", ""),
    "ts h264": ("a.ts", "30", "-c:v libx264 -c:a aac", ""),
    "ts mpeg2": ("a.ts", "25", "-c:v mpeg2video -q:v 3 -bf 2 -c:a mp2", ""),
    "mpg": ("a.mpg", "30000/1001", "-c:v mpeg1video -q:v 3 -c:a mp2", ""),
    "flv": ("a.flv", "30", "-c:v libx264 -c:a aac", ""),
    "wmv": ("a.wmv", "25", "-c:v wmv2 -q:v 3 -c:a wmav2", ""),
    "3gp": ("a.3gp", "15", "-c:v libx264 -c:a aac", ""),
    "mp4 counts frames": ("a.mp4", "30", "-c:v libx264 -c:a aac -video_track_timescale 30", ""),
    "mp4 counts 24": ("a.mp4", "24", "-c:v libx264 -c:a aac -video_track_timescale 24", ""),
    "mp4 counts 60": ("a.mp4", "60", "-c:v libx264 -c:a aac -video_track_timescale 60", ""),
    "mp4 counts 1000": ("a.mp4", "30000/1001", "-c:v libx264 -c:a aac -video_track_timescale 1000", ""),
    "mp4 fine clock": ("a.mp4", "30", "-c:v libx264 -c:a aac -video_track_timescale 9000000", ""),
    "mp4 ntsc film": ("a.mp4", "24000/1001", "-c:v libx264 -c:a aac", ""),
    "mov whose sound starts late": ("a.mov", "30", "-c:v libx264 -c:a aac", "-itsoffset 1.5"),
    "mkv mpeg4 b-frames": ("a.mkv", "25", "-c:v mpeg4 -q:v 3 -bf 2 -c:a ac3", ""),
    "ts wraps": ("a.ts", "30", "-c:v libx264 -c:a aac -output_ts_offset 95441", ""),
}
QUICK = ("mkv h264 b-frames", "avi mjpeg", "mp4 counts frames", "webm vp8", "ts wraps", "mp4 av1")


def make(folder: Path, kind: str, seconds: float = 4.0) -> tuple[Path, Fraction]:
    """The film of a kind, and its frame rate."""
    name, rate, options, before = KINDS[kind]
    fps = Fraction(rate)
    count = round(seconds * fps)
    sound = clicks(np.arange(0.25, seconds, 0.5), seconds, RATE)
    (folder / "sound.f32").write_bytes(np.ascontiguousarray(sound, np.float32).tobytes())
    frames = b"".join(np.ascontiguousarray(numbered(k)).tobytes() for k in range(count))
    height, width = numbered(0).shape[:2]
    pixels = "yuv422p10le" if "prores" in options else "yuvj420p" if "mjpeg" in options else "yuv420p"
    command = (
        f"{FFMPEG} -v error -y {before} -f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {rate} -i - "
        f"{before} -f f32le -ar {RATE} -ac 1 -i {folder / 'sound.f32'} -pix_fmt "
        f"{pixels} {options} {folder / name}"
    )
    done = subprocess.run(command.split(), input=frames, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this ffmpeg can't make it: {done.stderr.decode().splitlines()[-1][:100]}")
    return folder / name, fps


def numbers(path: Path) -> list[int]:
    return [number_of(picture) for _, picture in media.read_frames(path)]


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_cuts_are_exact_to_the_frame_and_the_sample(kind: str, tmp_path: Path) -> None:
    path, fps = make(tmp_path, kind)
    shown = numbers(path)
    assert shown == sorted(set(shown))
    assert len(shown) >= round(4 * fps) - 1
    times = [t for t, _ in media.read_frames(path)]
    rng = np.random.default_rng(sum(map(ord, kind)))
    for _ in range(3):
        first, last = sorted(rng.choice(len(shown) - 1, 2, replace=False))
        if last - first < 3:
            last = min(first + 3, len(shown) - 1)
        start, end = times[first], times[last]
        cut = media.cut(path, start, end, tmp_path / "cut.mp4")
        assert numbers(tmp_path / "cut.mp4") == shown[first:last], (kind, start, end)
        assert cut.n_frames == last - first
        wanted = round(cut.duration_s * 22_050)
        sound = media.read_audio(path, start_s=cut.start_s, end_s=cut.end_s)
        assert abs(len(sound) - wanted) <= 1
        # A click where the original has one, within two milliseconds, as its frame is counted.
        offset = start - shown[first] / float(fps) + (1.5 if "late" in kind else 0)
        true = [t + offset for t in np.arange(0.25, 4, 0.5) if start + 0.1 < t + offset < end - 0.1]
        if len(true) and np.abs(sound).max() > 0.2:
            heard = click_times(sound, 22_050) + start
            near = [min(abs(h - t) for h in heard) for t in true]
            assert max(near) < (0.03 if kind in ("wmv", "flv", "mpg", "ts mpeg2", "avi mpeg4") else 0.01), (kind, near)


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_new_sound_loses_no_frame(kind: str, tmp_path: Path) -> None:
    path, _ = make(tmp_path, kind, seconds=2.5)
    media.mux_audio(path, np.zeros(22_050, np.float32), 22_050, tmp_path / "out.mp4")
    assert numbers(tmp_path / "out.mp4") == numbers(path)


# ------------------------------------------------------------------------------------------- which streams


def ffmpeg(words: str) -> None:
    subprocess.run([str(FFMPEG), "-v", "error", "-y", *words.split()], check=True, capture_output=True)


def loudest_hz(path: Path, **options: int) -> float:
    sound = media.read_audio(path, **options)  # type: ignore[arg-type]
    return float(np.fft.rfftfreq(len(sound), 1 / 22_050)[np.argmax(np.abs(np.fft.rfft(sound)))])


def test_the_sound_marked_default_is_read_and_another_by_its_number(tmp_path: Path) -> None:
    tones = " ".join(f"-f lavfi -i sine=frequency={hz}:duration=2" for hz in (400, 700, 1100))
    ffmpeg(
        f"-f lavfi -i testsrc2=size=64x64:rate=25:duration=2 {tones} -map 0 -map 1 -map 2 -map 3 -c:v libx264 -c:a aac "
        f"-disposition:a:0 comment -disposition:a:1 0 -disposition:a:2 default {tmp_path / 'a.mkv'}"
    )
    assert loudest_hz(tmp_path / "a.mkv") == pytest.approx(1100, abs=2)
    assert loudest_hz(tmp_path / "a.mkv", track=0) == pytest.approx(400, abs=2)
    assert media.probe(tmp_path / "a.mkv").audio_track == 2
    with pytest.raises(MediaError, match="has no sound track 3: it has 3, counted from 0"):
        loudest_hz(tmp_path / "a.mkv", track=3)
    changed = "-map 0 -c copy -disposition:a:0 default+comment -disposition:a:2 0"
    ffmpeg(f"-i {tmp_path / 'a.mkv'} {changed} {tmp_path / 'b.mkv'}")
    assert loudest_hz(tmp_path / "b.mkv") == pytest.approx(700, abs=2)


def test_surround_does_not_clip_and_opposite_channels_are_heard(tmp_path: Path) -> None:
    full = "|".join(["0.9*sin(2*PI*440*t)"] * 6)
    ffmpeg(f"-f lavfi -i aevalsrc={full}:d=1:s=48000:c=5.1 {tmp_path / 'loud.wav'}")
    sound = media.read_audio(tmp_path / "loud.wav", mono=False)
    assert 0.85 < np.abs(sound).max() <= 0.91
    ffmpeg(f"-f lavfi -i aevalsrc=0.5*sin(2*PI*440*t)|-0.5*sin(2*PI*440*t):d=1:s=48000 {tmp_path / 'opposed.wav'}")
    assert np.abs(media.read_audio(tmp_path / "opposed.wav")).max() == pytest.approx(0.5, abs=0.02)
    ffmpeg(f"-f lavfi -i aevalsrc=0.5*sin(2*PI*440*t)|0.3*sin(2*PI*660*t):d=1:s=48000 {tmp_path / 'stereo.wav'}")
    assert np.abs(media.read_audio(tmp_path / "stereo.wav")).max() == pytest.approx(0.4, abs=0.02)


def test_each_speaker_counts_by_its_share() -> None:
    names = ["FL", "FR", "FC", "LFE", "BL", "BR"]
    mix = mixed_down(np.eye(6, dtype=np.float32), names)
    share = 1 + 2 * 0.5**0.5
    np.testing.assert_allclose(mix[0], np.array([1, 0, 0.5**0.5, 0, 0.5**0.5, 0]) / share, rtol=1e-6)
    np.testing.assert_allclose(mix[1], np.array([0, 1, 0.5**0.5, 0, 0, 0.5**0.5]) / share, rtol=1e-6)
    np.testing.assert_allclose(mixed_down(np.ones((3, 2), np.float32), ["UNK0", "UNK1", "UNK2"]), 1, rtol=1e-6)


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_interlaced_films_have_no_combs_and_all_their_frames(first: str, tmp_path: Path) -> None:
    mode = "interleave_top" if first == "tff" else "interleave_bottom"
    ffmpeg(
        f"-f lavfi -i testsrc2=size=320x240:rate=50:duration=2 -vf tinterlace={mode} -c:v mpeg2video -q:v 2 "
        f"-flags +ilme+ildct {tmp_path / 'a.ts'}"
    )
    assert media.probe(tmp_path / "a.ts").interlaced
    frames = [picture for _, picture in media.read_frames(tmp_path / "a.ts")]
    assert len(frames) in (49, 50)

    def comb(picture: np.ndarray) -> float:
        """How much more lines differ from their neighbours than from those two away: near 1 where nothing is combed."""
        grey = picture.mean(axis=2)
        return float(np.abs(np.diff(grey, axis=0)).mean() / np.abs(grey[2:] - grey[:-2]).mean())

    import av

    with av.open(str(tmp_path / "a.ts")) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert np.median([comb(p) for p in stored]) > 1.5 * np.median([comb(p) for p in frames])
    cut = media.cut(tmp_path / "a.ts", 0.4, 1.2, tmp_path / "cut.mp4")
    assert cut.n_frames == 20
    assert not media.probe(tmp_path / "cut.mp4").interlaced


def test_a_clock_that_wraps_goes_on(tmp_path: Path) -> None:
    # A transport stream counts 2**33 ticks of 1/90,000 s; this one begins 2.2 s before its clock wraps.
    offset = f"{2**33 / 90_000 - 2.2 - 1.4:.3f}"
    film = tmp_path / "a.ts"
    ffmpeg(f"-f lavfi -i testsrc2=size=64x64:rate=25:duration=4 -c:v libx264 -bf 2 -output_ts_offset {offset} {film}")
    assert [media.cut(film, a, b, tmp_path / "c.mp4").n_frames for a, b in ((0.2, 1), (1, 3), (2.4, 3.6))] == [
        20,
        50,
        30,
    ]
    times = [t for t, _ in media.read_frames(film)]
    assert times == pytest.approx([k / 25 for k in range(100)], abs=1 / 90_000)


def test_a_clock_that_jumps_back_is_one_sentence(tmp_path: Path) -> None:
    for k in range(2):
        ffmpeg(f"-f lavfi -i testsrc2=size=64x64:rate=25:duration=3 -c:v libx264 -muxdelay 0 {tmp_path / f'{k}.ts'}")
    (tmp_path / "a.ts").write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    try:
        times = [t for t, _ in media.read_frames(tmp_path / "a.ts")]
        assert len(times) == 150
        assert all(a < b for a, b in pairwise(times))
    except MediaError as error:
        assert "has a clock that jumps back at" in str(error)  # noqa: PT017 - either is right


def test_a_clock_that_jumps_on_is_one_sentence(tmp_path: Path) -> None:
    for k, offset in enumerate((100, 500)):
        ffmpeg(
            "-f lavfi -i testsrc2=size=64x64:rate=25:duration=2 -f lavfi -i sine=duration=2 -c:v libx264 -c:a aac "
            f"-output_ts_offset {offset} {tmp_path / f'{k}.ts'}"
        )
    film = tmp_path / "a.ts"
    film.write_bytes((tmp_path / "0.ts").read_bytes() + (tmp_path / "1.ts").read_bytes())
    assert media.cut(film, 0.2, 1, tmp_path / "c.mp4").n_frames == 20
    for start, end in ((1.6, 2.8), (2.4, 3.6)):
        with pytest.raises(MediaError, match="has a clock that jumps on at 1"):
            media.cut(film, start, end, tmp_path / "c.mp4")
    with pytest.raises(MediaError, match="jumps on"):
        list(media.read_frames(film))


@pytest.mark.parametrize(
    ("name", "make_it", "words"),
    [
        (
            "8192",
            "-f lavfi -i color=black:size=8192x8192:rate=1:d=1 -c:v libx264 -preset ultrafast",
            "8192 x 8192",
        ),
        (
            "streams",
            "-f lavfi -i color=black:size=16x16:rate=5:d=1 " + "-map 0 " * 70 + "-c:v mpeg4",
            "70 streams",
        ),
    ],
)
def test_sizes_that_no_film_has_are_refused_before_decoding(
    tmp_path: Path, name: str, make_it: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg(f"{make_it} {tmp_path / 'a.mkv'}")
    with pytest.raises(MediaError, match=words):
        media.probe(tmp_path / "a.mkv")
    if name == "streams":
        monkeypatch.setenv("TIKTOK_DM_MEDIA_LIMITS", "off")
        assert media.probe(tmp_path / "a.mkv").width == 16
