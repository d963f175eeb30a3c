"""The sets that have a name: where they lie, how they are read, and whether they are whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spikeproof.data._digits import CLASSES, digits, event_digits
from spikeproof.data._files import digest
from spikeproof.data._layouts import LAYOUTS, Layout
from spikeproof.data._published import CHECKSUMS, CIFAR10, CIFAR100, FASHION
from spikeproof.data._sets import Dataset, held_out
from spikeproof.errors import Refusal, nearest, short

PARTS = ("train", "test")
MD5_DIGITS = 32


@dataclass(frozen=True)
class _Published:
    classes: tuple[str, ...]
    counts: tuple[int, int]
    layouts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    parts_suffice: bool = False  # a subset is stated and not refused


SETS = {
    "mnist": _Published(CLASSES, (60_000, 10_000), ("idx",), ("mnist", "MNIST/raw", "MNIST")),
    "fashion-mnist": _Published(
        FASHION,
        (60_000, 10_000),
        ("idx",),
        ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST"),
    ),
    "cifar10": _Published(
        CIFAR10,
        (50_000, 10_000),
        ("cifar10-binary", "cifar10-python"),
        ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar10", "CIFAR10"),
    ),
    "cifar100": _Published(
        CIFAR100,
        (50_000, 10_000),
        ("cifar100-binary", "cifar100-python"),
        ("cifar-100-binary", "cifar-100-python", "cifar100", "CIFAR100"),
    ),
    "n-mnist": _Published(
        CLASSES,
        (60_000, 10_000),
        ("nmnist",),
        ("n-mnist", "N-MNIST", "NMNIST"),
        parts_suffice=True,
    ),
    "digits": _Published(CLASSES, (1438, 359)),
    "event-digits": _Published(CLASSES, (1438, 359)),
}


@dataclass(frozen=True)
class Row:
    """What is known of a named set; counts are train, with validation, and test."""

    name: str
    where: Path | None  # None: absent, or embedded
    present: bool
    found: tuple[int, int] | None
    expected: tuple[int, int]
    problem: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Checksum:
    """The checksum of one file beside the published one, if there is one."""

    file: str
    found: str
    published: str | None

    @property
    def verdict(self) -> str:
        """``ok``, ``differs`` or ``unknown checksum``."""
        if self.published is None:
            return "unknown checksum"
        return "ok" if self.found == self.published else "differs"


@dataclass(frozen=True)
class Report:
    """A row whose every sample was read, and the checksums of its files."""

    row: Row
    checksums: tuple[Checksum, ...]

    @property
    def verdict(self) -> str:
        """``ok``, ``damaged`` or ``unknown checksum``; ``ok`` only if nothing is unknown."""
        verdicts = {checksum.verdict for checksum in self.checksums}
        if self.row.problem is not None or "differs" in verdicts:
            return "damaged"
        whole = verdicts == {"ok"} or self.row.where is None
        return "ok" if whole else "unknown checksum"


def find(name: str, root: Path) -> Path:
    """Returns the folder of a named set under ``root``, or ``root`` if it is that folder."""
    published = _published(name)
    if not published.layouts:
        raise Refusal(f"{name} is embedded and lies in no folder; load it without one")
    folders = [root / folder for folder in published.folders]
    if any(Path(folder).name == root.name for folder in published.folders):
        folders.insert(0, root)
    for folder in folders:
        if any(LAYOUTS[layout].shows(folder) for layout in published.layouts):
            return folder
    if empty := [str(folder) for folder in folders if folder.is_dir()]:
        raise Refusal(f"{empty[0]} has no file of {name}; it needs all of them; add them")
    raise Refusal(
        f"{root} has no {name}; its folder is called {', '.join(published.folders)}; "
        "unpack the published files there"
    )


def load(
    name: str, root: Path, *, steps: int = 10, validation: float = 0.1, seed: int = 0
) -> Dataset:
    """Returns a named set; ``steps`` matters to event sets, ``seed`` to the validation split."""
    published = _published(name)
    if name == "digits":
        return digits(validation=validation, seed=seed)
    if name == "event-digits":
        return event_digits(steps=steps, validation=validation, seed=seed)
    where, layout = _place(name, root)
    train, test = (layout.read(where, part, steps) for part in PARTS)
    return Dataset(name, *held_out(train, validation, seed=seed), test, published.classes)


def inventory(root: Path) -> list[Row]:
    """Returns one row for each named set, from headers and sizes as far as they tell."""
    return [_row(name, root) for name in SETS]


def check(name: str, root: Path) -> Report:
    """Returns what is found when every sample of a named set is read and every file summed.

    Recordings are read but not summed: there are tens of thousands, and no published sums.
    """
    row = _row(name, root)
    if not row.present:
        raise Refusal(f"{row.problem}")
    try:
        dataset = load(name, root)
    except Refusal as error:
        row = _with_counts(name, row.where, row.found, str(error))
    else:
        found = (len(dataset.train) + len(dataset.validation), len(dataset.test))
        row = _with_counts(name, row.where, found, None)
    return Report(row, _checksums(name, row.where))


def _published(name: str) -> _Published:
    if name not in SETS:
        raise Refusal(f"{short(name)} is no named set; {nearest(name, SETS)}")
    return SETS[name]


def _place(name: str, root: Path) -> tuple[Path, Layout]:
    where = find(name, root)
    layouts = [LAYOUTS[layout] for layout in SETS[name].layouts]
    return where, next(layout for layout in layouts if layout.shows(where))


def _row(name: str, root: Path) -> Row:
    expected = _published(name).counts
    if not SETS[name].layouts:
        return Row(name, None, present=True, found=expected, expected=expected)
    try:
        where, layout = _place(name, root)
    except Refusal as error:
        return Row(name, None, present=False, found=None, expected=expected, problem=str(error))
    try:
        found = (layout.count(where, "train"), layout.count(where, "test"))
    except Refusal as error:
        return _with_counts(name, where, None, str(error))
    return _with_counts(name, where, found, None)


def _with_counts(
    name: str, where: Path | None, found: tuple[int, int] | None, problem: str | None
) -> Row:
    published, note = SETS[name], None
    if problem is None and found is not None and found != published.counts:
        (train, test), (all_train, all_test) = found, published.counts
        said = f"{name} has {train} of {all_train} training and {test} of {all_test} test samples"
        if published.parts_suffice and train <= all_train and test <= all_test:
            note = f"{said}: a part of what was published"
        else:
            problem = f"{said}; the counts must agree with the published ones; take complete files"
    return Row(
        name,
        where,
        present=True,
        found=found,
        expected=published.counts,
        problem=problem,
        note=note,
    )


def _checksums(name: str, where: Path | None) -> tuple[Checksum, ...]:
    if where is None or SETS[name].parts_suffice:
        return ()
    _, layout = _place(name, where)
    known = CHECKSUMS.get(name, {})
    found = []
    for part in PARTS:
        try:
            files = layout.files(where, part)
        except Refusal:
            continue
        for path in files:
            published = known.get(path.name)
            md5 = published is not None and len(published) == MD5_DIGITS
            found.append(Checksum(path.name, digest(path, "md5" if md5 else "sha256"), published))
    return tuple(found)
