"""The authors' preprocessed archives, made a dataset."""
