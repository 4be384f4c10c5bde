"""The report: whole in itself, true to the numbers, and safe whatever the data say."""

import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest

from app.small import SMALL, write_reviews
from wavefront.app import charts
from wavefront.app.branches import branches
from wavefront.app.charts import Line
from wavefront.app.fitting import fit
from wavefront.app.report import write_report
from wavefront.tasks import Figure

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Tags that are opened are closed, in their order; what was met is kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def page(finished):
    return Page((finished.folder / "report.html").read_text())


def test_it_needs_nothing_else(page, finished):
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert not {"src", "href", "onclick", "onload"} & {name for name, _ in page.attributes}
    text = (finished.folder / "report.html").read_text()
    for outside in ("http:", "https:", "url(", "@import"):
        assert outside not in text
    assert len(text) < 200_000


def test_it_tells_what_the_metrics_say(page, finished):
    for split in ("train", "valid", "test"):
        for name in ("accuracy", "macro_f1", "loss"):
            assert f"{finished.metrics[split][name]:.4f}" in page.text
    assert "most frequent label, on test" in page.text
    assert f"{finished.metrics['parameters']:,} parameters" in page.text
    for heading in ("Scores", "Learning", "Gold and predicted labels", "Examples", "Lengths", "Settings"):
        assert heading in page.text
    assert page.tags.count("polyline") == 3, "training loss, validation loss, score"


def test_markup_in_tokens_and_labels_stays_text(tmp_path):
    evil = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')
    data = write_reviews(tmp_path / "d.csv", 60, labels=(evil[0], "b&amp;<b>"))
    content = data.read_text().replace("food", "<img src=x onerror=alert(1)>").replace("room", "</td></p></svg>")
    data.write_text(content)
    run = fit(data, out=tmp_path / "<b>run", set=SMALL, quiet=True)
    page = Page((run.folder / "report.html").read_text())
    assert not {"script", "img", "b>run"} & set(page.tags)
    assert evil[0] in page.text
    assert "b&amp;<b>" in page.text


def test_every_kind_of_figure_and_an_unknown_one(finished, tmp_path):
    figures = [
        Figure("confusion", "C", {"labels": ["a", "b<"], "counts": [[3, 1], [0, 0]]}, "the 2 most frequent of 5 labels"),
        Figure("table", "T", {"head": ["x"], "rows": [["<y>"], [0.5]]}),
        Figure("bars", "B", {"labels": ["s", "t"], "values": [0.25, float("nan")], "axis": "f"}),
        Figure("points", "P", {"x": [1.0, 2.0], "y": [1.5, float("nan")], "x_axis": "u", "y_axis": "v"}),
        Figure(
            "examples", "E", {"rows": [{"text": ["go", "to", "Rome"], "gold": ["O", "O", "B-X"], "predicted": ["O"] * 3, "right": False}]}
        ),
        Figure("examples", "S", {"rows": [{"text": "go to Rome", "gold": "geh nach Rom", "predicted": "geh nach Rom", "right": True}]}),
    ]
    write_report(tmp_path / "r.html", finished, [], figures, "test", {"train": np.array([3, 3, 9]), "valid": np.array([], np.int64)})
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert "O, not B-X" in page.text
    assert "geh nach Rom" in page.text, "a sentence of as many words as its source is no labels of these"
    assert "3 of 4 a were given a" in page.text
    assert "<y>" in page.text
    with pytest.raises(ValueError, match="a figure of kind 'pie'"):
        write_report(tmp_path / "r.html", finished, [], [Figure("pie", "", {})], "test", {})


# Charts


def drawn(text):
    return ET.fromstring(text[: text.index("</svg>") + 6])


def test_a_line_is_where_its_values_are():
    svg = drawn(charts.lines([Line("one", [1, 2, 3], [0.0, None, 1.0]), Line("two", [1, 2, 3], [0.5, 0.5, float("nan")], "b")], "x", "y"))
    first, second = [[tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in svg.iter("polyline")]
    assert len(first) == 2, "what is missing is left out"
    assert first[0][0] < first[1][0]
    assert first[0][1] > first[1][1], "up is more"
    assert second[0][1] == pytest.approx((first[0][1] + first[1][1]) / 2, abs=6)
    assert charts.lines([Line("one", [1], [None])], "x", "y") == ""
    assert len(list(drawn(charts.lines([Line("one", [1], [5.0])], "x", "y")).iter("circle"))) == 1


def test_bars_are_as_high_as_their_values():
    svg = drawn(charts.bars(["a", "b", "c"], [10, 20, 0], "n"))
    heights = [float(bar.get("height")) for bar in svg.iter("rect")]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)
    assert heights[2] == 0
    assert charts.bars([], [], "n") == ""


def test_a_tree_has_its_words_in_order_and_what_is_wrong_is_marked():
    svg = drawn(branches([2, 2, 4, 4, -1], ["a", "<b>", None, "c", None], ["0", "1", "1", "0", "1"], ["0", "0", "1", None, "1"]))
    said = {text.text: text for text in svg.iter("text") if text.get("class") == "middle word"}
    x, y = ({word: float(text.get(axis)) for word, text in said.items()} for axis in "xy")
    assert sorted(said, key=x.get) == ["a", "<b>", "c"]
    assert y["a"] == y["<b>"] > y["c"]
    wrong = [text for text in svg.iter("text") if text.get("class") == "middle wrong"]
    assert [(text.text, text[0].text) for text in wrong] == [("1", "not 0")]
    assert len(list(svg.iter("line"))) == 4
    assert len(list(drawn(branches([2, 2, -1], ["a", "b", None], [None] * 3)).iter("circle"))) == 1
    deep = branches([*range(1, 3000), -1], ["w", *[None] * 2999], [None] * 3000)
    assert len(list(drawn(deep).iter("line"))) == 2999


def test_a_confusion_shades_by_the_share_of_the_row():
    svg = drawn(charts.confusion(["a", "b"], [[9, 0], [2, 2]]))
    cells = [rect for rect in svg.iter("rect") if rect.get("class") in ("right", "wrong")]
    assert [cell.get("class") for cell in cells] == ["right", "wrong", "wrong", "right"]
    assert [float(cell.get("opacity")) for cell in cells] == pytest.approx([1, 0, 0.5**0.5, 0.5**0.5], abs=1e-3)
    assert charts.confusion([], []) == ""
    assert not any("rotate" in text.get("transform", "") for text in svg.iter("text"))  # < on its side would be another label
    drawn(charts.confusion([f"label {k}" for k in range(30)], np.eye(30, dtype=int).tolist()))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.93, 0.931), (-5, 5), (1e-9, 3e-9), (7, 7), (0, 123456)])
def test_ticks_are_round_and_inside(low, high):
    found = charts.ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-9 <= tick <= high + 1e-9 * max(1, abs(high)) for tick in found)
