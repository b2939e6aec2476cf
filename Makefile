# Two commands do everything on a fresh machine: `make demo` runs the main job, `make test` passes the tests.
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test lint fast vm e2e wheel clients agents projects bench fuzz clean

demo: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/quickstart/demo.sh

test: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/suites.py lint fast wheel vm e2e

# `clients` is apart from `test`: Go, cargo and Java are hundreds of megabytes in the guest. So is `agents`:
# each that can be installed does a task, and `test` has two of them each time, the others in turns. `projects` starts
# small projects of all kinds by what `init` writes for them; `test` has three of them each time.
lint fast vm e2e wheel clients agents projects: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/suites.py $@

bench: $(VENV)/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python bench/run.py
	$(BIN)/python bench/gateway_load.py
	$(BIN)/python bench/egress.py

FUZZ_S ?= 600

fuzz: $(VENV)/ready
	$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[fuzz]'
	nice $(BIN)/python tests/fuzz/fuzz_loader.py --seconds $(FUZZ_S)
	nice $(BIN)/python tests/fuzz/fuzz_gateway.py --seconds $(FUZZ_S)
	nice $(BIN)/python tests/fuzz/fuzz_guest.py --seconds $(FUZZ_S)

$(VENV)/ready: pyproject.toml scripts/venv.sh
	scripts/venv.sh $(VENV)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
