# `make demo` and `make test` need a C compiler and make; the rest uses the tools of `make setup`
# and names what it skips for want of one. All of it builds into build/, most of it in tests/run.sh.
# No extensions of GNU make beyond 3.81 and BSD make, so that macOS and the BSDs read it as well.
#
#   CC, CXX, CFLAGS   compilers and flags        SAN=address,undefined   any -fsanitize= list
#   SEED=n            of all random choices      BUDGET=s                seconds of a soak or a fuzzer
#   LEVEL=smoke|ci|all  how long model, fault, process, stress and fuzz take
#   TESTS="runq idle" only tests with one of these words in the name
#   VALGRIND_TESTS    the same for `make valgrind`

CXX ?= c++
CASE ?=
VALGRIND_TESTS ?= mix_1 mix_2 slab task runq
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
BUDGET ?=

# Debian packages, here and nowhere else.
PACKAGES = gcc g++ clang clang-19 libclang-rt-19-dev llvm-19 musl-tools valgrind strace hyperfine \
	universal-ctags graphviz gcovr python3 curl wrk apache2-utils libuv1-dev npm \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user \
	prometheus python3-prometheus-client chromium fonts-inter

# What `make bench` takes besides; `make setup-bench` installs it.
BENCH_PACKAGES = jq gnuplot-nox cargo librust-tokio-dev librust-rayon-dev golang-go libtbb-dev \
	libomp-dev libjemalloc2 nginx-light linux-perf

RUN = CC="$(CC)" CXX="$(CXX)" CFLAGS="$(CFLAGS)" SAN="$(SAN)" SEED="$(SEED)" BUDGET="$(BUDGET)" \
	TESTS="$(TESTS)" VALGRIND_TESTS="$(VALGRIND_TESTS)" sh tests/run.sh

.PHONY: help demo test tested unit api examples model mutants fault process stress soak fuzz kqueue embed \
	observe trace page budget include matrix lint asan ubsan tsan valgrind coverage platforms \
	check check-all bench bench-quick bench-report size setup setup-bench install clean

help:        ## this list
	@awk -F ' *## ' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-12s %s\n", $$1, $$2 }' \
		Makefile

demo: build/treewc build/httpd ## count words below /usr/include; serve docs/ and fetch it
	@d=/usr/include; [ -d $$d ] || d=.; echo "build/treewc $$d"; build/treewc $$d
	@echo "build/httpd -d docs"; build/httpd -d docs
	@echo "see it live: build/httpd -m docs, then open http://127.0.0.1:8080/sched"

build/treewc: sched.h docs/examples/treewc.c
	@mkdir -p build
	$(CC) -std=c11 $(CFLAGS) -iquote . -o $@ docs/examples/treewc.c -pthread

build/httpd: sched.h docs/examples/httpd.c docs/examples/httpd_page.h
	@mkdir -p build
	$(CC) -std=c11 $(CFLAGS) -iquote . -o $@ docs/examples/httpd.c -pthread

test:        ## what a user runs: unit tests, the public interface, the examples
	@LEVEL=$${LEVEL:-smoke} $(RUN) unit+examples api
	@echo '$(RUN)' >build/tested

# Not again if it has passed with these very files, compilers and flags.
tested:
	@[ "$$(cat build/tested 2>/dev/null)" = '$(RUN)' ] && [ -z "$$(find sched.h Makefile README.md \
		tests docs/examples -type f -newer build/tested)" ] || $(MAKE) test

unit:        ## tests/all.c: the header and every unit test in one program
	@$(RUN) unit

api:         ## programs that see declarations only; the manual's and the README's programs
	@$(RUN) api

examples:    ## docs/examples, each run and checked
	@$(RUN) examples

model:       ## the explorer: interleavings and weak memory orders of tests/model
	@$(RUN) model

mutants:     ## the explorer's own test: every weakened order, every dropped check, hours
	python3 tests/model/mutate.py --jobs 2

fault:       ## the n-th call fails, for every n; system calls fail by strace
	@$(RUN) fault

