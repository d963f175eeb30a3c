# make demo   set up and run the demonstration
# make test   set up and run the tests
# make check  set up and run formatter, linter, types and floors
.PHONY: demo test check setup clean

demo: setup
	.venv/bin/spikeproof demo

test:
	scripts/setup test
	scripts/test

check:
	scripts/setup check
	scripts/check

setup:
	scripts/setup

clean:
	rm -rf .venv runs .data
