from __future__ import annotations

import pytest

from spikeproof.training import _progress
from spikeproof.training._progress import clock


def test_rate_and_time_left_are_means_since_the_start(monkeypatch: pytest.MonkeyPatch):
    """A run resumed at step 10 of 40: three steps of 8 samples, ten seconds each."""
    times = iter([100.0, 110.0, 120.0, 130.0])
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: next(times))
    tell = clock(10, 40)
    seen = [tell(step, 2, 0.5, 8) for step in (11, 12, 13)]
    assert [at.rate for at in seen] == pytest.approx([0.8, 0.8, 0.8])
    assert [at.left for at in seen] == pytest.approx([290, 280, 270])
    assert (seen[0].step, seen[0].steps, seen[0].epoch, seen[0].loss) == (11, 40, 2, 0.5)
