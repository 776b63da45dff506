# make demo: the main job, from a fresh machine to a report.   make test: the test suite.   make lint, make docs.
# Both need Python 3.11 or newer, make and the package index; everything is installed into .venv.
# Tests run in a process per core, 8 at most: `make test ARGS="tests/cli -n 0"` runs some of them in one.
# With a GPU, `make TORCH=torch==2.13.0 demo` installs the index's own build of torch.

PYTHON ?= python3
TORCH ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOCK := requirements.txt

.PHONY: demo test lint docs clean

demo: $(VENV)/.installed
	$(BIN)/beir-hybrid demo $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-test
	$(PIP) install -r docs/requirements.txt
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

$(VENV)/.torch:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with make PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch (the CPU build where it is to be had) ..."
	@PIP="$(PIP)" TORCH="$(TORCH)" sh scripts/install-torch
	@touch $@

$(VENV)/.installed: $(VENV)/.torch $(LOCK) setup.cfg pyproject.toml
	@echo "installing beir-hybrid and what it stands on ..."
	$(PIP) install -r $(LOCK) -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed $(VENV)/.pyserini requirements-test.txt
	$(PIP) install -r requirements-test.txt
	@touch $@

# What Pyserini asks for and never imports is left out: some 60 packages.
$(VENV)/.pyserini: $(VENV)/.installed requirements-pyserini.txt
	$(PIP) install --no-deps -r requirements-pyserini.txt
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info demo-report
