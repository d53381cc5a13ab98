# make                 builds the server and its client, and writes redis.conf when there is none
# make check           formatting, lints, syntax of the scripts
# make test            every test; installs what they need and lacks when root, else says what to install
# make test-clients-deps   the client libraries of tests/clients, into the build directory; a part of make test
# make differential    random commands to ours and to a real server, compared: REDIS_RS_COMMANDS (200000) for each of
#                      REDIS_RS_SEEDS ("11 12 13"); REDIS_RS_PEER names another real server than Debian's
# make simulate        SEEDS=3000 FIRST_SEED=1: servers without sockets under whatever a seed thinks of (tests/sim/seeds.rs);
#                      a seed that fails is printed, and REDIS_RS_SEED=n plays that one again with all that happened
# make record          the scripts of tests/sim/scripts are played to Debian's redis-server (REDIS_RS_PEER: another), which
#                      writes its replies into them: see what has changed in the diff. ONLY=streams: that file
# make fuzz            TARGET=listpack SECONDS=60: arbitrary bytes for one of tests/fuzz/fuzz_targets. Installs cargo-fuzz
#                      from crates.io if it is missing; needs a C++ compiler for libFuzzer, and no nightly Rust: stable
#                      does it with RUSTC_BOOTSTRAP=1
# make asan            every test under AddressSanitizer, the servers that they start included. Stable Rust does it with
#                      RUSTC_BOOTSTRAP=1; jemalloc steps aside (feature system-allocator), since the sanitizer has to see
#                      each allocation, so tests of limits that hang on the allocator's figures are left out
# make crash-test      KILLS=200: servers are killed while clients write, and asked for what they had acknowledged;
#                      SEED=1 is where the random numbers begin
# make bench-replication   replicas attach to a million keys under load; REDIS_RS_SERVER names another server to measure
# make demo            a master and two replicas, from nothing to stop.sh, in a temporary directory
# make bench           speed and size beside Debian's redis-server, Redis 8.2.3 and Valkey 9.1.2 (from PyPI), told against
#                      the best of them, in some twenty minutes; QUICK=1: in four; ONLY=regex: those points; PICTURE=1:
#                      tools/bench/ratios.svg too; REDIS_PEER=path: that server alone
# make install         PREFIX=/usr/local DESTDIR=
# make clean

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
SCRIPTS = tools/instance.sh tools/new-instance.sh tools/start.sh tools/stop.sh tools/topology.sh tools/test-deps.sh tools/client-deps.sh tools/demo.sh tools/bench-peers.sh .ci/run
SHARE = $(DESTDIR)$(PREFIX)/share/redis-rs

.PHONY: all build check test test-clients-deps differential simulate record fuzz asan crash-test bench bench-replication demo install clean toolchain

all: build redis.conf

# The server is built anew by cargo when something changed; a running binary cannot be overwritten, only replaced.
build: toolchain
	$(CARGO) build --release --locked
	@for name in redis-rs redis-cli; do \
		cmp -s $(TARGET_DIR)/release/$$name $$name || \
		{ cp $(TARGET_DIR)/release/$$name $$name.new && mv $$name.new $$name; } || exit 1; \
	done
	@ln -sf redis-rs redis-check-rdb; ln -sf redis-rs redis-check-aof
	@echo "Built ./redis-rs and ./redis-cli (redis-check-rdb and redis-check-aof are the first, called so)"

redis.conf:
	@if [ -e redis.conf ]; then :; else cp redis.conf.example redis.conf && echo "Wrote redis.conf from redis.conf.example"; fi

toolchain:
	@command -v $(CARGO) >/dev/null || \
		{ echo "Rust is missing: see https://rustup.rs, or install your system's cargo." >&2; exit 1; }
	@command -v cc >/dev/null || \
		{ echo "A C compiler is missing (for the allocator jemalloc): install gcc." >&2; exit 1; }

check: toolchain
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) fmt --check --manifest-path tools/bench/Cargo.toml
	$(CARGO) clippy --locked --all-targets --manifest-path tools/bench/Cargo.toml --target-dir $(TARGET_DIR)/bench \
		-- -D warnings
	@for script in $(SCRIPTS); do \
		echo "syntax of $$script"; \
		case "$$(head -n 1 $$script)" in *bash*) bash -n $$script;; *) sh -n $$script;; esac || exit 1; \
	done

