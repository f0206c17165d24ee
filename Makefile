# `make demo` and `make test` make the environment themselves. No system package is needed; the browser's tests are run
# where Chromium is, and the two that decode by torchcodec where FFmpeg's shared libraries are.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)
DEMO ?= demo
# PyTorch is installed first and alone, so that whatever comes after finds it there and pulls no other build. `TORCH=torch`
# takes the newest instead (on Linux a build for CUDA, several GB).
TORCH ?= torch==2.13.0
# What `make test` leaves to targets of their own.
DEFAULT := not slow and not install and not faults and not hostile
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: env demo demo-model test test-slow test-faults test-hostile test-mmpose test-wheel test-oldest test-newest test-processors lint benchmark \
	dist check-version audit docs clean help

help:
	@echo "make demo        build the embedded demo dataset into $(DEMO)/ (report: $(DEMO)/report.html)"
	@echo "make demo-model  train a small model on the demo's dances, let it make music, and score it"
	@echo "make test        the default test run"
	@echo "make test-slow   tests that take minutes"
	@echo "make test-faults kills and disk failures at every change of a file"
	@echo "make test-hostile thousands of hostile inputs"
	@echo "make test-mmpose what wants mmpose or transformers, in an environment of its own"
	@echo "make test-wheel  the wheel in a bare environment: each verb's shortest real job"
	@echo "make test-oldest a core of the tests with the lowest versions that pyproject.toml admits"
	@echo "make test-newest the same with whatever versions are newest today"
	@echo "make test-processors  the numeric tests as on other processors"
	@echo "make lint        ruff and mypy"
	@echo "make docs        the documentation as a site, in site/"
	@echo "make audit       known vulnerabilities and licences of what is installed"
	@echo "make benchmark   the build's speed and memory, as ratios"
	@echo "make clean       remove the demo; the environment stays"

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -c constraints.txt $(TORCH)
	$(BIN)/python $(PIP) -c constraints.txt -e ".[model,test]"
	$(BIN)/tiktok-dm models fetch  # the pose models, once for this account
	$(BIN)/python -c "from tiktok_dm.pipeline.music import warm_up; warm_up()"  # librosa compiles its loops once
	rm -f $(VENV)/.ready-*
	touch $@

demo: env
	$(BIN)/tiktok-dm build --demo --out $(DEMO)

# The model's demo, step by step as it can be run by hand. About a quarter of an hour on two quiet cores.
demo-model: env
	$(BIN)/tiktok-dm demo-segments demo_segments --songs 240 --clips 720 --test-share 0.05
	$(BIN)/d2m codec train demo
	$(BIN)/d2m train demo
	$(BIN)/d2m plot runs/demo
	$(BIN)/tiktok-dm build --demo --clips 24 --songs 12 --out demo_dances
	$(BIN)/d2m sample runs/demo/best demo_dances --split all --out demo_music --force
	$(BIN)/python tools/score_demo_model.py demo_music demo_dances --split all --json demo_music/score.json

test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(DEFAULT)"

# Kills and disk failures at every change of a file, and a hundred random kills.
test-faults: env
	$(BIN)/python -m pytest -n 2 -s -m faults

# Ten thousand hostile inputs, and the archives that take long to make.
test-hostile: env
	HOSTILE=1 $(BIN)/python -m pytest -n 2 -m "hostile or not slow and not install and not faults" tests/hostile

test-slow: env
	$(BIN)/python -m pytest -m slow

# What a build, a check, a training and a score are made of; the other tests say nothing more of a package's version.
CORE := tests/test_annotations.py tests/test_media.py tests/test_reading.py tests/test_schema.py tests/test_splits.py \
	tests/pipeline/test_acquire.py tests/pipeline/test_build.py tests/dataset/test_export.py tests/pipeline/test_music.py \
	tests/dataset/test_stats.py tests/dataset/test_verify.py tests/pose/test_mediapipe.py tests/d2m_model/test_model_checkpoint.py \
	tests/d2m_model/test_model_data.py tests/d2m_model/test_sampling_segments.py tests/d2m_model/test_step.py \
	tests/benchmark/test_evaluate.py tests/benchmark/test_metric_regression.py tests/benchmark/test_published_beats.py \
	tests/benchmark/test_tracked_beats.py

