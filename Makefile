# Two commands do everything on a fresh machine, set-up included:
#   make demo    the whole life of a small fleet, on this machine, no root, no broker to install
#   make test    installs what the full suite needs (with apt where it may), then checks and tests everything
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test faults provider check fix lock lowest packages debian programs clean

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3,$(if $(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo yes),$(name))))

# Much of the suite waits for brokers and timers: a process more than cores keeps these busy.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))

# What the full suite needs beside Python; `program` or `path` that proves it, then the Debian package.
PROGRAMS := \
  mosquitto:mosquitto mosquitto_pub:mosquitto-clients openssl:openssl cc:gcc pki:strongswan-pki mvn:maven java:default-jdk-headless curl:curl \
  dpkg-deb:dpkg systemd-analyze:systemd softhsm2-util:softhsm2 certtool:gnutls-bin certutil:libnss3-tools nginx:nginx-light apache2:apache2-bin faketime:faketime zbarimg:zbar-tools \
  swtpm:swtpm swtpm_setup:swtpm-tools tpm2_createek:tpm2-tools tpm2_ptool:libtpm2-pkcs11-tools pkcs11-tool:opensc qemu-system-arm:qemu-system-arm cargo:cargo socat:socat \
  stunnel4:stunnel4 /usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so:libengine-pkcs11-openssl \
  busybox:busybox promtool:prometheus \
  /usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so:libtpm2-pkcs11-1 \
  /usr/include/mosquitto_plugin.h:mosquitto-dev /usr/include/mosquitto.h:libmosquitto-dev \
  /usr/include/openssl/ssl.h:libssl-dev

RUST_TARGET := thumbv7em-none-eabi

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/ready ## run the whole life of a small fleet (PORT=/dev/ttyUSB0 adds a real device)
	@$(BIN)/fleet demo $(if $(PORT),--port $(PORT))

test: programs $(VENV)/ready ## check and test everything
	@$(MAKE) --no-print-directory check
	@echo "== tests"
	@$(BIN)/pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

faults: $(VENV)/ready ## cut power and cables thousands of times, renew a thousand times (`make test` does fewer)
	@FAULT_SEEDS=20 FAULT_RENEWALS=1000 $(BIN)/pytest -q tests/faults/test_agent_power_cuts.py tests/faults/test_agent_token_power_cuts.py tests/faults/test_agent_killed.py tests/faults/test_recovery_power_cuts.py tests/faults/test_agent_many_renewals.py tests/faults/test_line_matrix.py

provider: $(VENV)/ready ## test TLS by OpenSSL's pkcs11-provider (Debian 13 has it; PKCS11_PROVIDER=/path/pkcs11.so)
	@$(BIN)/pytest -q tests/contract/test_token_provider.py tests/e2e/test_agent_provider.py

explore: $(VENV)/ready ## visit far more states of the protocol than `make test` does (hours, gigabytes; WORLDS="deep-code ...")
	@$(BIN)/python -m tests.exploration $(or $(WORLDS),--deep)

check: $(VENV)/ready ## lint, format, types, import contracts
	@echo "== lint";             $(BIN)/ruff check .
	@echo "== format";           $(BIN)/ruff format --check .
	@echo "== types";            $(BIN)/mypy
	@echo "== import contracts"; $(BIN)/lint-imports --no-cache | tail -n 3

fix: $(VENV)/ready ## mend what the linters can mend
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock: $(VENV)/ready ## pin every dependency again in requirements.lock (hashes, no addresses)
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --upgrade --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
	@echo "requirements.lock: $$(grep -cE '^[a-z0-9]' requirements.lock) packages"

# Two tests of the factory line bring a station, and so the server with its newer libraries.
LOWEST := .cache/lowest
lowest: $(VENV)/ready ## test the agent at the lowest versions of its libraries
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LOWEST)
	@$(BIN)/uv pip install --quiet --python $(LOWEST) --resolution lowest-direct -e .
	@$(BIN)/uv pip freeze --python $(LOWEST) | grep -E '^(cryptography|aiomqtt|paho-mqtt)==' > $(LOWEST)/bounds.txt
	@cat $(LOWEST)/bounds.txt
	@$(BIN)/uv pip install --quiet --python $(LOWEST) --constraints $(LOWEST)/bounds.txt \
	  aiohttp cbor2 cryptography-vectors hypothesis pyserial pytest pytest-asyncio setuptools smpclient
	@$(LOWEST)/bin/python -m pytest -q tests/unit/device_agent --ignore-glob='*/test_station_*'

packages: $(VENV)/ready ## build the agent's wheel, zipapp and Debian package into dist/
	@$(BIN)/python -m firmware_scripts.packages --output dist

debian: $(VENV)/ready ## as root: try the packages on Debian 12, 13 and testing, each with its own systemd
	@$(BIN)/python -m tests.debian_trial $(SUITES)

programs:
	@if command -v rustup >/dev/null 2>&1; then rustup target add $(RUST_TARGET) >/dev/null 2>&1 \
	  || echo "== Rust's library for $(RUST_TARGET) cannot be had here: the firmware of microcontrollers is not tested"; fi
	@missing=""; \
	for pair in $(PROGRAMS); do \
	  need=$${pair%%:*}; [ -e "$$need" ] || command -v "$$need" >/dev/null 2>&1 || missing="$$missing $${pair##*:}"; \
	done; \
	[ -z "$$missing" ] && exit 0; \
	root=""; [ "$$(id -u)" = 0 ] || root="sudo -n"; \
	if command -v apt-get >/dev/null && $$root true 2>/dev/null; then \
	  echo "== installing with apt:$$missing"; \
	  $$root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$root apt-get install -y -qq $$missing >/dev/null; \
	else \
	  echo "== the full suite needs these Debian packages; tests without them are skipped:$$missing"; \
	fi

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "error: no Python 3.11 or later found"; echo "hint: apt-get install python3 python3-venv, or name one: make PYTHON=/path/to/python3 ..."; exit 2; }
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { echo "hint: apt-get install python3-venv"; rm -rf $(VENV); exit 2; }

# Each package is pinned, and checked by its hash.
$(VENV)/ready: requirements.lock pyproject.toml | $(VENV)/bin/python
	@echo "== installing the packages of requirements.lock into $(VENV) (the first time takes about half a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean: ## remove the virtual environment and caches
	@rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
