"""Tables of compilations, clips and songs: read, checked, split by song, imported."""
