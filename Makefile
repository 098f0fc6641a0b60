PYTHON ?= python3
BIN := .venv/bin
export REKINDLE_HOME ?= .rekindle

.PHONY: bench-scale demo test serve lint types imports check wheel lock clean results docs text-model

demo: .venv/installed
	$(BIN)/rekindle demo

# More than four at once would only take memory; files stay whole, so that what they set up is set up once.
test: .venv/installed
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

serve: .venv/installed
	$(BIN)/rekindle serve

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py

imports: .venv/installed
	$(BIN)/lint-imports

check: lint types imports

wheel: .venv/installed
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

results: .venv/installed
	$(BIN)/python benchmarks/real_log.py

docs: .venv/installed
	$(BIN)/python -c 'from pathlib import Path; from features.catalogue import as_markdown; Path("docs/features.md").write_text(as_markdown())'
	$(BIN)/python -c 'from pathlib import Path; from features.connectors.catalogue import as_markdown; Path("docs/connectors.md").write_text(as_markdown())'

bench-scale: .venv/installed
	$(BIN)/python benchmarks/bench_scale.py

text-model: .venv/installed
	$(BIN)/python -m features.text.training

# the second is what the image and the bento hold: the same pins without the tools of development
PINS = --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock:
	uv pip compile pyproject.toml --extra build --extra dev $(PINS) --upgrade -o requirements.lock
	uv pip compile pyproject.toml --extra build $(PINS) --constraint requirements.lock -o deploy/requirements.lock

clean:
	rm -rf .venv .rekindle dist

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "Rekindle needs Python 3.11 to 3.13; say which with make PYTHON=…")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
