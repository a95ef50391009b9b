# What one does in this repository. `make` lists it; every target sets up what it needs first.

PYTHON ?= python3
UV_VERSION := 0.13.9
ARGS ?=

# `test-extras` has an environment of its own, with PyTorch, Lightning, JAX, Grain, SQL drivers, MLflow, OpenLineage and mlcroissant.
VENV := .venv
LOCK := requirements.lock
BIN := $(VENV)/bin
# The machine's certificates, which a company's proxy needs, and not uv's own.
export UV_SYSTEM_CERTS ?= true
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

# The editable install is a tree of links, one a file (pyproject.toml, "strict"), and must be made again when a module
# is added, moved or removed: its stamp is named after the list of files. It lies in build/ with the links.
FILES := $(shell find src pipeline transforms runners -name '*.py' -o -name py.typed | LC_ALL=C sort)
UV_READY := $(VENV)/.uv-$(UV_VERSION)
LOCK_READY := $(VENV)/.$(LOCK)
READY := build/$(VENV)/installed-$(firstword $(shell echo $(FILES) | cksum))

PYTEST = $(BIN)/pytest -n auto --dist loadfile --no-skips
# Servers of object stores, for `test-stores`: compiled from Go modules, and from npm and PyPI by their locks.
STORES := .stores
INSTALL := tests/stores/install
VERSITYGW := github.com/versity/versitygw/cmd/versitygw@v1.8.0
FAKE_GCS := github.com/fsouza/fake-gcs-server@v1.56.1
STORES_READY := $(STORES)/installed-$(firstword $(shell (echo $(FAKE_GCS); cat $(INSTALL)/*lock*) | cksum))
VERSITYGW_READY := $(STORES)/versitygw-$(lastword $(subst @, ,$(VERSITYGW)))

# Flink from PyPI, Beam's job servers and Spark from Maven, Beam's own programs from Go modules: for `test-engines`.
ENGINES := .engines
ENGINES_INSTALL := tests/engines/install
BEAM := github.com/apache/beam/sdks/v2
BEAM_VERSION := v$(shell sed -n 's/^apache-beam==\([0-9.]*\).*/\1/p' $(LOCK))
ENGINES_READY := $(ENGINES)/installed-$(firstword $(shell (echo $(BEAM_VERSION); cat $(ENGINES_INSTALL)/*) | cksum))
COPY_JARS := org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies

# What drives Chromium, and axe, which checks accessibility: for `test-browser`.
BROWSER := .browser
BROWSER_INSTALL := tests/browser/install
BROWSER_READY := $(BROWSER)/installed-$(firstword $(shell cat $(BROWSER_INSTALL)/*lock* | cksum))

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --custom-compile-command "make lock" $(ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-slow test-data test-extras test-stores test-engines test-engines-quick test-browser test-fuzz test-histories test-all lint types check docs dist bench peers lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## Make .venv with the pinned requirements and this project in it (PYTHON=python3.12 to choose)
	@echo "==> ready: $(BIN)/penstock"

demo: $(READY) ## Prepare a small dataset that it makes up, and say what came out
	@$(BIN)/penstock demo

# In each of these a skipped test is a failed one: what a machine may lack has a target of its own.
test: $(READY) ## Run the tests that are quick and need no more than setup installs (ARGS="-k name" to choose)
	@$(PYTEST) -m "not slow and not real_data and not extras and not stores and not engines and not browser and not fuzz" $(ARGS)

test-slow: $(READY) ## Run the slow tests: processes that are killed, resumed runs, workers
	@$(PYTEST) -m "slow and not real_data and not extras and not stores and not engines and not browser and not fuzz" $(ARGS)

test-data: $(READY) ## Run the tests on the real data, which must be in ../shared/data
	@$(PYTEST) -m "real_data and not extras and not stores and not engines" $(ARGS)

test-extras: ## Run the tests of PyTorch, Lightning, JAX, Grain, SQL drivers, MLflow, OpenLineage and Croissant (.venv-extras: 3 GB to download, 8 GB of disk)
	@$(MAKE) --no-print-directory VENV=.venv-extras LOCK=requirements-extras.lock .test-extras

.PHONY: .test-extras
.test-extras: $(READY)
	@$(PYTEST) -m extras $(ARGS)

test-stores: $(READY) $(STORES_READY) ## Run the tests on servers of object stores (needs Go and npm; PENSTOCK_FAULTS=10000: more faults)
	@$(PYTEST) -m "stores $(if $(wildcard ../shared/data),,and not real_data)" tests/stores $(ARGS)

# In one process: its tests share a cluster, which takes all cores.
test-engines: $(READY) $(ENGINES_READY) $(VERSITYGW_READY) ## Run the tests on Flink, Prism and Spark (needs Java 17, Maven and Go; test-engines-quick: the quick ones)
	@$(BIN)/pytest --no-skips -m "engines $(if $(wildcard ../shared/data),,and not real_data)" tests/engines $(ARGS)

test-engines-quick: $(READY) $(ENGINES_READY) $(VERSITYGW_READY)
	@$(BIN)/pytest --no-skips -m "engines and not slow $(if $(wildcard ../shared/data),,and not real_data)" tests/engines $(ARGS)

test-browser: $(READY) $(BROWSER_READY) ## Look at the page of `penstock report` in a headless Chromium (needs Chromium, Node.js and npm)
	@$(BIN)/pytest --no-skips -m browser tests/browser $(ARGS)

test-fuzz: $(READY) ## Read 10,000 damaged files of every format (PENSTOCK_FUZZ=500: fewer; a failure says how to repeat it)
	@$(PYTEST) --dist load -m fuzz tests/fuzz $(ARGS)

test-histories: $(READY) ## Change raw datasets at random, 200 histories (PENSTOCK_HISTORIES=20: fewer; 20:30: these; a failure says how to repeat it)
	@PENSTOCK_HISTORIES=$${PENSTOCK_HISTORIES:-200} $(PYTEST) --dist load tests/histories $(ARGS)

test-all: test test-slow test-data test-extras test-stores test-engines test-browser ## Run all the tests

lint: $(LOCK_READY) ## Check the style: ruff
	@$(BIN)/ruff check .

types: $(READY) ## Check the types: mypy, strict
	@$(BIN)/mypy

check: lint types test ## Run lint, types and test

docs: ## Build the site of the documentation in build/site, and check its links (.venv-docs: 370 MB)
	@$(MAKE) --no-print-directory VENV=.venv-docs LOCK=requirements-docs.lock .docs

.PHONY: .docs
.docs: $(READY)
	@rm -rf build/site
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --fresh-env --doctree-dir build/doctrees docs build/site
	@$(BIN)/python docs/check_links.py build/site

dist: ## Build the wheel and the source distribution in dist/, and check what a package index would refuse
	@$(MAKE) --no-print-directory VENV=.venv-docs LOCK=requirements-docs.lock .dist

.PHONY: .dist
.dist: $(LOCK_READY)
	@rm -rf dist
	@$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python --out-dir dist
	@$(BIN)/twine check --strict dist/*

bench: $(READY) ## Run each benchmark beside its reference (ARGS=... goes to each: --record, --quick)
	@set -e; for file in $(filter-out benchmarks/docs.py,$(wildcard benchmarks/[a-z]*.py)); do \
	    echo "==> $$file"; $(BIN)/python $$file $(ARGS); done

peers: $(UV_READY) ## Install what benchmarks compare with, in .venv-peers and .venv-peers-older (3 GB to download)
	@for each in peers peers-older; do \
	    $(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-$$each && \
	    $(BIN)/uv pip sync --quiet --python .venv-$$each/bin/python benchmarks/$$each.lock || exit 1; done

lock: $(UV_READY) ## Write the locks from pyproject.toml (ARGS=--upgrade for new versions)
	@echo "==> resolving requirements.lock"
	@$(COMPILE) --extra prepare --group dev --output-file requirements.lock pyproject.toml
	@echo "==> resolving requirements-image.lock"
	@$(COMPILE) --extra prepare --extra s3 --extra gcs --constraint requirements.lock \
	    --output-file requirements-image.lock pyproject.toml
	@echo "==> resolving requirements-extras.lock"
	@$(COMPILE) --extra prepare --extra torch --extra jax --extra grain --extra sql --extra mlflow --extra openlineage \
	    --group dev --group drivers --group frameworks --group metadata \
	    --constraint requirements.lock --output-file requirements-extras.lock pyproject.toml
	@echo "==> resolving requirements-docs.lock"
	@$(COMPILE) --group docs --group dist --constraint requirements.lock --output-file requirements-docs.lock pyproject.toml
	@echo "==> resolving benchmarks/peers.lock and peers-older.lock"
	@$(COMPILE) --constraint requirements-extras.lock --output-file benchmarks/peers.lock benchmarks/peers.in pyproject.toml
	@$(COMPILE) --output-file benchmarks/peers-older.lock benchmarks/peers-older.in
	@echo "==> resolving $(INSTALL)"
	@$(COMPILE) --output-file $(INSTALL)/gcp-storage-emulator.lock $(INSTALL)/gcp-storage-emulator.in
	@cd $(INSTALL) && npm install --package-lock-only --ignore-scripts --no-audit --no-fund --silent
	@echo "==> resolving $(BROWSER_INSTALL)"
	@cd $(BROWSER_INSTALL) && npm install --package-lock-only --ignore-scripts --no-audit --no-fund --silent

clean: ## Remove what was built and cached, but not .venv and .venv-extras
	@rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	@find . -name '.venv*' -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(UV_READY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	    echo "Penstock needs Python 3.11 to 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	         "Name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "==> making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@touch $@

# The lock's own pins build the one package that has no wheel; and bytecode, once here, saves every process its imports.
$(LOCK_READY): $(LOCK) $(UV_READY)
	@echo "==> installing $(LOCK): $$(grep -c == $(LOCK)) packages: minutes, the first time"
	@$(UV) --require-hashes --build-constraints $(LOCK) --compile-bytecode --requirements $(LOCK)
	@touch $@

$(STORES_READY): $(UV_READY) $(VERSITYGW_READY)
	@for tool in go npm; do command -v $$tool >/dev/null || { \
	    echo "The servers of object stores need Go and npm; $$tool is not installed." >&2; exit 1; }; done
	@echo "==> installing servers of object stores in $(STORES)"
	@rm -rf $(STORES)/installed-* $(STORES)/node_modules $(STORES)/python
	@cp $(INSTALL)/package.json $(INSTALL)/package-lock.json $(STORES)
	@cd $(STORES) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@$(BIN)/uv venv --quiet --python $(BIN)/python $(STORES)/python
	@$(BIN)/uv pip install --quiet --require-hashes --python $(STORES)/python/bin/python \
	    --requirements $(INSTALL)/gcp-storage-emulator.lock
	@$(call go_install,$(FAKE_GCS),$(STORES))
	@touch $@

$(BROWSER_READY):
	@for tool in chromium node npm; do command -v $$tool >/dev/null || { \
	    echo "Looking at pages needs Chromium, Node.js and npm; $$tool is not installed." >&2; exit 1; }; done
	@rm -rf $(BROWSER) && mkdir -p $(BROWSER)
	@cp $(BROWSER_INSTALL)/package.json $(BROWSER_INSTALL)/package-lock.json $(BROWSER)
	@cd $(BROWSER) && npm ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

$(VERSITYGW_READY):
	@command -v go >/dev/null || { echo "versitygw, a server that speaks as S3 does, needs Go: not installed." >&2; exit 1; }
	@mkdir -p $(STORES) && rm -f $(STORES)/versitygw-*
	@$(call go_install,$(VERSITYGW),$(STORES))
	@touch $@

$(ENGINES_READY): $(UV_READY)
	@for tool in java mvn go; do command -v $$tool >/dev/null || { \
	    echo "Flink, Prism and Spark need Java 17, Maven and Go; $$tool is not installed." >&2; exit 1; }; done
	@echo "==> installing Flink in $(ENGINES): 230 MB to download"
	@rm -rf $(ENGINES) && mkdir -p $(ENGINES)/flink
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes \
	    --dest $(ENGINES)/download --requirement $(ENGINES_INSTALL)/flink.lock
	@tar -xzf $(ENGINES)/download/*.tar.gz -C $(ENGINES)/flink --strip-components=2 --wildcards '*/deps/*'
	@rm -r $(ENGINES)/download
	@for name in flink spark; do \
	    echo "==> installing Beam's job server for $$name in $(ENGINES)"; \
	    mvn --quiet --batch-mode -Dstyle.color=never --file $(ENGINES_INSTALL)/$$name-job-server.xml $(COPY_JARS) \
	        -DoutputDirectory=$(CURDIR)/$(ENGINES)/$$name-job-server || exit 1; done
	@$(call go_install,$(BEAM)/python/container@$(BEAM_VERSION),$(ENGINES))
	@$(call go_install,$(BEAM)/go/cmd/prism@$(BEAM_VERSION),$(ENGINES))
	@touch $@

# $(call go_install,MODULE,FOLDER): the program of a module, in the folder's bin/.
define go_install
echo "==> compiling $(1): minutes, the first time"; \
GOBIN=$(CURDIR)/$(2)/bin go install $(1) > $(2)/go.log 2>&1 || { cat $(2)/go.log >&2; exit 1; }
endef

$(READY): pyproject.toml $(LOCK_READY)
	@echo "==> installing penstock, editable"
	@rm -rf build/__editable__.* build/$(VENV)
	@$(UV) --no-deps --no-build-isolation --editable .
	@mkdir -p $(@D) && touch $@
