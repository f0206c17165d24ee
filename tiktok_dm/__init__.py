"""Dance-video compilations to a published, song-disjoint dance-music dataset, and its benchmark."""

__version__ = "0.1.0"
