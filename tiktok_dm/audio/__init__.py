"""Finding music again: sketches and their alignment, an index of songs, landmark fingerprints."""
