"""What a page is made of: plain values that a template writes down and a script draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Tone = Literal["", "good", "warn", "bad", "quiet"]


@dataclass(frozen=True)
class Cell:
    """What a table says in one place, and the number that it is sorted by, if it is one."""

    text: str
    value: float | None = None
    tone: Tone = ""
    link: str = ""  # the id of what it leads to on the page


BLANK = Cell("\u2013")  # nothing is known


@dataclass(frozen=True)
class Table:
    """Rows under heads; ``filtered`` gives it a field that keeps the rows with a text."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    filtered: bool = False
    folded: str = ""  # the words on which it opens, or it is open

    block: ClassVar[str] = "table"

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Which columns hold numbers."""
        columns = zip(*self.rows, strict=True) if self.rows else ((),) * len(self.heads)
        return tuple(any(cell.value is not None for cell in column) for column in columns)


@dataclass(frozen=True)
class Figure:
    """A drawing: ``kind`` names how the script draws ``data``; ``table`` says the same in words."""

    id: str
    title: str
    kind: Literal["lines", "bars", "dots", "matrix", "scatter", "multiples", "field", "rasters"]
    data: Mapping[str, Any]
    table: Table
    caption: str = ""
    half: bool = False  # of the width, where the page is wide

    block: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Fact:
    """A name and what stands under it."""

    name: str
    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Facts:
    """Facts in a row, ``large`` as headline figures."""

    facts: tuple[Fact, ...]
    large: bool = False

    block: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Card:
    """Something to worry about, with its evidence."""

    title: str
    text: str
    tone: Tone
    label: str


@dataclass(frozen=True)
class Cards:
    """Cards below one another."""

    cards: tuple[Card, ...]

    block: ClassVar[str] = "cards"


@dataclass(frozen=True)
class Picture:
    """An image as a data URI, and the words for those who do not see it."""

    uri: str
    alt: str
    name: str
    width: int
    height: int


@dataclass(frozen=True)
class Example:
    """One adversarial: its pictures, and what the network said."""

    title: str
    text: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """Examples beside one another."""

    examples: tuple[Example, ...]
    legend: tuple[tuple[str, str], ...] = ()  # a colour and what it means

    block: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Note:
    """A sentence or two."""

    text: str

    block: ClassVar[str] = "note"


@dataclass(frozen=True)
class Download:
    """A file that the page carries, packed, and gives back on a click."""

    id: str
    file: str
    packed: str  # gzip in base64
    size: str

    block: ClassVar[str] = "download"


Block = Table | Figure | Facts | Cards | Gallery | Note | Download


@dataclass(frozen=True)
class Section:
    """A headline and what stands below it."""

    id: str
    title: str
    blocks: tuple[Block, ...]
    lead: str = ""


@dataclass(frozen=True)
class Chapter:
    """All sections of one evaluation; ``folded`` where the page has many of them."""

    id: str
    title: str
    subtitle: str
    tone: Tone
    sections: tuple[Section, ...]
    folded: bool = False


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    verdict: str
    status: str
    tone: Tone
    intro: tuple[Section, ...]
    chapters: tuple[Chapter, ...] = field(default=())

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections, in their order."""
        return (*self.intro, *(s for chapter in self.chapters for s in chapter.sections))

    @property
    def figures(self) -> dict[str, Any]:
        """What the script draws, by the id of the figure."""
        blocks = (block for section in self.sections for block in section.blocks)
        return {
            block.id: {"kind": block.kind, "title": block.title, **block.data}
            for block in blocks
            if isinstance(block, Figure)
        }


def present(blocks: Sequence[Block | None]) -> tuple[Block, ...]:
    """Returns the blocks that there are."""
    return tuple(block for block in blocks if block is not None)
