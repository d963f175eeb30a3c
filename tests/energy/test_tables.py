from __future__ import annotations

import pytest

from spikeproof.energy import TABLES, picojoules
from spikeproof.errors import Refusal
from tests.energy.test_operations import counted


def test_energy_is_operations_times_the_table():
    found = picojoules(counted(5, 7, 11), "fp32")
    assert found.analog == pytest.approx(5 * 4.6)
    assert found.synaptic == pytest.approx(7 * 0.9 + 11 * 4.6)
    assert found.updates == pytest.approx(60 * 0.9 + 40 * 4.6)
    assert found.total == pytest.approx(found.analog + found.synaptic + found.updates)


def test_every_table_has_a_source_and_multiplying_costs_more():
    for table in TABLES.values():
        assert "ISSCC 2014" in table.source
        assert table.mac > table.ac > 0


def test_another_table_is_refused():
    with pytest.raises(Refusal, match="fp32"):
        picojoules(counted(1, 1, 1), "fp3")
