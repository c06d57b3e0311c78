# `make demo` and `make test` set up everything they need in .venv, on a machine that has only Python 3.11+.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint clean

demo: $(VENV)/.demo
	$(BIN)/adapterhub-lite demo

test: $(VENV)/.test
	OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.%: pyproject.toml constraints.txt bases.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); the first time this fetches torch and takes some minutes"
	$(INSTALL) --constraint constraints.txt --editable '.[$*]'
	$(INSTALL) --no-deps --requirement bases.txt
	@touch $@

clean:
	rm -rf $(VENV) demo-output
