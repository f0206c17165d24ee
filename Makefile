# `make demo` and `make test` make the environment themselves. No system package is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
DEMO ?= demo

.PHONY: env demo test lint benchmark clean help

help:
	@echo "make demo        build the embedded demo dataset into $(DEMO)/ (report: $(DEMO)/report.html)"
	@echo "make test        the default test run"
	@echo "make lint        ruff and mypy"
	@echo "make benchmark   the build's speed and memory, as ratios"
	@echo "make clean       remove the demo; the environment stays"

env: $(STAMP)

# PyTorch first and alone: whatever comes after finds it there and pulls no other build.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[model,test]"
	$(BIN)/python -c "from tiktok_dm.pipeline.music import warm_up; warm_up()"  # librosa compiles its loops once
	rm -f $(VENV)/.ready-*
	touch $@

demo: env
	$(BIN)/tiktok-dm build --demo --out $(DEMO)

test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: env
	$(BIN)/python benchmarks/build.py

clean:
	rm -rf demo demo.work
