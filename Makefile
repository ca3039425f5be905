# Everything from a bare machine: Debian 12 or Ubuntu 24.04 or later with python3, make and git.
PYTHON := .local/venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help up test faults soak witness check fmt lock protos clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

up: ## bring up servers and services, until Ctrl-C
	@devstack/venv.sh requirements.txt
	@exec $(PYTHON) -m devstack up

test: ## run the suite, two tests at a time, without those of minutes (PYTEST="-k relay" narrows it, one at a time)
	@devstack/venv.sh requirements-dev.txt
	@rm -f .coverage .coverage.*
	$(PYTHON) -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=$(if $(PYTEST),0,95) \
	  $(or $(PYTEST),--numprocesses=2 --dist=loadfile --no-loadscope-reorder)

faults: ## every fault test, those too that take minutes (PYTEST="-k relay" narrows it)
	@devstack/venv.sh requirements-dev.txt
	$(PYTHON) -m pytest tests/faults -m "long or not long" $(PYTEST)

soak: ## faults of all kinds at random for MINUTES=60, from SEED; a report in .local/soak
	@devstack/venv.sh requirements-dev.txt
	$(PYTHON) -m tests.soak --minutes $(or $(MINUTES),60) $(if $(SEED),--seed $(SEED))

witness: ## write to a running `make up` for MINUTES=5 while you break it, and judge what came of it
	@devstack/venv.sh requirements-dev.txt
	@test -f .local/up.env || { echo "Nothing runs here. Start make up in another terminal." >&2; exit 1; }
	@set -a && . .local/up.env && exec $(PYTHON) -m tests.soak.witness --minutes $(or $(MINUTES),5)

check: ## lint, types, import rules, generated code, migrations
	@devstack/venv.sh requirements-dev.txt
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy .
	.local/venv/bin/lint-imports
	$(PYTHON) -m protos.generate --check
	$(PYTHON) -m devstack with-database -- $(PYTHON) -m alembic -c setup.cfg check

fmt: ## format the code
	@devstack/venv.sh requirements-dev.txt
	$(PYTHON) -m ruff check --fix-only -q .
	$(PYTHON) -m ruff format .

protos: ## generate the stubs from the .proto files
	@devstack/venv.sh requirements-dev.txt
	$(PYTHON) -m protos.generate

lock: ## compile requirements.in and requirements-dev.in with hashes
	@devstack/venv.sh requirements-dev.txt
	for name in requirements requirements-dev; do \
	  $(PYTHON) -m uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate $$name.in -o $$name.txt || exit 1; \
	done

clean: ## remove .local: the virtual environment, servers' data, passwords, keys
	rm -rf .local
