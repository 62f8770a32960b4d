# demo   two small applications behind kproxy, in a minute
# test   all tests; ARGS="-k name" is passed on to pytest, JOBS=0 runs them one after the other
# lint   ruff and mypy
# bench  kproxy beside other proxies
# bench-workers  what workers gain and cost, and what restarts do
# test-compiled  the unit tests on what `pip install` makes of kproxy
# clean  removes what the others made
#
# All that is needed is Python 3.10 to 3.13 (PYTHON=… picks one); the rest goes into .venv.

export PYTHON ?= python3
export VENV ?= .venv
ARGS ?=

# Commands that tests run; "command=package" where Debian's package has another name.
TEST_TOOLS = curl openssl zsh fish pebble pebble-challtestsrv=pebble named=bind9 \
	h2load=nghttp2-client chromium prometheus certutil=libnss3-tools
# What `make bench` measures with, and compares with. It does without those that can't be installed.
BENCH_TOOLS = wrk nginx=nginx-light haproxy caddy

.PHONY: demo test test-ready test-compiled lint format bench bench-workers bench-ready clean

demo:
	@.ci/venv base
	@$(VENV)/bin/python examples/demo.py $(ARGS)

test: test-ready
	@.ci/pytest $(ARGS)

test-ready:
	@.ci/venv test
	@.ci/packages $(TEST_TOOLS) || test -z "$$CI"
	@.ci/go || true

# The working copy is not on the path before the compiled one: hence no `python -m`, no pythonpath.
test-compiled: test-ready
	@rm -rf build/compiled
	@KPROXY_COMPILE=1 $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-deps --no-build-isolation --target build/compiled .
	@KPROXY_COMPILE=1 PYTHONPATH=build/compiled:. $(VENV)/bin/pytest -o pythonpath= tests/unit $(ARGS)

lint:
	@.ci/venv lint
	@$(VENV)/bin/python -m ruff check .
	@$(VENV)/bin/python -m ruff format --check .
	@$(VENV)/bin/python -m mypy

format:
	@.ci/venv lint
	@$(VENV)/bin/python -m ruff check --fix .
	@$(VENV)/bin/python -m ruff format .

bench: bench-ready
	@$(VENV)/bin/python -m bench $(ARGS)

bench-workers: bench-ready
	@$(VENV)/bin/python -m bench.workers $(ARGS)

bench-ready:
	@.ci/venv base
	@.ci/packages $(BENCH_TOOLS) || true
	@test -x .venv-compiled/bin/pip || $(PYTHON) -m venv .venv-compiled
	@.venv-compiled/bin/pip install -q -c constraints.txt .

clean:
	rm -rf $(VENV) .venv-compiled build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name dropin.cache -exec rm -f {} +
