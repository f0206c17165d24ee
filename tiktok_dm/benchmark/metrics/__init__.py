"""What is measured: beats, alignment with the dance, distributions, genre, copies, intervals."""
