"""Sound through a codec and back: what the baseline "ground truth through a codec" is made with.

A system that predicts a codec's codes can't do better than the codec, so its table wants that codec's row. This package
knows no model: a codec is found by a name that another package registers under the entry point group
`tiktok_dm.codecs`, or by an import path. The one built in, AAC, is nobody's upper bound, only a lossy codec that every
installation has. Not for writing files (`tiktok_dm.media`).
"""

from __future__ import annotations

import importlib
import io
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tiktok_dm.errors import UserError
from tiktok_dm.plugins import added, load

GROUP = "tiktok_dm.codecs"
DEFAULT = "aac:32"


@runtime_checkable
class CodecRoundTrip(Protocol):
    """Codes and decodes.

    Attributes:
        name: what tables call it, with its settings.
        licence: the sentence that its output carries; empty where there is none.
    """

    name: str
    licence: str

    def __call__(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Mono float32 (samples,) at `sample_rate` Hz as it comes back: same rate, not shifted, about as long."""


def open_codec(spec: str) -> CodecRoundTrip | None:
    """The codec that a user names.

    Args:
        spec: `NAME` or `NAME:ARGUMENT`, where NAME is `aac` (ARGUMENT: kbit/s), a name registered under the entry point
            group `tiktok_dm.codecs`, or an import path `package.module:function`. What is found is called with the
            argument, or without one, and gives a `CodecRoundTrip`. `none` gives None.

    Raises:
        UserError: nothing by that name, or it cannot be opened.
    """
    if spec.lower() == "none":
        return None
    name, _, argument = spec.partition(":")
    if name == "aac":
        return AAC(_kilobits(argument or "32"))
    if "." in name:
        function, _, argument = argument.partition(":")
        make: Any = _imported(name, function, spec)
    else:
        if name not in added("codecs"):
            known = ", ".join(["none", "aac", *added("codecs")])
            raise UserError(
                f"there is no codec {name!r}: choose one of {known}, or give package.module:function:ARGUMENT"
            )
        make = load("codecs", name)
    codec = make(argument) if argument else make()
    if not isinstance(codec, CodecRoundTrip):
        raise UserError(f"{spec} gives no codec: it should have a name and a licence, and take (audio, sample_rate)")
    return codec


def _imported(module: str, function: str, spec: str) -> Any:
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"the codec {spec} cannot be imported ({error}): give package.module:function:ARGUMENT"
        ) from error


def _kilobits(text: str) -> int:
    if not text.isdecimal() or not 8 <= int(text) <= 256:
        raise UserError(f"AAC takes 8 to 256 kbit/s, not {text!r}: write aac:32 for instance")
    return int(text)


class AAC:
    """AAC-LC by FFmpeg's own encoder (inside PyAV), mono. It is no neural codec and bounds no model.

    Args:
        kilobits: a second.
    """

    licence = ""

    def __init__(self, kilobits: int) -> None:
        import av

        self.kilobits = kilobits
        version = ".".join(str(part) for part in av.library_versions["libavcodec"])
        self.name = f"AAC-LC {kilobits} kbit/s mono (FFmpeg, libavcodec {version})"

    def __call__(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """See `CodecRoundTrip`; exactly as long as it came, clipped to -1..1."""
        import av

        if not len(audio):
            return np.zeros(0, np.float32)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            stream: Any = container.add_stream("aac", rate=sample_rate, layout="mono")
            stream.codec_context.bit_rate = 1000 * self.kilobits
            stream.codec_context.flags |= 0x800000  # AV_CODEC_FLAG_BITEXACT
            stream.codec_context.time_base = Fraction(1, sample_rate)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[None], np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        buffer.seek(0)
        out = np.zeros(len(audio), np.float32)
        with av.open(buffer, "r") as container:
            for decoded in container.decode(audio=0):
                # The encoder's delay has negative times.
                first = round(float(decoded.time or 0.0) * sample_rate)
                samples = decoded.to_ndarray()[0]
                start, end = max(first, 0), min(first + len(samples), len(out))
                if end > start:
                    out[start:end] = samples[start - first : end - first]
        return np.clip(out, -1, 1)
