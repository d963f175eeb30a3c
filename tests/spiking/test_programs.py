"""What the compiler makes of the programs for a GPU, which needs none."""

from __future__ import annotations

import os
import re

import pytest

pytest.importorskip("triton", reason="Triton is not installed: the extra `kernels`")

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spikeproof.spiking import _programs, _triton
from spikeproof.spiking._curves import ATAN, GIVEN, TRIANGLE

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="nothing is compiled in this process"
)
NUMBERS = {"tau", "theta", "k0", "k1", "k2", "k3", "width", "rho", "c0", "c1"}
WHOLE = {"far", "n", "slope_far"}
KNOWN = {
    "LEARNED": True, "HARD": True, "STARTED": True, "MARKED": True, "TRACED": True, "SEEN": 2,
    "THROUGH": True, "TEMPORAL": True, "AVERAGED": False, "CURVE": TRIANGLE, "DS": True,
    "D_AFTER": True, "D_START": True, "T": 4, "LONG": 4, "BLOCK": _triton.BLOCK,
}  # fmt: skip


def compiled(program, precision="fp32", **given):
    """The assembly of a program for an H100, launched as the kernel launches it."""
    constants = {k: v for k, v in (KNOWN | given).items() if k in program.arg_names}
    learned, kinds = constants["LEARNED"], {}
    for name in program.arg_names:
        if name in constants:
            kinds[name] = "constexpr"
        elif name in WHOLE:
            kinds[name] = "i32"
        elif name in NUMBERS:
            kinds[name] = "*fp32" if learned and name in ("tau", "theta") else "fp32"
        elif name in ("x", "spikes", "ds", "dx"):
            kinds[name] = f"*{precision}"
        else:
            kinds[name] = "*fp64" if name == "sums" else "*fp32"
    even = {(i,): [["tt.divisibility", 16]] for i, k in enumerate(kinds.values()) if k[0] in "*i"}
    source = ASTSource(program, kinds, constants, even)
    target = GPUTarget("cuda", 90, 32)
    return triton.compile(source, target=target, options=_triton.EXACT).asm["ptx"]


@pytest.mark.parametrize(
    ("program", "given"),
    [
        (_programs.forward, {}),
        (_programs.forward, {"LEARNED": False, "SEEN": 0, "TRACED": False, "T": 5, "LONG": 2}),
        (_programs.backward, {"HARD": False}),
        (_programs.backward, {"CURVE": ATAN, "SEEN": 0, "T": 5, "LONG": 2, "LEARNED": False}),
        (_programs.backward, {"CURVE": GIVEN, "TEMPORAL": False, "AVERAGED": True}),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_nothing_is_contracted_flushed_or_added_up_by_chance(program, precision, given):
    assembly = compiled(program, precision, **given)
    assert "mul" in assembly
    assert ("cvt.rn.bf16" in assembly) == (precision == "bf16")
    assert not re.search(r"\bfma\.|\.ftz\.|\batom\.|\bred\.", assembly)


@pytest.mark.parametrize("program", [_programs.forward, _programs.backward])
def test_sixteen_bytes_are_loaded_at_once(program):
    assert "ld.global.v4.b32" in compiled(program)
