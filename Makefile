# Everything a person types. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.SUFFIXES:

BIN := .venv/bin
LAB := $(BIN)/python -m lab
SHELL_FILES := $(shell git ls-files '*.sh' ansible/vault-password .ci/run)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Make .venv with the locked dependencies (every target does that by itself)
	@scripts/setup.sh

.PHONY: demo
demo: setup ## The main job for real: a VPS, version 1, then version 2 under load
	@$(BIN)/python -m lab.demo

.PHONY: test
test: setup test-unit test-app test-molecule test-e2e ## Every test

.PHONY: test-unit
test-unit: setup ## Unit tests: seconds, no Docker
	$(BIN)/pytest -n 2 -q tests/unit

.PHONY: test-app
test-app: setup ## Tests of the reference application, on real PostgreSQL and Redis
	@$(LAB) up
	$(BIN)/pytest -n 2 -q app/tests --cov=app --cov-branch --cov-report=term:skip-covered --cov-fail-under=60

.PHONY: test-molecule
test-molecule: setup ## One Molecule scenario per role, and the whole way
	@$(LAB) up
	@scripts/molecule.sh

.PHONY: test-e2e
test-e2e: setup ## The whole way in the lab, under load
	$(BIN)/pytest -q tests/e2e

.PHONY: lint
lint: setup ## Every linter
	$(BIN)/ruff check .
	$(BIN)/black --check --quiet .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline
	$(BIN)/shellcheck $(SHELL_FILES)
	git ls-files '*Dockerfile*' | xargs $(BIN)/hadolint
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --no-progress --pedantic .github

.PHONY: lab-up
lab-up: setup ## Start the lab: engine, registry, base images
	@$(LAB) up

.PHONY: lab-down
lab-down: setup ## Stop the lab and its servers; images stay for the next time
	@$(LAB) down

.PHONY: lab-status
lab-status: setup ## What of the lab runs, and where
	@$(LAB) status

.PHONY: bench
bench: setup ## Measure what the docs say about speed
	$(BIN)/python -m bench.deploy_time

.PHONY: lock
lock: setup ## Lock the dependencies anew (requirements/*.in, app/requirements.in)
	@scripts/lock.sh

.PHONY: clean
clean: ## Remove the lab with its images and caches, and .venv
	@if [ -x $(BIN)/python ]; then $(LAB) down --all; fi
	rm -rf .venv .lab .ansible
