"""AIST's videos and music in a folder, found by their names, and where a dance's sound comes from.

Not for AIST++'s annotations: those are `aist_layout`'s.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tiktok_dm import schema
from tiktok_dm.errors import MediaError, UserError
from tiktok_dm.importers.aist.layout import Sequence

_VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".avi")
_SOUND = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
_KEPT_SOUNDS = 6  # the songs of a genre


class AistMedia:
    """The videos of one camera and the music under a folder, by name."""

    def __init__(self, root: Path, camera: str) -> None:
        if not root.is_dir():
            raise UserError(f"there is no folder {root}: name the one with AIST's videos or music")
        self.root, self.camera = root, camera
        self.files: dict[str, Path] = {}
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in (*_VIDEO, *_SOUND) and path.is_file() and not path.name.startswith("."):
                self.files.setdefault(path.stem, path)
        self._has_sound: dict[Path, bool] = {}
        self._sounds: dict[Path, np.ndarray] = {}

    def video(self, sequence: Sequence) -> Path | None:
        """The camera's video of a sequence."""
        path = self.files.get(sequence.video(self.camera))
        return path if path is not None and path.suffix.lower() in _VIDEO else None

    def sound(self, sequence: Sequence) -> Path | None:
        """Where a sequence's sound comes from: its video, if that has any, else the music.

        Raises:
            MediaError: the video cannot be read, and there is no music.
        """
        video, music = self.video(sequence), self.files.get(sequence.music)
        if video is None:
            return music
        try:
            if video not in self._has_sound:
                from tiktok_dm.media import probe

                self._has_sound[video] = probe(video).audio is not None
        except MediaError:
            if music is None:
                raise
            return music
        return video if self._has_sound[video] else music

    def read(self, path: Path) -> np.ndarray:
        """All of a file's sound, 22,050 Hz mono; a few are kept, since many dances share a music."""
        from tiktok_dm.media import read_audio

        if path not in self._sounds:
            if len(self._sounds) >= _KEPT_SOUNDS:
                del self._sounds[next(iter(self._sounds))]
            self._sounds[path] = read_audio(path, sample_rate=schema.SAMPLE_RATE)
        return self._sounds[path]
