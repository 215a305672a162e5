# Everything sets itself up: the first target that needs it makes .venv, and again only when the pins change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest

.PHONY: quickstart test check nightly lowest test-cluster clean

quickstart: $(VENV)/.installed
	$(BIN)/nanofit quickstart

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

nightly: lowest

# Tokens that datatrove wrote by Ray's executor, on one machine: Ray is 260 MB, so no other target needs it.
test-cluster: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target .ray 'ray>=2.40'
	PYTHONPATH=.ray $(BIN)/python -m pytest tests/data/shards/test_datatrove_files.py -k ray

# The tests with the lowest versions that pyproject.toml admits, of all but torch.
lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python .ci/lowest_versions.py >$(LOWEST)/constraints.txt
	grep '^torch==' constraints.txt >>$(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LOWEST)/constraints.txt -e '.[dev]'
	$(LOWEST)/bin/python -m pytest -n 2 --dist worksteal

clean:
	rm -rf $(VENV) $(LOWEST) .ray
