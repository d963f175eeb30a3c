"""What can be typed: examples of every command, as its ``--help`` shows them."""

from __future__ import annotations

EXAMPLES = {
    "train": (
        "spikeproof train recipes/digits-natural.toml",
        "spikeproof train recipes/digits-sparse.toml train.epochs=5 --out runs/short",
        "spikeproof train recipes/digits-sparse.toml train.epochs=5 --out runs/short --resume",
    ),
    "evaluate": (
        "spikeproof evaluate runs/demo/robust --threat linf:0.1 --limit 64",
        "spikeproof evaluate runs/demo/robust --suite standard --threat l2:0.5 --out runs/l2",
        "spikeproof evaluate package.module:factory --data digits --transfer runs/demo/natural",
        "spikeproof evaluate net.spkp --data digits --transfer runs/demo/sparse",
    ),
    "certify": (
        "spikeproof certify runs/demo/robust --threat linf:0.005 --limit 64",
        "spikeproof certify runs/demo/robust --method smoothing --threat l2:0.1 --limit 4",
        "spikeproof certify runs/demo/robust --threat linf:0.1 --against runs/demo/robust",
    ),
    "diagnose": (
        "spikeproof diagnose runs/demo/robust --limit 32",
        "spikeproof diagnose runs/demo/robust --rule own --rule assg --rule atan --part trail",
        "spikeproof diagnose package.module:factory --data digits --threat linf:0.1",
    ),
    "compare": ("spikeproof compare runs/demo/natural/evaluation runs/demo/robust/evaluation",),
    "report": (
        "spikeproof report runs/demo/robust -o report.html",
        "spikeproof report runs/demo/* -o comparison.html",
        "spikeproof report --leaderboard benchmarks/results -o leaderboard.html",
    ),
    "submit": (
        "spikeproof submit runs/demo/robust found.npz --record runs/demo/robust/evaluation",
    ),
    "replay": ("spikeproof replay runs/demo/robust net.onnx --record runs/demo/robust/evaluation",),
    "export": (
        "spikeproof export runs/demo/sparse net.spkp",
        "spikeproof export package.module:factory net.spkp --shape 3x32x32 --precision int8",
        "spikeproof export runs/demo/sparse net.onnx",
    ),
    "run": (
        "spikeproof run net.spkp --data digits",
        "spikeproof run net.spkp --data digits --limit 100 --threads 1 --json",
        "spikeproof run net.spkp --data digits --against runs/demo/sparse",
    ),
    "energy": (
        "spikeproof energy runs/demo/sparse --table int8",
        "spikeproof energy net.spkp --data digits --json",
    ),
    "demo": ("spikeproof demo", "spikeproof demo --out runs/second"),
    "doctor": ("spikeproof doctor --data-dir data",),
    "data list": ("spikeproof data list --data-dir data",),
    "data check": (
        "spikeproof data check cifar10 --data-dir data",
        "spikeproof data check recordings --format aedat",
    ),
    "data show": ("spikeproof data show digits --count 8",),
}
CODES = """Exit codes: 0 done; 2 something that you can mend, said in one sentence; 130 stopped by
Ctrl-C, with all that was finished kept; 1 a defect, with its traceback."""


def examples(command: str) -> str:
    """Returns the examples of a command as the end of its help, line by line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[command])])
