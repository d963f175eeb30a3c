from __future__ import annotations

from spikeproof.report._blocks import BLANK, Cell, Figure, Note, Page, Section, Table, present

TABLE = Table("t", ("a", "b", "c"), ((Cell("x"), Cell("1", 1.0), BLANK), (Cell("y"), BLANK, BLANK)))


def test_a_column_holds_numbers_where_any_cell_has_one():
    assert TABLE.numeric == (False, True, False)
    assert Table("t", ("a", "b"), ()).numeric == (False, False)


def test_a_page_gives_its_figures_by_id_and_leaves_out_what_is_none():
    figure = Figure("one", "One", "lines", {"series": []}, TABLE)
    blocks = present([Note("n"), None, figure])
    page = Page("p", "v", "", "", (Section("s", "S", blocks),))
    assert [block.block for block in blocks] == ["note", "figure"]
    assert page.figures == {"one": {"kind": "lines", "title": "One", "series": []}}
