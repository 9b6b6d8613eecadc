# make demo | test | lint | bench | sanitize | clean. Everything lives in .venv, data/ and out/.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.PHONY: demo test lint unit bench sanitize lock clean build

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
PIP := $(BIN)/python -m pip --disable-pip-version-check
NATIVE := $(wildcard shuffle_worker/_native/*.pyx shuffle_worker/_native/*.pxd shuffle_worker/_native/*.h)

# --- set-up -----------------------------------------------------------------------------------------------------
$(VENV)/.base: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c requirements.lock "setuptools>=77" "cython>=3.1" wheel
	touch $@

$(VENV)/.demo: $(VENV)/.base setup.py $(NATIVE)
	$(PIP) install -q -c requirements.lock --no-build-isolation -e ".[demo]"
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install -q -c requirements.lock --no-build-isolation -e ".[demo,dev]"
	touch $@

build: $(VENV)/.demo

# --- the main job on real data ----------------------------------------------------------------------------------
SCALE ?= 1
DATA := data/lineitem

$(DATA)/.sf$(SCALE): $(VENV)/.demo
	rm -rf $(DATA) && mkdir -p data
	$(BIN)/tpchgen-cli parquet -s $(SCALE) --tables=lineitem --parts=4 --output-dir=data
	touch $@

demo: $(DATA)/.sf$(SCALE)
	rm -rf out/lineitem
	$(BIN)/shufflectl run -f examples/lineitem-by-order.yaml --workers 2
	$(BIN)/python examples/check_lineitem.py data/lineitem out/lineitem

# --- tests ------------------------------------------------------------------------------------------------------
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint shuffle_worker/_native/*.pyx shuffle_worker/_native/*.pxd
	$(BIN)/vulture
	$(BIN)/lint-imports

unit: $(VENV)/.dev
	$(BIN)/python -m pytest

test: lint unit

sanitize: $(VENV)/.dev
	tests/native/sanitize.sh

bench: $(VENV)/.dev
	$(PIP) install -q -c requirements.lock --no-build-isolation -e ".[demo,dev,bench]"
	$(BIN)/python -m benchmarks

# --- care -------------------------------------------------------------------------------------------------------
lock: $(VENV)/.base
	$(PIP) install -q uv
	$(BIN)/uv pip compile -q --universal --all-extras --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock

clean:
	rm -rf build out shuffle_worker/_native/*.so shuffle_worker/_native/*.c shuffle_worker/_native/*.cpp
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
