# `make demo` and `make test` make the environment themselves. No system package is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
DEMO ?= demo

.PHONY: env demo demo-model test test-slow test-mmpose lint benchmark clean help

help:
	@echo "make demo        build the embedded demo dataset into $(DEMO)/ (report: $(DEMO)/report.html)"
	@echo "make demo-model  train a small model on the demo's dances, let it make music, and score it"
	@echo "make test        the default test run"
	@echo "make test-slow   tests that take minutes"
	@echo "make test-mmpose what wants mmpose or transformers, in an environment of its own"
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

# The model's demo, step by step as it can be run by hand. About a quarter of an hour on two quiet cores.
demo-model: env
	$(BIN)/tiktok-dm demo-segments demo_segments --songs 240 --clips 720 --test-share 0.05
	$(BIN)/d2m codec train configs/codec/demo.yaml
	$(BIN)/d2m train configs/demo.yaml
	$(BIN)/d2m plot runs/demo
	$(BIN)/tiktok-dm build --demo --clips 24 --songs 12 --out demo_dances
	$(BIN)/d2m sample runs/demo/best demo_dances --split all --out demo_music --force
	$(BIN)/python tools/score_demo_model.py demo_music demo_dances --split all --json demo_music/score.json

test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: env
	$(BIN)/python -m pytest -m slow

# MMPose is installed without its dependency list, which no longer resolves: in an environment of its own that borrows the
# packages of the first one, and is kept until the set changes.
VENV_MMPOSE ?= .venv-mmpose
STAMP_MMPOSE := $(VENV_MMPOSE)/.ready-$(shell cat pyproject.toml constraints.txt tiktok_dm/pose/install_mmpose.py | cksum | cut -d' ' -f1)
PURELIB := -c "import sysconfig; print(sysconfig.get_path('purelib'))"

$(STAMP_MMPOSE): $(STAMP)
	test -x $(VENV_MMPOSE)/bin/python || $(PYTHON) -m venv $(VENV_MMPOSE)
	$(BIN)/python $(PURELIB) > "$$($(VENV_MMPOSE)/bin/python $(PURELIB))/base.pth"
	$(VENV_MMPOSE)/bin/python -m tiktok_dm.pose.install_mmpose
	rm -f $(VENV_MMPOSE)/.ready-*
	touch $@

test-mmpose: $(STAMP_MMPOSE)
	$(VENV_MMPOSE)/bin/python -m pytest tests/pose/test_mmpose.py tests/pose/test_vitpose.py tests/visual/test_video_backbone.py \
		tests/benchmark/test_embedders.py::test_clap_runs_on_a_saved_model

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: env
	$(BIN)/python benchmarks/build.py

clean:
	rm -rf demo demo.work demo_segments demo_dances demo_dances.work demo_music runs/demo runs/codec_demo
