# The front door: `make` says what there is. Everything happens in .venv, made on demand.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
DEMO_PORT ?= 8000
DEMO_MQTT_PORT ?= 1883
DEMO_IRC_PORT ?= 6667
DEMO_EMAIL_PORT ?= 2525
FUZZ_SECONDS ?= 60
CHAOS_SECONDS ?= 120
# The first Python of at least 3.11 that can make virtual environments.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$python && break; done)

export PATH := $(abspath $(BIN)):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The tests start some thousand processes; each would compile all of the project again.
unexport PYTHONDONTWRITEBYTECODE

CHECKS := 'ruff check .' 'ruff format --check .' 'mypy -p gateway -p django_gateway' \
	'mypy $(wildcard examples/gateway-*)' 'lint-imports --no-logo'

.PHONY: help
help: ## say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12 | sed 's/^/  make /'

.PHONY: venv
venv: $(VENV)/.test ## make .venv with everything for development

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras, older than pyproject.toml when it is to be installed again. The tests
# have the plugins of examples, too, each installed as the distribution that it is. What builds
# them is installed once, not once for each; what is compiled is compiled on all cores.
EXAMPLES := $(wildcard examples/gateway-*)

$(VENV)/.test: ALSO = $(addprefix --editable ,$(EXAMPLES))
$(VENV)/.test: $(addsuffix /pyproject.toml,$(EXAMPLES))
$(VENV)/.%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet 'setuptools>=77'
	$(BIN)/python -m pip install --quiet --no-compile --no-build-isolation --editable '.[$*]' $(ALSO)
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

define TRY

  Open http://127.0.0.1:$(DEMO_PORT)/ in two windows and talk. Or join from a shell:

    curl -d 'curl: hello' http://127.0.0.1:$(DEMO_PORT)/room/
    curl --http2-prior-knowledge -d 'curl: hello over HTTP/2' http://127.0.0.1:$(DEMO_PORT)/room/
    curl -X POST http://127.0.0.1:$(DEMO_PORT)/bell/
    curl -NH 'Accept: text/event-stream' http://127.0.0.1:$(DEMO_PORT)/room/
    $(BIN)/python -m websockets ws://127.0.0.1:$(DEMO_PORT)/room/
    mosquitto_sub -p $(DEMO_MQTT_PORT) -t room
    mosquitto_pub -p $(DEMO_MQTT_PORT) -t room/say -m 'lamp: hello'
    (printf 'NICK irc\nUSER irc 0 * :irc\nJOIN #room\nPRIVMSG #room :hello\n'; cat) | nc 127.0.0.1 $(DEMO_IRC_PORT)
    printf 'Subject: hello\r\n\r\nhello\r\n' | curl -sST - --mail-from ann@localhost --mail-rcpt room@localhost smtp://127.0.0.1:$(DEMO_EMAIL_PORT)

  Ctrl-C stops it.

endef
export TRY

.PHONY: demo
demo: $(VENV)/.demo ## run the demo project; DEMO_PORT=8000, and DEMO_MQTT_PORT, DEMO_IRC_PORT, DEMO_EMAIL_PORT
	@echo "$$TRY"
	@cd examples/demo && exec gateway run --listen 127.0.0.1:$(DEMO_PORT) \
		--set mqtt.listen=127.0.0.1:$(DEMO_MQTT_PORT) \
		--set irc.listen=127.0.0.1:$(DEMO_IRC_PORT) \
		--set email.listen=127.0.0.1:$(DEMO_EMAIL_PORT)

.PHONY: test
test: ## every check and every test
	@$(MAKE) --no-print-directory --jobs 2 --output-sync checks peers collected
	@failed=$$(cat $(VENV)/failed); \
	FAILED_CHECKS="$$failed" pytest -n 3 --dist worksteal $(PYTEST); status=$$?; \
	test -z "$$failed" && exit $$status || exit 1

.PHONY: lint
lint: checks ## ruff, mypy, import-linter
	@test ! -s $(VENV)/failed

# Runs every check, and leaves the names of those that failed in a file.
.PHONY: checks
checks: $(VENV)/.test
	@failed=; for check in $(CHECKS); do \
		echo "== $$check"; $$check || failed="$$failed$${failed:+, }$${check%% *}"; \
	done 2>&1; printf %s "$$failed" >$(VENV)/failed

# What all test processes would compile at the same time is compiled once, beside the checks.
.PHONY: collected
collected: $(VENV)/.test
	@pytest -q --collect-only >/dev/null 2>&1 || true

# Programs of users', by their command or by command:package. Missing ones are installed where
# that is possible; where it is not, who needs them says so at the end. In run level 1 Debian
# starts no service that it installs.
define install
@missing=; for peer in $(1); do \
	command -v $${peer%%:*} >/dev/null || missing="$$missing $${peer##*:}"; \
done; \
if test -n "$$missing" && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	echo "== apt-get install$$missing"; \
	{ apt-get -qq update; for package in $$missing; do \
		RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
			--no-install-recommends $$package >&2 || echo "could not install $$package"; \
	done; } </dev/null 2>/dev/null; \
fi
endef

.PHONY: peers
peers: $(BIN)/python
	$(call install,chromium curl openssl nginx haproxy h2load:nghttp2-client pg_ctlcluster:postgresql node:nodejs \
		npm nc:netcat-openbsd telnet:inetutils-telnet finger prosody go-sendxmpp \
		mosquitto mosquitto_pub:mosquitto-clients ngircd inspircd atheme-services irssi weechat:weechat-curses \
		swaks exim4:exim4-daemon-light)
	@python -m tests.plugins.websocket.suite </dev/null || true
	@python -m tests.npm </dev/null || true

.PHONY: bench
bench: $(VENV)/.bench ## speed against the servers that people use
	$(call install,redis-server h2load:nghttp2-client mosquitto mosquitto_pub:mosquitto-clients)
	@python -m benchmarks

.PHONY: autobahn
autobahn: $(VENV)/.test peers ## the WebSocket conformance suite, in full: half an hour
	@pytest -m autobahn --autobahn=full tests

.PHONY: fuzz
fuzz: $(VENV)/.test ## throw hostile bytes at the plugins http, mqtt, irc and email; FUZZ_SECONDS=60
	@python -m tests.plugins.http.fuzz --seconds $(FUZZ_SECONDS)
	@python -m tests.plugins.mqtt.fuzz --seconds $(FUZZ_SECONDS)
	@python -m tests.plugins.irc.fuzz --seconds $(FUZZ_SECONDS)
	@python -m tests.plugins.email.fuzz --seconds $(FUZZ_SECONDS)

.PHONY: chaos
chaos: $(VENV)/.test ## kill processes at random under load, and account for each message; CHAOS_SECONDS=120
	@python -m tests.chaos --seconds $(CHAOS_SECONDS) --roles worker,gateway
	@python -m tests.chaos --seconds $(CHAOS_SECONDS) --roles worker,gateway,hub --gateways 2

.PHONY: docs
docs: $(VENV)/.test ## write the generated pages of docs/reference
	@python docs/generate.py
	@python -m tests.plugins.http.refused

.PHONY: clean
clean: ## remove .venv and all that the tools left
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