# The development profile: it compiles in a fraction of the time and keeps every debug assertion.
test: toolchain test-clients-deps
	$(CARGO) test --locked --no-fail-fast
	$(CARGO) test --locked --manifest-path tools/bench/Cargo.toml --target-dir $(TARGET_DIR)/bench

test-clients-deps:
	tools/test-deps.sh
	CARGO_TARGET_DIR=$(TARGET_DIR) tools/client-deps.sh

differential: toolchain
	tools/test-deps.sh
	$(CARGO) test --locked --test main differential::very_many -- --ignored --nocapture

SEEDS ?= 3000
FIRST_SEED ?= 1
simulate: toolchain
	REDIS_RS_SEEDS=$(SEEDS) REDIS_RS_FIRST_SEED=$(FIRST_SEED) \
		$(CARGO) test --locked --profile simulation --test sim seeds -- --nocapture

record: toolchain
	tools/test-deps.sh
	ONLY="$(ONLY)" $(CARGO) test --locked --test sim scripts::record -- --ignored --nocapture

KILLS ?= 200
SEED ?= 1
crash-test: toolchain
	REDIS_RS_KILLS=$(KILLS) REDIS_RS_SEED=$(SEED) \
		$(CARGO) test --locked --test main crash::many -- --ignored --nocapture

TARGET ?= dump_payload
SECONDS ?= 60
fuzz: toolchain
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --fuzz-dir tests/fuzz $(TARGET) -- \
		-max_total_time=$(SECONDS) -rss_limit_mb=1024 -malloc_limit_mb=512

# Servers end without freeing what they hold: that is no leak. What is written below the stack of a forked child is its own.
ASAN = RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0 \
	$(CARGO) test --locked --no-fail-fast --target $(shell uname -m)-unknown-linux-gnu --features system-allocator
asan: toolchain
	tools/test-deps.sh
	$(ASAN) --lib -- --skip memory
	$(ASAN) --test main -- --skip memory --skip does_not_read --skip never_reads --skip stat_prints --skip a_child_that_fails

# The load comes from the development profile, the server from the release.
bench-replication: build
	REDIS_RS_SERVER="$${REDIS_RS_SERVER:-$(CURDIR)/redis-rs}" \
		$(CARGO) test --locked --test main replication_load -- --ignored --nocapture

demo: all
	tools/demo.sh

bench: build
	tools/test-deps.sh
	$(CARGO) run --quiet --release --locked --manifest-path tools/bench/Cargo.toml --target-dir $(TARGET_DIR)/bench -- \
		--ours ./redis-rs --json $(TARGET_DIR)/bench.json $(if $(QUICK),--quick) $(if $(ONLY),--only '$(ONLY)') \
		$(if $(REDIS_PEER),--peer 'peer=$(REDIS_PEER)',--peer redis=redis-server \
			$$(tools/bench-peers.sh $(TARGET_DIR)/peers | sed 's/^/--peer /')) $(if $(PICTURE),--picture tools/bench/ratios.svg)

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/tools $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/etc
	install -m 755 redis-rs redis-cli $(DESTDIR)$(PREFIX)/bin/
	ln -sf redis-rs $(DESTDIR)$(PREFIX)/bin/redis-check-rdb
	ln -sf redis-rs $(DESTDIR)$(PREFIX)/bin/redis-check-aof
	install -m 644 redis.conf.example $(SHARE)/
	install -m 755 tools/instance.sh tools/new-instance.sh tools/start.sh tools/stop.sh $(SHARE)/tools/
	ln -sf ../share/redis-rs/tools/new-instance.sh $(DESTDIR)$(PREFIX)/bin/redis-rs-new-instance
	@# It may come to hold passwords. One that is there stays as it is.
	[ -e $(DESTDIR)$(PREFIX)/etc/redis-rs/redis.conf ] || { install -d -m 700 $(DESTDIR)$(PREFIX)/etc/redis-rs && \
		install -m 600 redis.conf.example $(DESTDIR)$(PREFIX)/etc/redis-rs/redis.conf; }
	sed 's|@PREFIX@|$(PREFIX)|g' tools/redis-rs.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/redis-rs.service
	chmod 644 $(DESTDIR)$(PREFIX)/lib/systemd/system/redis-rs.service

clean:
	$(CARGO) clean
	rm -f redis-rs redis-cli redis-check-rdb redis-check-aof
