# make demo   sets everything up and runs the main job: extracting years from sentences
# make test   sets everything up and passes the tests
# Another index or build of torch: make test PIP_ARGS='--index-url https://...' TORCH='torch==2.13.0+cpu'
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
TORCH ?= $(shell grep '^torch==' constraints.txt)
BIN := $(VENV)/bin
# a stamp of what was asked for: another index or build of torch sets up again
READY := $(VENV)/.ready-$(shell echo '$(TORCH) $(PIP_ARGS)' | cksum | cut -d ' ' -f 1)

.PHONY: setup demo test test-learning check format clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wavefront needs Python 3.11 or newer: make $(MAKECMDGOALS) PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) '$(TORCH)'
	@# torch is there already, in the release asked for: the others' constraints must not take it away again
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c $(VENV)/constraints.txt -e '.[dev]'
	@rm -f $(VENV)/.ready* && touch $(READY)

demo: $(READY)
	$(BIN)/wavefront fit years --out runs/demo --overwrite
	$(BIN)/wavefront predict runs/demo examples/years.txt

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not learning'

test-learning: $(READY)
	$(BIN)/python -m pytest -m learning

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache
