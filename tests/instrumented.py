"""Checks the shapes and types of the package's annotations while testing.

The host of the compiled loops is left out: it runs at every layer and step, and to check its calls
takes five times what they take. The contract of kernels holds it to the reference instead.
"""

from __future__ import annotations

from pathlib import Path

from jaxtyping import install_import_hook

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "spikeproof"
LEFT = {f"spikeproof.spiking.{name}" for name in ("_fused", "_kernels", "_loops", "_vectors")}


def modules() -> list[str]:
    """Returns rooms and modules to check; a room of which one is left out, module by module."""
    rooms = [path for path in PACKAGE.iterdir() if path.suffix in ("", ".py")]
    files = [*rooms, *(PACKAGE / "spiking").glob("_*.py")]
    names = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files}
    return sorted(names - LEFT - {"spikeproof.spiking", "spikeproof.__init__"})


install_import_hook(
    modules(), "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)
