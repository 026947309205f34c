# make demo   networks that learn without backpropagation, next to backpropagation
# make test   lint, types and tests
# make docs   the documentation as a site in site/

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint types docs tables clean
demo: $(READY)
	$(BIN)/dyadnet compare --out runs/demo --overwrite

test: lint types
	$(BIN)/python -m pytest -q -n 2

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/basedpyright

docs: $(READY)
	$(BIN)/mkdocs build --strict

tables: $(READY)
	$(BIN)/python experiments/tables.py
	$(BIN)/python experiments/pictures.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'dyadnet needs Python 3.11 or newer: make PYTHON=python3.11')"
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) runs site .pytest_cache .ruff_cache
