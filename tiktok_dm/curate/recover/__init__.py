"""The times of clips whose order, songs and lengths are known, found again in their compilations."""
