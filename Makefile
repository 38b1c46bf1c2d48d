# One virtual environment holds everything; `make` makes it when it is missing or older than pyproject.toml.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test check bench bench-check bench-peers chaos docs lowest versions wheel

demo: .venv/installed  ## the delays of 336,776 flights: prints where the report lies
	$(BIN)/python docs/examples/flights.py --out demo-report

test: $(if $(CI),wheel,.venv/installed)  ## the suite; where CI is set, against the built wheel
	$(BIN)/python -m pytest -m "not chaos"

check: .venv/installed  ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: .venv/installed  ## what each promise costs, beside its floor
	$(BIN)/python benchmarks/run.py

bench-check: .venv/installed  ## whether a ratio is worse than the one that was kept
	$(BIN)/python benchmarks/run.py --check

bench-peers: .venv/installed  ## the same work on Prefect, Dagster, DBOS and others, each in an environment of its own
	$(BIN)/python benchmarks/side_by_side.py

chaos: .venv/installed  ## long runs under kill -9, full disks and cut networks
	$(BIN)/python -m pytest -m chaos

docs: .venv/installed  ## the pages as a site, in site/; every code block and example, executed
	$(BIN)/python -m sphinx -q -W --keep-going docs site
	$(BIN)/python -m pytest tests/docs

# What most depends on versions, in two or three minutes: the engine on every host, the runners, the stores.
FAST := -q -m "not chaos" tests/engine tests/conformance tests/results/test_conformance.py tests/test_extras.py

# Ray 2.40 leaves its log files open, which later versions do not: no warning about that is an error there.
lowest: .venv/installed  ## that subset on the oldest versions that pyproject.toml allows, of all but the tools
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest --resolution lowest-direct --editable '.[all]'
	$(BIN)/uv pip install --quiet --python .venv-lowest --editable '.[dev]'
	.venv-lowest/bin/python -m pytest -p no:cacheprovider -W ignore::ResourceWarning $(FAST)

versions: .venv-3.12/installed .venv-3.13/installed  ## that subset on the other versions of Python
	.venv-3.12/bin/python -m pytest -p no:cacheprovider $(FAST)
	.venv-3.13/bin/python -m pytest -p no:cacheprovider $(FAST)

# An interpreter of pyenv's if there is one; else uv looks for one, and fetches it where it can.
.venv-%/installed: pyproject.toml | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(or $(lastword $(wildcard $(HOME)/.pyenv/versions/$*.*/bin/python)),$*) .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$* --editable '.[dev]'
	touch $@

# The wheel takes the place of the editable install, until the next target that wants that one back.
wheel: .venv/installed
	rm -rf dist
	$(BIN)/uv build --quiet --python $(BIN)/python --wheel
	$(BIN)/uv pip install --quiet --python $(BIN)/python --reinstall-package penstock --no-deps dist/*.whl
	rm .venv/installed

.venv/installed: pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[dev]'
	touch $@

$(BIN)/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv
