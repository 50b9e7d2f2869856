# Everything here runs in a virtual environment of its own, .venv; the first target that needs it makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Tests run in two processes: one thread each, or they fight over the cores.
TEST_THREADS ?= 1
# Set, `make test` also counts the lines that run, and fails below the floor in pyproject.toml.
COVERAGE ?=
# Of `make torture`: the same seed makes the same tries.
SEED ?= 1
MINUTES ?= 15
# Processes that retrain tiny: one a core; RANKS=1 with a GPU.
RANKS ?= 2

.PHONY: help axe demo test torture coverage lint format bench bench-full bench-start parity tiny eval sample-data clean

help:
	@echo 'make demo         index sample_data, search, rerank, fill a mask (no network after the install)'
	@echo 'make test         the whole test suite'
	@echo 'make torture      damaged files, kills and two at once, for a quarter of an hour; SEED=2 tries others'
	@echo 'make coverage     the same, and fails where too few lines of the package are run'
	@echo 'make lint         ruff and mypy;  make format  puts the code into form'
	@echo 'make axe          fetch the axe-core that the pages are tested with (needs npm)'
	@echo 'make parity       the network against transformers, config by config'
	@echo 'make eval         recall of the bundled checkpoint on held-out scenes, without and with reranking'
	@echo 'make bench        speed against transformers, within 3 minutes;  make bench-full  takes its time'
	@echo 'make bench-start  how long each command takes to start, over the floor of its imports'
	@echo 'make tiny         retrain the bundled checkpoint from nothing'
	@echo 'make sample-data  redraw sample_data (needs the Noto Color Emoji font)'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# Two stamps: the demo needs the package alone, the tests need the oracles too.
$(VENV)/.package: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.package

demo: $(VENV)/.package
	@PATH="$(CURDIR)/$(BIN):$$PATH" ./sample_data/demo.sh

test: $(VENV)/.dev
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest $(if $(COVERAGE),--cov --cov-report=term)

torture: $(VENV)/.dev
	$(BIN)/python -m tests.torture --seed $(SEED) --minutes $(MINUTES)

coverage:
	@$(MAKE) --no-print-directory test COVERAGE=1

# What checks the pages for faults that shut people out; too large to keep here.
axe: .axe/package/axe.min.js

.axe/package/axe.min.js:
	@mkdir -p .axe
	cd .axe && npm pack --silent axe-core@4.14.1 && tar xzf axe-core-4.14.1.tgz && rm axe-core-4.14.1.tgz
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini --cache-dir .mypy_cache/tests

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

parity: $(VENV)/.dev
	$(BIN)/python -m benchmarks.parity

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed

bench-full: $(VENV)/.dev
	$(BIN)/python -m benchmarks.speed --full

bench-start: $(VENV)/.dev
	$(BIN)/python -m benchmarks.start

eval: $(VENV)/.package
	@echo '$$ bt eval sample_data/captions.csv --images sample_data/images --model tiny'
	@$(BIN)/bt eval sample_data/captions.csv --images sample_data/images --model tiny
	@echo '$$ bt eval sample_data/captions.csv --images sample_data/images --model tiny --rerank --candidates 50'
	@$(BIN)/bt eval sample_data/captions.csv --images sample_data/images --model tiny --rerank --candidates 50

tiny: $(VENV)/.package
	OMP_NUM_THREADS=1 $(BIN)/torchrun --nproc-per-node $(RANKS) -m bt_cli train --recipe tiny --out runs/tiny

sample-data: $(VENV)/.package
	$(BIN)/python -m sample_data.draw

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache .coverage .demo runs
