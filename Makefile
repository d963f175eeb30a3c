# make demo   set up and run the demonstration
# make test   set up and run the tests
# make interop  set up other frameworks and run the tests beside them
# make check  set up and run formatter, linter, types and floors
.PHONY: demo test interop check setup clean

demo: setup
	.venv/bin/spikeproof demo

test:
	scripts/setup test
	scripts/test

interop:
	scripts/interop

check:
	scripts/setup check
	scripts/check

setup:
	scripts/setup

clean:
	rm -rf .venv runs .data
