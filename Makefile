# Everything happens in .venv, which needs Python 3.11 or newer. pip's own variables
# (PIP_INDEX_URL, PIP_FIND_LINKS, ...) are honoured, as are
#   make test TORCH=torch==2.8.0     another torch, or the path of a wheel
#   make test VENV=path              an environment that exists already
PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell grep '^torch==' constraints.txt)

BIN := $(VENV)/bin
# Build tools come from constraints.txt as well, hence no build isolation.
INSTALL := $(BIN)/python -m pip install --quiet --no-build-isolation -c $(VENV)/constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo picture test slow fuzz check bench study paper docs clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Run the commands on example faces, without PyTorch: results in demo/.
	PATH="$(abspath $(BIN)):$$PATH" sh -eux docs/scripts/demo.sh

picture: $(VENV)/.demo ## Draw docs/picture.png, at the top of README.md, anew with the bundled model.
	PATH="$(abspath $(BIN)):$$PATH" FACEDIS_MODEL=ict-linear sh -eux docs/scripts/picture.sh
	cp demo/picture.png docs/picture.png

# A process a core, half of the tests each, so that most files, which share what they set up, stay
# together; who is done first takes half of what is left to the other.
test: $(VENV)/.test ## Run the tests.
	$(BIN)/python -m pytest -n auto --dist worksteal

slow: $(VENV)/.test ## Run the slow tests: trainings, interrupted and killed processes.
	$(BIN)/python -m pytest -m slow -n auto --dist worksteal

# FUZZ='-k ply' for one kind of file, FUZZ='--hypothesis-seed 7' for the same files again
fuzz: $(VENV)/.test ## Feed damaged files to every reader for some minutes.
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest tests/test_damaged_files.py -n auto \
	  --hypothesis-show-statistics $(FUZZ)

check: $(VENV)/.test ## Lint, check types, the order of imports and that docs/ is up to date.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/scripts/commands.py --check

bench: $(VENV)/.test ## Measure speed and memory.
	$(BIN)/python -m pytest -q tests/benchmarks  # what is compared does the same
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only \
	  --benchmark-group-by=group --benchmark-columns=min,median,rounds
	$(BIN)/python tests/benchmarks/step_ratios.py

# The result is study/tables.md; started again, it resumes. STUDY=--quick takes minutes on a CPU.
study: $(VENV)/.test ## Train and measure everything in docs/benchmark.md: ICT=path/of/FaceXModel.
	@test -n '$(ICT)' || { echo 'which data? make study ICT=path/of/FaceXModel' >&2; exit 2; }
	$(BIN)/python docs/scripts/study.py '$(ICT)' $(STUDY)

# The result is paper-SET/table.md; started again, it resumes. PAPER='--set batch=16' changes a recipe.
paper: $(VENV)/.test ## Train the paper's models: SET=coma|bu3dfe|facescape ROOT=path/of/data.
	@test -n '$(SET)' -a -n '$(ROOT)' || { echo 'which data? make paper SET=coma|bu3dfe|facescape ROOT=path/of/data' >&2; exit 2; }
	$(BIN)/python docs/scripts/paper.py '$(SET)' '$(ROOT)' $(PAPER)

docs: $(VENV)/.test ## Regenerate the help texts and the recipe table in docs/.
	$(BIN)/python docs/scripts/commands.py

clean: ## Remove everything that make and the tools made, .venv included.
	rm -rf .venv demo build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
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
