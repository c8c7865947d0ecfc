# One-word commands. `make demo` needs only Python >= 3.10 and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist worksteal

.PHONY: demo test check lint fast bench build clean

demo: $(VENV)/.demo
	$(BIN)/limbeck demo

test: lint
	$(RUN) -n 2

check: lint fast

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fast: $(VENV)/.dev
	$(RUN) -n 2 -m "not slow" -q

bench: $(VENV)/.dev | $(VENV)/torchdistill $(VENV)/trl
	$(BIN)/python benchmarks/run.py

$(VENV)/torchdistill: | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ torchdistill==1.1.5

$(VENV)/trl: | $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@ trl==1.16.0

build: $(VENV)/.dev
	$(BIN)/python -m build

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps --upgrade --target $(VENV)/vision timm torchvision
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
