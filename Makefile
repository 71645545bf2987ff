# Everything runs in .venv, which `make` sets up by itself. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
.DEFAULT_GOAL := help
.PHONY: help setup model demo test check lint types imports pytest fmt clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "TokenLoom needs Python 3.11 or newer; try: make PYTHON=python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

setup: $(READY)  ## Make the virtual environment and install everything into it

model: $(READY)  ## Fetch the default model (93 MB, once)
	@$(BIN)/tokenloom models fetch smollm2-135m-instruct

demo: model  ## Play a three-agent debate on the host, then on the functional PIM device
	@$(BIN)/tokenloom run examples/debate.loom -i topic="banning private cars from cities"
	@$(BIN)/tokenloom run examples/debate.loom -i topic="banning private cars from cities" --device pim

test: model check  ## Everything that CI runs: check, on a machine set up from nothing

check: lint types imports pytest  ## Lint, types, import rules, tests

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/pyright

imports: $(READY)
	PYTHONPATH=.ci $(BIN)/lint-imports --no-cache

pytest: $(READY)
	$(BIN)/python -m pytest -q

fmt: $(READY)  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## Remove the virtual environment and all that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
