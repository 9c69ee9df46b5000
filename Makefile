# The main commands are `make run` and `make test`. Each installs all that it needs, with Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# Tests wait for their own servers half of the time: three workers use 54 % of two cores. In the order of the folders,
# the long end-to-end files are not the last ones.
WORKERS ?= 5
# A machine that stands still for seconds can fail a test that waits for processes. Up to this many failed tests run once
# more; the summary lists them as RERUN, with their first failures.
RERUNS ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Without bytecode every test worker would compile all tests again.
unexport PYTHONDONTWRITEBYTECODE
# Folder of the Kubernetes control plane for the tests (as for envtest). Without it these tests are skipped.
KUBEBUILDER_ASSETS ?= $(wildcard $(HOME)/.cache/forescale/control-plane/bin)
export KUBEBUILDER_ASSETS

.DEFAULT_GOAL := help
.PHONY: help run test check lint types contracts docs bench swarm fuzz soak dist image image-push version lock schema clean

# The version is that of pyproject.toml. `make version SET=...` writes it into the other files.
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
VERSIONED := pyproject.toml config/deploy/helm/forescale/Chart.yaml config/deploy/helm/examples/gateway/Chart.yaml \
  config/deploy/kustomize/base/kubernetes.yaml config/deploy/examples/gateway/gateway.yaml docs/how-to/kustomize.md docs/tutorials/quickstart.md
IMAGE ?= ghcr.io/forescale/forescale
PLATFORMS ?= linux/amd64,linux/arm64
DIST ?= dist
# Files in distributions and images have the time of the commit: the same commit makes the same bytes.
dist image-push: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)

help:  ## Show this help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

run: $(VENV)/.run  ## Run the daemon on the embedded cloud; the dashboard's address is printed (ARGS='--for 30' bounds it)
	@echo "From now on: $(BIN)/forescale COMMAND, or once 'source $(BIN)/activate', then forescale COMMAND" >&2
	@$(BIN)/forescale run config/quickstart $(ARGS)

test: $(VENV)/.dev  ## Run every test (PYTEST_ARGS='-k name' narrows)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  --reruns 1 --max-suite-reruns $(RERUNS) --rerun-show-tracebacks $(PYTEST_ARGS)

check: lint types contracts  ## Lint, types, import contracts and the fast tests: under two minutes, before every commit
	FORESCALE_QUICK_TESTS=1 $(BIN)/python -m pytest -q -n 4 -m 'not slow' $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pydoclint --quiet policies scaler simulators
	$(BIN)/python -m tests.prose

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports --no-cache

docs: $(VENV)/.dev  ## Build the documentation site into build/site, strictly: a dead link or anchor fails; print readability
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q
	$(BIN)/python -m tests.readability

bench: $(VENV)/.dev  ## Run every benchmark and write tests/benchmarks/RESULTS.md
	$(BIN)/python -m tests.benchmarks all --table tests/benchmarks/RESULTS.md

swarm: $(VENV)/.dev  ## Judge random worlds by the invariants (ARGS='--worlds 20000 --first 1 --jobs 4', or --seed N)
	$(BIN)/python -m tests.fuzz.worlds $(or $(ARGS),--worlds 2000 --jobs 2)

fuzz: $(VENV)/.dev  ## Judge random decision sequences and mutated inputs (ARGS='--for 3600 --jobs 2', or --seed N --smaller)
	$(BIN)/python -m tests.fuzz $(or $(ARGS),--sequences 20000 --mutations 20000 --jobs 2)

soak: $(VENV)/.dev  ## Run a daemon under random faults for 20 minutes, a simulated day, and three daemons under 200 faults (ARGS='--minutes 5 --faults 20')
	$(BIN)/python -m tests.soak $(ARGS)

dist: $(VENV)/.dev  ## Build wheel, sdist and SBOM into dist/, and check them (docs: CONTRIBUTING.md, "Release")
	@rm -rf $(DIST)
	$(BIN)/uv build --quiet --python $(BIN)/python --no-build-isolation --out-dir $(DIST)
	$(BIN)/python -m twine check --strict $(DIST)/*.whl $(DIST)/*.tar.gz
	@# The lock of the image has no dependency graph, which the generator warns of.
	$(BIN)/python -W ignore -m cyclonedx_py requirements requirements/image.txt --pyproject pyproject.toml --output-reproducible -o $(DIST)/forescale-$(VERSION).cdx.json

image:  ## Build the container image for this machine (needs docker or podman)
	@engine=$$(command -v docker || command -v podman) || { echo "make image: neither docker nor podman is on PATH" >&2; exit 2; }; \
	$$engine build --tag $(IMAGE):$(VERSION) .

image-push:  ## Build the image for amd64 and arm64 with SBOM and provenance, and push it (needs docker buildx)
	@mkdir -p build
	docker buildx build --platform $(PLATFORMS) --provenance mode=max --sbom true --metadata-file build/image.json \
	  --label org.opencontainers.image.version=$(VERSION) --label org.opencontainers.image.revision=$$(git rev-parse HEAD) \
	  --tag $(IMAGE):$(VERSION) --push .

version:  ## Print the version (SET=1.2.3 writes a new one into every file that has it)
	@$(if $(SET),sed -i 's/\b$(subst .,\.,$(VERSION))\b/$(SET)/' $(VERSIONED))
	@echo $(or $(SET),$(VERSION))

schema: $(VENV)/.dev  ## Write the JSON Schema, the documented example, the definition of Workload and the catalogue's throughput from the code
	@mkdir -p build
	$(BIN)/python -m simulators.engine.models.rate_table > build/model_rates.py && mv build/model_rates.py scaler/config/
	$(BIN)/forescale schema > config/schema.json
	@mkdir -p config/example
	$(BIN)/forescale schema --example > config/example/workload.yaml
	$(BIN)/forescale schema --crd > build/workload-crd.yaml && cp build/workload-crd.yaml config/deploy/workload-crd.yaml

lock: $(VENV)/.dev  ## Resolve the dependencies and write their hashes
	$(BIN)/uv pip compile $(LOCK) --extra dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK) $(SAME) --extra sim requirements/build.in pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile $(LOCK) $(SAME) --extra aws --extra azure --extra gcp --extra kafka --extra keda --extra kubernetes --extra modal --extra notices --extra otel --extra postgresql --extra redis requirements/build.in pyproject.toml -o requirements/image.txt
LOCK := -q --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'
SAME := --constraint requirements/dev.txt

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 15) else f"Forescale needs Python 3.11 to 3.14; $(PYTHON) is {v.major}.{v.minor}. Try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

# A development environment also serves `make run`. The environment for `make run` only is smaller and installs faster.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/python
	@test -e $(VENV)/.dev || { echo "Installing Forescale into $(VENV) (once)"; $(BIN)/python -m pip install -q --require-hashes -r requirements/run.txt && $(BIN)/python -m pip install -q --no-deps --no-build-isolation -e . ; }
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing Forescale and its development tools into $(VENV) (once)"
	@$(BIN)/python -m pip install -q --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run
