"""The build: plan, stages, export, and what can be asked of a finished dataset."""
