"""Probe, decode, cut, encode and mux: the only package that knows codecs and containers.

For everything that touches a video or a sound file. Not for what the pictures mean (`content_box`, `pose`) and not for
what the sound means (`pipeline.music`).

Time is counted everywhere in seconds from the first instant of the file. Pictures are uint8 RGB `(H, W, 3)`, upright
(rotation flags applied) and with square pixels. Sound is float32 in -1..1, `(samples,)` for mono or
`(samples, channels)`. PyAV carries its own FFmpeg libraries, so none of this needs a system package.
"""

from tiktok_dm.media.cutting import Cut, cut
from tiktok_dm.media.encoding import encode_audio, encode_jpeg, ffmpeg_executable, mux_audio, write_video
from tiktok_dm.media.frames import frame_at, read_frames, to_thumbnail
from tiktok_dm.media.sound import read_audio
from tiktok_dm.media.source import AudioProbe, Probe, probe

__all__ = [
    "AudioProbe",
    "Cut",
    "Probe",
    "cut",
    "encode_audio",
    "encode_jpeg",
    "ffmpeg_executable",
    "frame_at",
    "mux_audio",
    "probe",
    "read_audio",
    "read_frames",
    "to_thumbnail",
    "write_video",
]