process:     ## fork, exec, exit, static destructors, dlclose
	@$(RUN) process

stress:      ## chaos: random mixes, stops, oversubscription, start and stop
	@$(RUN) stress

soak:        ## random mixes of everything for BUDGET seconds: make soak BUDGET=3600
	@$(RUN) soak

kqueue:      ## unit tests with kqueue in place of epoll and futex; headers of macOS and the BSDs
	@$(RUN) kqueue cross

embed:       ## a runtime inside a libuv loop
	@$(RUN) embed

observe:     ## metrics under promtool, a real Prometheus, the OpenMetrics parser
	@$(RUN) observe

trace:       ## traces loaded, checked and shown to Perfetto
	@$(RUN) trace

page:        ## httpd's live page in headless Chromium
	@$(RUN) page

budget:      ## instructions and atomic operations of the hot paths, against committed budgets
	@$(RUN) budget

fuzz:        ## sequences of API calls by libFuzzer; the corpus by anybody
	@$(RUN) fuzz

include:     ## every order of inclusion with <pthread.h>, <sched.h>, ..., linked and run
	@$(RUN) include

matrix:      ## every compiler, standard and option without a warning
	@$(RUN) matrix

lint:        ## index, columns, names, symbols, order comments
	@$(RUN) lint

asan:        ## unit tests under AddressSanitizer, LeakSanitizer and UBSan
	@$(RUN) asan

ubsan:       ## unit tests under UBSan alone, optimised
	@$(RUN) ubsan

tsan:        ## unit tests under ThreadSanitizer (clang)
	@$(RUN) tsan

valgrind:    ## unit tests under memcheck; VALGRIND_TESTS chooses some
	@$(RUN) valgrind

coverage:    ## lines and branches of sched.h that unit tests and the fuzzer's corpus reach
	@$(RUN) coverage

platforms:   ## unit tests with musl, on AArch64 (qemu) and with ucontext stacks
	@$(RUN) platforms

check: tested ## test and all of the above as far as 15 minutes go: LIGHT ones at their shortest
	@LIGHT="cross process stress page trace" FETCHED=1 $(RUN) lint include matrix+fetch model \
		examples/httpd,process,stress,fuzz+fault kqueue,musl+asan,aarch64 \
		tsan,ucontext,cross+embed,valgrind,observe,trace,page,budget

check-all:   ## everything, hours: each compiler's sanitizers, all mutants, BUDGET seconds of each soak
	@LEVEL=all $(RUN) lint include matrix unit api examples process fault model stress fuzz asan \
		ubsan tsan valgrind coverage kqueue embed cross platforms \
		observe trace page budget

bench:       ## every benchmark beside the peers that are there, 12 minutes; make bench CASE="echo timers"
	@sh bench/run.sh $(CASE)

bench-quick: ## the same, fewer operations and rounds: 3 minutes
	@sh bench/run.sh quick $(CASE)

bench-report: ## docs/benchmarks.md and its plots again, from the results that are there
	@sh bench/run.sh report

size:        ## bytes of machine code at -O2 and -Os
	@mkdir -p build
	@for level in -O2 -Os; do echo '#include "sched.h"' | $(CC) -std=c11 $$level -DSCHED_IMPLEMENTATION \
		-iquote . -x c -c - -o build/size.o && size -A build/size.o | awk -v level=$$level \
		'$$1 ~ /^\.text/ { n += $$2 } END { print level, n }' || exit 1; done

setup:       ## install the tools of check (Debian; elsewhere they are named)
	@sh tests/setup.sh $(PACKAGES)

setup-bench: ## and those of bench, the peers among them
	@sh tests/setup.sh $(PACKAGES) $(BENCH_PACKAGES)

install:     ## the header to PREFIX/include/sched/sched.h; then #include "sched/sched.h"
	mkdir -p $(DESTDIR)$(PREFIX)/include/sched
	cp sched.h $(DESTDIR)$(PREFIX)/include/sched/sched.h

clean:       ## remove build/
	rm -rf build
