# The commands a contributor and CI run. `make demo` and `make test` set everything up themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLUSTER ?= auto
ARGS ?=

.PHONY: demo drills test check format bench fuzz nightly lock clean

# Installed from the lock file with hashes; the project itself is linked, so edits take effect at once.
$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v git >/dev/null || { echo "git is needed: install it with the system's package manager" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.13 ..." >&2; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/secretsops demo --cluster $(CLUSTER) $(ARGS)

# Every scenario of the catalogue and its twin, on the real control plane.
drills: $(VENV)/.installed
	$(BIN)/python -m pytest tests/e2e/test_catalogue.py --nightly -q $(ARGS)

test: $(VENV)/.installed
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_house.py
	rm -rf dist && $(BIN)/python -m build --no-isolation --wheel --outdir dist . >/dev/null
	$(BIN)/check-wheel-contents dist/*.whl

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed
	$(BIN)/python -m tests.bench $(ARGS)

fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz $(ARGS)

nightly: $(VENV)/.installed
	$(BIN)/python -m pytest --nightly $(ARGS)
	$(BIN)/python -m pytest --cluster embedded tests/conformance $(ARGS)

lock: $(VENV)/.installed
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --python-version 3.11 \
	  --all-extras --group dev pyproject.toml --upgrade --output-file requirements.lock

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
