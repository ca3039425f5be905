# Everything from a bare machine: Debian 12 or Ubuntu 24.04 or later with python3, make and git.
PYTHON := .local/venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help up test faults fuzz overload soak witness check proto-check openapi-check fmt lock protos clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

up: ## bring up servers and services, until Ctrl-C
	@devstack/venv.sh requirements.txt
	@exec $(PYTHON) -m devstack up

# A time-out is swallowed where a task of the test's own loop spins: then all stacks are told, and the worker ends.
test: ## run the suite, two tests at a time, without those of minutes (PYTEST="-k relay" narrows it, one at a time)
	@devstack/venv.sh requirements-dev.txt
	@rm -f .coverage .coverage.*
	$(PYTHON) -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=$(if $(PYTEST),0,95) \
	  -o faulthandler_timeout=450 -o faulthandler_exit_on_timeout=true \
	  $(or $(PYTEST),--numprocesses=2 --dist=loadfile --no-loadscope-reorder)

faults: ## every fault test, those too that take minutes (PYTEST="-k relay" narrows it)
	@devstack/venv.sh requirements-dev.txt
	$(PYTHON) -m pytest tests/faults -m "long or not long" $(PYTEST)

fuzz: ## calls of all kinds that the API's description allows or forbids, for MINUTES=10, from SEED=1
	@devstack/venv.sh requirements-dev.txt
	FUZZ_MINUTES=$(or $(MINUTES),10) FUZZ_SEED=$(or $(SEED),1) \
	  $(PYTHON) -m pytest tests/contract/test_schemathesis.py -m long --timeout=0 -s

overload: ## twice the load that the API can serve, for MINUTES=5
	@devstack/venv.sh requirements-dev.txt
	OVERLOAD_SECONDS=$$(( $(or $(MINUTES),5) * 60 )) $(PYTHON) -m pytest tests/faults/test_overload.py -m long -s

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

# Exactly one version, so that its rules change only when somebody wants them to. It is fetched with the system's
# certificates, as apt and pip do; those that Node.js brings do not know a company's own index.
BUF := 1.75.0

proto-check: ## lint the .proto files, and compare them with what clients were built from (needs Node.js)
	@command -v npm >/dev/null || { echo "npm is missing. Install Node.js (apt-get install npm)." >&2; exit 1; }
	@test "$$(.local/buf/node_modules/.bin/buf --version 2>&1)" = $(BUF) || NODE_OPTIONS=--use-openssl-ca npm install \
	  --prefix .local/buf --no-save --no-fund --no-audit --ignore-scripts --loglevel=error @bufbuild/buf@$(BUF)
	.local/buf/node_modules/.bin/buf lint --config protos/buf.yaml
	.local/buf/node_modules/.bin/buf format --config protos/buf.yaml --diff --exit-code
	.local/buf/node_modules/.bin/buf breaking --config protos/buf.yaml --against tests/contract/protos.json

# Likewise. The second line of versions is the last that runs on the Node.js of Debian 12.
REDOCLY := 1.34.20

openapi-check: ## lint the OpenAPI description (needs Node.js)
	@command -v npm >/dev/null || { echo "npm is missing. Install Node.js (apt-get install npm)." >&2; exit 1; }
	@test -f .local/redocly/$(REDOCLY) || { NODE_OPTIONS=--use-openssl-ca npm install \
	  --prefix .local/redocly --no-save --no-fund --no-audit --ignore-scripts --loglevel=error @redocly/cli@$(REDOCLY) \
	  && touch .local/redocly/$(REDOCLY); }
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true .local/redocly/node_modules/.bin/redocly lint \
	  --config api/redocly.yaml tests/contract/openapi.json

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
