# `make demo` and `make test` are all a newcomer needs; both make .venv on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# Tests that want real datasets look in $GRAPHDIFF_DATA and skip where it is not set.
PYTEST ?= $(BIN)/python -m pytest
# Processes of `make test`; each computes with one thread.
TEST_JOBS ?= 2

.PHONY: demo test pictures fuzz gpu lint docs examples format sparse clean help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## train and compare on the embedded dataset, write demo/report.html
	$(BIN)/graphdiff compare --dataset synthetic --models ld4mrec lightgcn freedom \
		--seeds 1 --epochs 150 --patience 10 --min-steps 0 --eval-every 3 --jobs 2 \
		--out demo/accuracy.json --report demo/report.html

test: $(VENV)/.installed-test ## run the tests
	OMP_NUM_THREADS=1 $(PYTEST) -n $(TEST_JOBS)

pictures: $(VENV)/.installed-test ## write the figures of the docs and screenshots; needs Chromium
	$(BIN)/python docs/pictures/explanation.py
	$(BIN)/python docs/pictures/screenshots.py

fuzz: $(VENV)/.installed-test ## feed damaged and hostile files to all readers for five minutes
	$(BIN)/python -m tests.fuzz --seconds 285

gpu: $(VENV)/.installed-test ## run the tests that need a CUDA device
	$(PYTEST) -m gpu

lint: $(VENV)/.installed-dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev ## build the documentation site, build/site/html/index.html
	$(BIN)/python docs/build.py

examples: $(VENV)/.installed-test ## run the examples and notebooks
	$(PYTEST) tests/test_examples.py --durations=0

format: $(VENV)/.installed-dev ## let ruff format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

sparse: $(VENV)/.installed ## build torch-scatter and torch-sparse (a quarter of an hour)
	$(PIP) setuptools wheel
	$(PIP) --no-build-isolation torch-scatter torch-sparse

clean: ## remove .venv and everything made
	rm -rf $(VENV) demo build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