# An environment of its own with the lowest versions, and one without constraints, made anew each time: an index moves.
test-oldest:
	rm -rf .venv-oldest && $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python $(PIP) $(TORCH)
	$(PYTHON) tools/lowest_versions.py > .venv-oldest/lowest.txt
	.venv-oldest/bin/python $(PIP) -c .venv-oldest/lowest.txt -e ".[model,test]"
	.venv-oldest/bin/tiktok-dm models fetch
	.venv-oldest/bin/python -c "from tiktok_dm.pipeline.music import warm_up; warm_up()"
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile -m "$(DEFAULT)" $(CORE)

test-newest:
	rm -rf .venv-newest && $(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python $(PIP) $(TORCH)
	.venv-newest/bin/python $(PIP) --upgrade --upgrade-strategy eager "$(TORCH)" -e ".[model,test]"
	.venv-newest/bin/tiktok-dm models fetch
	.venv-newest/bin/python -c "from tiktok_dm.pipeline.music import warm_up; warm_up()"
	.venv-newest/bin/python -m pytest -n 2 --dist loadfile -m "$(DEFAULT)" $(CORE)

test-wheel: env
	$(BIN)/python -m pytest -s -m install tests/release

# Each line is a processor as the libraries see it: PyTorch's own loops, oneDNN, MKL, OpenBLAS and NumPy choose their code
# by what the processor can do, and can be told that it can do less.
PROCESSORS := ATEN_CPU_CAPABILITY=default,ONEDNN_MAX_CPU_ISA=SSE41,MKL_CBWR=COMPATIBLE,OPENBLAS_CORETYPE=Prescott,OMP_NUM_THREADS=1 \
	ATEN_CPU_CAPABILITY=avx2,ONEDNN_MAX_CPU_ISA=AVX2,MKL_CBWR=AVX2,OPENBLAS_CORETYPE=Haswell,OMP_NUM_THREADS=2 \
	ATEN_CPU_CAPABILITY=avx512,MKL_CBWR=AVX512,OPENBLAS_CORETYPE=SkylakeX,OMP_NUM_THREADS=1
NUMERIC := tests/d2m_model tests/visual tests/synthetic tests/pipeline/test_music.py tests/curate/test_align.py \
	tests/audio/test_songs.py tests/benchmark/test_alignment.py tests/benchmark/test_distribution.py \
	tests/benchmark/test_embedders.py tests/audio/test_fingerprint.py tests/benchmark/test_intervals.py \
	tests/benchmark/test_metric_regression.py tests/benchmark/test_published_beats.py tests/benchmark/test_tracked_beats.py
comma := ,

test-processors: env
	@failed=0; $(foreach processor,$(PROCESSORS),echo "As $(processor)"; env $(subst $(comma), ,$(processor)) \
		$(BIN)/python -m pytest -n 2 --dist loadfile -q -m "$(DEFAULT)" $(NUMERIC) || failed=1;) \
		exit $$failed

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
		tests/benchmark/test_embedders.py::test_clap_runs_on_a_saved_model tests/d2m_model/test_hub_codec.py

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/; a broken link or name is an error.
docs: env
	test -x .venv-docs/bin/mkdocs || { $(PYTHON) -m venv .venv-docs && .venv-docs/bin/python $(PIP) mkdocs-material "mkdocstrings[python]"; }
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

# Known vulnerabilities, where pip-audit can reach its database, and licences of what is installed (docs/licences.md).
audit: env
	test -x .venv-audit/bin/pip-audit || { $(PYTHON) -m venv .venv-audit && .venv-audit/bin/python $(PIP) pip-audit pip-licenses; }
	$(BIN)/python tools/audit.py .venv-audit/bin $(BIN)/python docs/licences.md

# The two files of a release, in dist/.
dist: env
	rm -rf dist build && $(BIN)/python -m build --no-isolation

# `make check-version TAG=v0.2.0`: a tag that is not the version in pyproject.toml ends with a sentence.
check-version: env
	@test "$(TAG)" = "v$$($(BIN)/tiktok-dm --version)" || { echo "The tag $(TAG) is not v$$($(BIN)/tiktok-dm --version)."; exit 1; }

benchmark: env
	$(BIN)/python benchmarks/build.py

clean:
	rm -rf demo demo.work demo_segments demo_dances demo_dances.work demo_music runs/demo runs/codec_demo
