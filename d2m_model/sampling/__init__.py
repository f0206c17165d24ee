"""Music for dances: a dance's poses, the windows that a model sees, joining them, and the files that come out."""
