# Everything happens in .venv; it needs a Python of at least 3.11 and nothing else.
# pip's own variables (PIP_INDEX_URL, PIP_FIND_LINKS, ...) are honoured, as are
#   make test TORCH=torch==2.8.0     another torch, or the path of a wheel
#   make test VENV=path              an environment that exists already
PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell grep '^torch==' constraints.txt)

BIN := $(VENV)/bin
# Build tools come from constraints.txt as well, hence no build isolation.
INSTALL := $(BIN)/python -m pip install --quiet --no-build-isolation -c $(VENV)/constraints.txt

.PHONY: demo test slow fuzz check bench study readme clean

# Example faces through encode, transfer, decode and metrics; look at demo/sheet.png. The second
# script draws what README.md begins with (docs/picture.png is a copy).
demo: $(VENV)/.demo
	PATH="$(abspath $(BIN)):$$PATH" sh -eux docs/scripts/demo.sh
	PATH="$(abspath $(BIN)):$$PATH" sh -eu docs/scripts/picture.sh
	@echo 'The pictures are demo/sheet.png and demo/picture.png, the numbers are in demo/metrics.json.'

# A process a core; a file's tests stay together because they share what they set up.
test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist loadgroup

# What takes minutes: processes that die and are started again.
slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile

# Every reader against damaged files for a minute; FUZZ='--seconds 600 --seed 7 --only ply'.
fuzz: $(VENV)/.test
	$(BIN)/python tests/fuzz.py $(FUZZ)

check: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python docs/scripts/commands.py --check

bench: $(VENV)/.test
	$(BIN)/python -m pytest -q tests/benchmarks  # what is compared does the same
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only \
	  --benchmark-group-by=group --benchmark-columns=min,median,rounds
	$(BIN)/python tests/benchmarks/step_ratios.py

# The tables of docs/benchmark.md from the folder of ICT-FaceKit, in study/. It goes on where it
# was stopped. STUDY=--quick takes minutes on a CPU, to see it work.
study: $(VENV)/.test
	@test -n '$(ICT)' || { echo 'which data? make study ICT=path/of/FaceXModel' >&2; exit 2; }
	$(BIN)/python docs/scripts/study.py '$(ICT)' $(STUDY)

# Rewrite the help texts in README.md.
readme: $(VENV)/.test
	$(BIN)/python docs/scripts/commands.py

clean:
	rm -rf .venv demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "facedis needs Python 3.11 or newer; say which with make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# torch has a line of its own in constraints.txt, but TORCH may ask for another.
$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	grep -v '^torch==' constraints.txt > $(VENV)/constraints.txt
	$(INSTALL) setuptools
	$(INSTALL) -e '.[view]'
	touch $@

# With --no-index pip can only succeed with what is already on this machine.
$(VENV)/.test: $(VENV)/.demo
	@$(BIN)/python -m pip install --quiet --dry-run --no-deps --no-index '$(TORCH)' 2>/dev/null \
	  || echo 'Downloading $(TORCH): 200 MB to several GB, depending on the platform.' >&2
	$(INSTALL) '$(TORCH)'
	$(INSTALL) -e '.[test,train]'
	touch $@
