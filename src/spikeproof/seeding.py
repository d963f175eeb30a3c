"""One seed into named generators, and proof that nobody touched the global ones."""

from __future__ import annotations

import hashlib
import random  # noqa: TID251  to give its state back
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(seed: int, *names: str | int) -> int:
    """Returns a 63-bit seed that depends on every name and on nothing else.

    >>> derive(0, "augment", 3) == derive(0, "augment", 3) != derive(0, "augment", 4)
    True
    """
    text = "/".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int, device: str | torch.device = "cpu") -> torch.Generator:
    """Returns a fresh generator for this seed and these names."""
    return torch.Generator(device=device).manual_seed(derive(seed, *names))


@contextmanager
def isolated(seed: int, *names: str | int) -> Iterator[None]:
    """Seeds torch's CPU generator inside the block and gives the old state back after it.

    Constructors of ``torch.nn`` draw their first weights from the global generator and take no
    other; this is the one place where that is done.
    """
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(derive(seed, *names))
        yield
    finally:
        torch.set_rng_state(state)


@contextmanager
def all_isolated(seed: int, *names: str | int) -> Iterator[None]:
    """Does the same with every global generator: Python's, NumPy's, torch's on all devices.

    Code of other packages draws from whichever it likes.
    """
    told, drawn = random.getstate(), np.random.get_state()  # noqa: NPY002  theirs, not ours
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), isolated(seed, *names):
            random.seed(derive(seed, *names, "python"))
            np.random.seed(derive(seed, *names, "numpy") % 2**32)  # noqa: NPY002, TID251
            torch.cuda.manual_seed_all(derive(seed, *names, "cuda"))
            yield
    finally:
        random.setstate(told)
        np.random.set_state(drawn)  # noqa: NPY002


@contextmanager
def untouched() -> Iterator[None]:
    """Raises if the block changed a global generator of torch or numpy."""
    before = _global_states()
    yield
    changed = [name for name, state in _global_states().items() if state != before[name]]
    if changed:
        raise RuntimeError(f"global generators changed: {', '.join(changed)}")


def _global_states() -> dict[str, object]:
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002  reads it, never seeds it
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (name, np.asarray(keys).tobytes(), *rest),
    }
