"""From raw compilations to reviewed annotations: a program proposes cuts, songs and dancers, and a person confirms."""
