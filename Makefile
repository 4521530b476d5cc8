# Two commands for a fresh machine with Python >= 3.11: `make bench` and `make test`.
PYTHON ?= python3
VENV   := .venv

.DEFAULT_GOAL := help
.PHONY: help bench test lint clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

bench: $(VENV)/.ready  ## Run the main job and print its leaderboard
	$(VENV)/bin/bench run --synth all --env maze2d-medium
	$(VENV)/bin/bench table

# A process per core, at most four of about 2 GB, and one thread in each.
test: lint  ## Run the linters and the tests
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.ready  ## Run the linters alone
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

clean:  ## Remove the virtual environment and the caches; results stay
	rm -rf $(VENV) build dist *.egg-info .*_cache .hypothesis

# Made last, so that an environment whose installation was cut short is built anew. Python compiles what it imports: all of torch would take a minute.
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(VENV): one or two minutes, once."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[dev]'
	@touch $@
