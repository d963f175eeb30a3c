from __future__ import annotations

import spikeproof


def test_the_version_and_the_help(run):
    assert run("--version") == (0, spikeproof.__version__, "")
    for words in ([], ["train"], ["demo"], ["doctor"], ["data"], ["data", "check"]):
        code, out, _ = run(*words, "--help")
        assert code == 0
        assert "Usage" in out


def test_usage_errors_exit_with_two(run):
    assert run("train")[0] == 2
    assert run("--nonsense")[0] == 2
    assert run("nonsense")[0] == 2
