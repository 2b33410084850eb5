# Everything a person types. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.SUFFIXES:

BIN := .venv/bin
LAB := $(BIN)/python -m lab
# Whatever says that a shell runs it, committed or not yet.
SHEBANG := ^\#!/(bin/|usr/bin/env )(ba)?sh
SHELL_FILES = $(shell git grep --untracked -lE '$(SHEBANG)' -- ':!*.j2')
SHELL_TEMPLATES = $(shell git grep --untracked -lE '$(SHEBANG)' -- '*.j2')

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Make .venv with the locked dependencies (every target does that by itself)
	@scripts/setup.sh

.PHONY: init
init: setup ## Inventory, deploy key and vault for your server; options: ARGS="--help"
	@$(BIN)/python -m onboarding $(ARGS)

.PHONY: demo
demo: setup ## The main job for real: a VPS, version 1, then version 2 under load
	@$(BIN)/python -m lab.demo

.PHONY: test
test: setup test-unit test-app test-molecule test-workflows test-e2e test-faults-short ## Every test

.PHONY: test-unit
test-unit: setup ## Unit tests: seconds, no Docker
	$(BIN)/pytest -n 2 -q tests/unit

.PHONY: test-app
test-app: setup ## Tests of the reference application, on real PostgreSQL and Redis (docs/ci.md)
	@[ -n "$${TEST_DATABASE_URL:-}" ] && [ -n "$${TEST_REDIS_URL:-}" ] || $(LAB) up
	$(BIN)/pytest -n 2 -q app/tests --cov=app --cov-branch --cov-report=term:skip-covered --cov-fail-under=60

.PHONY: test-molecule
test-molecule: setup ## One Molecule scenario per role, and the whole way; one alone: SCENARIO=docker; on Debian 12: SLIPWAY_VPS_SYSTEM=bookworm
	@$(LAB) up
	@scripts/molecule.sh $(SCENARIO)

.PHONY: test-workflows
test-workflows: setup ## The workflows for real, with act, against servers of the lab
	@$(LAB) up
	$(BIN)/pytest -n 2 --dist loadfile -q tests/workflows

.PHONY: test-e2e
test-e2e: setup ## The whole way in the lab, under load
	$(BIN)/pytest -q tests/e2e

.PHONY: test-soak
test-soak: setup ## Fifty releases in a row under 200 requests/s: none lost, nothing left behind (a quarter of an hour)
	SLIPWAY_RELEASES=50 SLIPWAY_RATE=200 $(BIN)/pytest -q -s tests/e2e/test_releases.py -k releases_in_a_row

.PHONY: test-faults
test-faults: setup ## Every fault, under load: about half an hour
	$(BIN)/pytest -q tests/faults

.PHONY: test-faults-short
test-faults-short: setup ## One fault of each kind
	$(BIN)/pytest -q tests/faults --faults=one-of-each-kind

.PHONY: test-faults-table
test-faults-table: setup ## Every fault, and the table in tests/faults/README.md anew
	$(BIN)/pytest -q tests/faults --write-table

.PHONY: lint
lint: lint-python lint-ansible lint-shell lint-workflows lint-migrations ## Every linter

.PHONY: lint-python
lint-python: setup ## ruff, black, mypy
	$(BIN)/ruff check .
	$(BIN)/black --check --quiet .
	$(BIN)/mypy

.PHONY: lint-ansible
lint-ansible: setup ## yamllint, ansible-lint (profile production), the syntax of every playbook
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline
	$(BIN)/pytest -q tests/unit/ansible/test_playbooks_syntax.py

.PHONY: lint-shell
lint-shell: setup ## shellcheck, and hadolint for the Dockerfiles
	$(BIN)/shellcheck $(SHELL_FILES)
	@# Templates, with something in the place of each expression.
	for file in $(SHELL_TEMPLATES); do sed -E 's/^\{\{.*\}\}$$/#/; s/\{\{[^}]*\}\}/1/g' "$$file" | $(BIN)/shellcheck - || exit 1; done
	git ls-files --cached --others --exclude-standard '*Dockerfile*' | xargs $(BIN)/hadolint

.PHONY: lint-workflows
lint-workflows: setup ## actionlint, zizmor (pedantic)
	$(BIN)/actionlint
	$(BIN)/zizmor --offline --no-progress --pedantic .github

.PHONY: lint-migrations
lint-migrations: setup ## Is each migration safe while the version before serves?
	@$(BIN)/python -m pipeline.migrations

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

.PHONY: bench-rollback
bench-rollback: setup ## Measure how long going back takes, beside a deploy
	$(BIN)/python -m bench.rollback_time

.PHONY: bench-push-to-live
bench-push-to-live: setup ## Measure the way from a build to the verified new version
	$(BIN)/python -m bench.push_to_live

.PHONY: bench-site
bench-site: setup ## Measure what site.yml costs where it has nothing to do
	$(BIN)/python -m bench.site_time

.PHONY: lock
lock: setup ## Lock the dependencies anew (requirements/*.in, app/requirements.in)
	@scripts/lock.sh

.PHONY: clean
clean: ## Remove the lab with its images and caches, and .venv
	@if [ -x $(BIN)/python ]; then $(LAB) down --all; fi
	rm -rf .venv .lab .ansible
