"""The HTML page: whole, escaped, without a network; readable by ear, by keyboard, in the dark and on a phone."""

from __future__ import annotations

import html
import itertools
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import lxml.html
import numpy as np
import pytest
from typer.testing import CliRunner

from beir_hybrid.cli import app
from beir_hybrid.collections.builder import CollectionBuilder
from beir_hybrid.collections.collection import CollectionInfo
from beir_hybrid.errors import BeirHybridError
from beir_hybrid.evaluation.comparing.comparison import compare
from beir_hybrid.evaluation.comparing.pairing import System, averaged
from beir_hybrid.evaluation.comparing.significance import TestSettings
from beir_hybrid.evaluation.figures import Results
from beir_hybrid.evaluation.grid import grid_from_embeddings
from beir_hybrid.evaluation.published import SOURCES, PublishedFigure
from beir_hybrid.evaluation.reports.html import colours
from beir_hybrid.evaluation.reports.html.charts import distribution, forest
from beir_hybrid.evaluation.reports.html.facts import commands
from beir_hybrid.evaluation.reports.html.maps import heat_maps
from beir_hybrid.evaluation.reports.html.page import html_page
from beir_hybrid.evaluation.reports.report import write_report

EVIL = '<script>alert("1")</script>'
QUOTES = '"quo\'ted" & <b>bold</b>{{ 7 * 7 }}'
CODES = ("en", "de", "zh-Hant")
VOID = {"meta", "input", "br", "link", "img"}


def results(
    system: str, seed: int, collection: str = "toy", batching: str = "hybrid", noise=1.0, **arguments
) -> Results:
    builder = CollectionBuilder(collection, CODES, CollectionInfo("CC0 <i>", "A, B 2020.", "a test"))
    for item in range(12):
        for number, code in enumerate(builder.languages):
            row = builder.add_passage(f"{code}_{item}", "text", number, "a test")
            builder.add_query(f"q{item}_{code}", "question", number, f"q{item}", row, "a test")
    generator = np.random.default_rng(seed)
    items = np.repeat(np.random.default_rng(0).standard_normal((12, 6)), len(CODES), axis=0)
    vectors = items + noise * generator.standard_normal((2, 36, 6))
    return grid_from_embeddings(*vectors, builder.build(), system=system, batching=batching, **arguments)


def reference() -> Results:
    row = PublishedFigure("toy", "xlm-r", "x-y", "toy/mono", "AP", "macro", "", 0.5, 0, 4, SOURCES[0])
    return Results((row,), {"published": "A paper <2024>"})


ONE, TWO = results(EVIL, 1, batching=""), results(QUOTES, 2, noise=0.4)
PAGE = html_page([ONE, TWO], [reference()])
TREE = lxml.html.document_fromstring(PAGE)


def tree(*given: Results, **arguments) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(html_page(given, **arguments))


def words(element: lxml.html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def alone(*given: Results) -> list[System]:
    return [System(one.label, (one,)) for one in given]


class Balance(HTMLParser):
    """Every element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole():
    parser = Balance()
    parser.feed(PAGE)
    parser.close()
    assert parser.open == []
    assert PAGE.startswith("<!doctype html>")
    assert html_page([ONE, TWO], [reference()]) == PAGE
    ids = TREE.xpath("//@id")
    assert len(ids) == len(set(ids))
    for link in TREE.xpath("//@aria-labelledby"):
        assert set(link.split()) <= set(ids)
    assert {link.removeprefix("#") for link in TREE.xpath("//a/@href")} <= set(ids)


def test_the_page_needs_no_network():
    policy = TREE.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy[0].startswith(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )
    assert not TREE.xpath("//@src | //link | //iframe | //object | //img | //form")
    assert all(link.startswith("#") for link in TREE.xpath("//@href"))
    assert not re.search(r"url\(|@import|https?://", PAGE)


def test_names_are_escaped():
    assert len(TREE.xpath("//script")) == 1
    assert "alert" not in TREE.xpath("//script")[0].text_content()
    assert not TREE.xpath("//b[.='bold'] | //i[.=' ']")
    assert not [name for element in TREE.iter() for name in element.attrib if name.startswith("on")]
    assert {EVIL, f"{QUOTES} (hybrid)"} <= {words(cell) for cell in TREE.xpath("//th[@scope='row']")}
    assert any(EVIL in label for label in TREE.xpath("//*[@role='region']/@aria-label"))
    assert "CC0 <i>" in [words(value) for value in TREE.xpath("//dd")]
    assert "A paper <2024>" in words(TREE)


def test_screen_readers_find_their_way():
    assert TREE.get("lang") == "en"
    assert TREE.xpath("//title")[0].text_content()
    for landmark in ("header", "nav", "main"):
        assert len(TREE.xpath(f"//{landmark}")) == 1
    assert TREE.xpath("//body/*[1]")[0].get("href") == "#" + TREE.xpath("//main")[0].get("id")
    levels = [int(one.tag[1]) for one in TREE.xpath("//h1 | //h2 | //h3 | //h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for picture in TREE.xpath("//*[local-name()='svg']"):
        if picture.get("aria-hidden") != "true":
            assert picture.get("role") == "img"
            title, description = (TREE.get_element_by_id(name) for name in picture.get("aria-labelledby").split())
            assert (title.tag, description.tag) == ("title", "desc")
            assert words(title)
            assert words(description)
    for control in TREE.xpath("//input"):
        assert control.getparent().tag == "label"
        assert TREE.xpath("//fieldset/legend")


def test_tables_have_captions_and_headers():
    tables = TREE.xpath("//table")
    assert len(tables) > 15
    for table in tables:
        assert len(table.xpath("caption")) == 1
        heading = table.xpath("thead/tr/*")
        assert all(cell.tag == "th" and cell.get("scope") == "col" and words(cell) for cell in heading)
        for row in table.xpath("tbody/tr"):
            assert len(row) == len(heading)
            assert row[0].tag == "th"
            assert row[0].get("scope") == "row"
            assert words(row[0])
        region = table.getparent()
        assert (region.get("role"), region.get("tabindex")) == ("region", "0")
        assert region.get("aria-label")
    labels = TREE.xpath("//*[@role='region']/@aria-label")
    assert len(labels) == len(set(labels))


def test_origins_are_told_apart_by_words_signs_and_frames():
    table = TREE.xpath("//table[contains(caption, 'macro')]")[0]
    marks = {words(row[0]): row.xpath("td[1]/span")[0] for row in table.xpath("tbody/tr") if row.xpath("td[1]/span")}
    found = {name: (mark.get("class"), words(mark)) for name, mark in marks.items()}
    assert found == {
        "xlm-r (x-y)": ("origin published", "◇ published"),
        EVIL: ("origin baseline", "○ baseline"),
        f"{QUOTES} (hybrid)": ("origin ours", "● ours"),
    }


def scheme_rules(scheme: str) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    """The custom properties and the shades of a scheme, as they stand in the page."""
    light, _, dark = PAGE.partition("@media screen and (prefers-color-scheme: dark)")
    css = light if scheme == "light" else dark.partition("\n}\n")[0]
    names = dict(re.findall(r"--(\w+):(#\w{6})", css))
    return names, {
        name: (background, text)
        for name, background, text in re.findall(r"\.(\w+)\{background:(#\w{6});color:(#\w{6})\}", css)
    }


@pytest.mark.parametrize("scheme", colours.SCHEMES)
def test_everything_stands_out_enough(scheme):
    names, shades = scheme_rules(scheme)
    used = {part for name in TREE.xpath("//td/@class") for part in name.split()} - {"own", "name"}
    assert used <= shades.keys()
    assert len(shades) == 2 * colours.STEPS
    for background, text in shades.values():
        assert colours.contrast(text, background) >= 4.5
    for text in ("ink", "muted", "accent"):
        for background in ("surface", "raised"):
            assert colours.contrast(names[text], names[background]) >= 4.5
    for number in range(len(colours.SERIES[scheme])):
        assert colours.contrast(names[f"series{number}"], names["surface"]) >= 3
    assert colours.contrast(names["bar"], names["surface"]) >= 3


def test_contrast_is_that_of_the_guidelines():
    assert colours.contrast("#000000", "#ffffff") == pytest.approx(21)
    assert colours.contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)
    assert colours.contrast("#ff0000", "#ff0000") == 1


def test_heat_maps_hold_the_figures():
    found = heat_maps([ONE, TWO])
    assert list(found) == ["AP", "R@1"]
    before, after, change = found["AP"]
    assert before.languages == CODES
    for panel, one in ((before, ONE), (after, TWO)):
        for asked, cells in panel.rows:
            for searched, cell in zip(CODES, cells, strict=True):
                path = f"mono/{asked}" if asked == searched else f"cross/{asked}-{searched}"
                assert float(cell.text) == pytest.approx(one.value(setting=path, measure="AP"), abs=0.0051)
                assert cell.own == (asked == searched)
                assert cell.shade.startswith("h")
    for _, cells in change.rows:
        for cell in cells:
            side = int(cell.shade.removeprefix("v")) - colours.STEPS // 2
            number = float(cell.text.replace("\u2212", "-"))
            assert side * number >= 0
    table = TREE.xpath("//table[contains(@class, 'heat')]")[0]
    assert [words(cell) for cell in table.xpath("tbody/tr[1]/td")] == [cell.text for cell in before.rows[0][1]]


def test_distributions_are_those_of_the_questions():
    generator = np.random.default_rng(0)
    values = {"a": generator.integers(0, 5000, 400).astype(float), "b": np.full(7, 5.0)}
    chart = distribution("RankDistance", values)
    left, top, right, bottom = chart.frame
    for line, own in zip(chart.lines, values.values(), strict=True):
        points = np.array([pair.split(",") for pair in line.points.split()], dtype=float)
        assert (np.diff(points[:, 0]) > 0).all()
        assert (np.diff(points[:, 1]) <= 0).all()
        assert points[-1] == pytest.approx([right, top], abs=0.1)
        shares = (bottom - points[:, 1]) / (bottom - top)
        highest = np.log10(max(one.max() for one in values.values()))
        ranks = 10 ** ((points[:, 0] - left) / (right - left) * highest)
        for rank, share in zip(ranks[1::20], shares[1::20], strict=True):
            assert np.mean(own <= 0.99 * rank) - 0.005 <= share <= np.mean(own <= 1.01 * rank) + 0.005
    assert len({line.dashes for line in chart.lines}) == 2
    assert chart.table.rows[0][1:] == (
        "400", *(f"{number:,.0f}" for number in np.quantile(values["a"], [0.1, 0.25, 0.5, 0.75, 0.9])),
        f"{values['a'].mean():,.0f}",
    )  # fmt: skip
    same = distribution("RankDistance", {"zero": np.zeros(3)})
    assert [tick.text for tick in same.across if tick.text] == ["1", "10"]


def test_forests_hold_the_differences():
    comparison = compare({"one": ONE, "two": TWO}, settings=TestSettings(permutations=200, resamples=200))
    for measure in ("AP", "RankDistance"):
        rows = comparison.select(measure=measure, average="macro", setting="toy/multi")
        chart = forest("title", [("multi", rows[0])])
        row = chart.rows[0]
        better = rows[0].difference < 0 if measure == "RankDistance" else rows[0].difference > 0
        assert (row.middle > chart.zero) == better
        assert row.low <= row.middle <= row.high
        assert row.significant == (rows[0].corrected < 0.05)
        assert row.text in chart.description
        assert "0" in [tick.text for tick in chart.across]
    page = tree(ONE, TWO, comparisons=[comparison])
    assert "200 sign vectors" in words(page)
    assert "two against one: averages in ranks" in [words(one) for one in page.xpath("//figcaption")]
    same = compare({"one": ONE, "again": ONE}, settings=TestSettings(permutations=200, resamples=200))
    tree(ONE, comparisons=[same])


def test_why_there_are_no_tests_is_said():
    other = results("other", 3)
    for given, said in [
        ([ONE, replace(other, queries=())], "do not hold the values of each question"),
        ([ONE, ONE], "Systems of one name"),
        ([replace(ONE, figures=ONE.figures)] * 5, "Systems of one name"),
        ([results(f"s{n}", n, settings=["mono"]) for n in range(5)], "More than 4 systems"),
    ]:
        assert said in words(tree(*given))
    assert "There are no tests" not in words(tree(ONE))
    with pytest.raises(BeirHybridError, match="no results"):
        html_page([])


@pytest.mark.parametrize(
    ("settings", "there", "missing"),
    [
        (["multi"], ["ranks", "bars"], ["maps"]),
        (["mono"], ["bars"], ["maps", "ranks"]),
        (["cross/en-de"], ["maps"], ["ranks", "bars"]),
    ],
)
def test_what_was_not_measured_is_left_out(settings, there, missing):
    page = tree(results("one", 1, settings=settings), results("two", 2, settings=settings))
    ids = page.xpath("//@id")
    assert {f"c1-{name}" for name in there} <= set(ids)
    assert not {f"c1-{name}" for name in missing} & set(ids)
    assert {link.removeprefix("#") for link in page.xpath("//nav//@href")} <= set(ids)


def test_several_collections_have_sections_of_their_own():
    page = tree(ONE, results("one", 3, collection="another"))
    assert [words(one) for one in page.xpath("//main//h2")] == ["toy", "another"]
    labels = page.xpath("//*[@role='region']/@aria-label")
    assert len(labels) == len(set(labels))
    assert len(set(page.xpath("//input/@name"))) == 2


def test_commands_measure_again():
    def about(one: Results, **more: object) -> Results:
        return replace(one, provenance={**one.provenance, **more})

    model = "a folder/it's; rm -rf"
    plain = about(results("mine", 1), encoder={"model": model})
    lines, others = commands(alone(plain, about(results("other", 2), encoder={"model": "b"}), ONE))
    assert [shlex.split(line) for line in lines] == [
        ["beir-hybrid", "evaluate", model, "b", "--collection", "toy", "--system", "mine", "--system", "other",
         "--report", "report"],
    ]  # fmt: skip
    assert others == [EVIL]
    part = about(results("b", 1, settings=["mono", "cross/en-de"], measures=["AP"]), encoder={"model": "b"})
    (line,), _ = commands(alone(part))
    assert line == (
        "beir-hybrid evaluate b --collection toy --setting mono --setting cross/en-de --measure AP --report report"
    )


def test_runs_of_a_system_are_averaged():
    runs = [results("mine", seed) for seed in (1, 2)]
    both = averaged(System("mine (hybrid)", tuple(runs)))
    assert both.label == "mine (hybrid)"
    for path in ("mono/en", "cross/en-de", "multi/de"):
        values = [run.value(setting=path, measure="AP") for run in runs]
        assert both.value(setting=path, measure="AP") == pytest.approx(np.mean(values))
        (kept,) = [one for one in both.queries if (one.setting, one.measure) == (f"toy/{path}", "AP")]
        assert kept.values.mean() == pytest.approx(np.mean(values))
    assert averaged(System("name", (runs[0],))).label == "name (hybrid)"
    assert averaged(System("hybrid", (runs[0],))).label == "hybrid"


def test_every_run_of_a_system_is_shown():
    runs = [
        replace(one, provenance={**one.provenance, "encoder": {"model": f"folder/{n}"}})
        for n, one in enumerate((results("mine", 1), results("mine", 2), results("mine", 3)))
    ]
    page = tree(System("hybrid", tuple(runs)), results("zero-shot", 9, batching=""))
    values = [run.value(setting="multi", measure="AP", average="macro") for run in runs]
    (table,) = page.xpath("//table[contains(caption, 'each run')]")
    (row,) = [row for row in table.xpath("tbody/tr") if words(row[1]) == "multi AP"]
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert [words(cell) for cell in row] == [
        "hybrid",
        "multi AP",
        f"{mean:.3f} ± {deviation:.3f}",
        *(f"{value:.3f}" for value in values),
    ]
    bars = page.xpath("//table[contains(@class, 'bars')]")[-1]
    assert f"{mean:.3f} ± {deviation:.3f}" in words(bars)
    quantiles = page.xpath("//table[contains(caption, 'Quantiles')]")[0]
    assert [words(row[1]) for row in quantiles.xpath("tbody/tr")] == ["108", "36"]  # the questions of all runs
    titles = [words(one) for one in page.xpath("//h4")]
    assert [title for title in titles if "run" in title] == [f"hybrid on toy, run {n} of 3 ● ours" for n in (1, 2, 3)]
    assert "folder/2" in words(page)
    commands_ = [words(one) for one in page.xpath("//pre")]
    assert commands_[0] == "beir-hybrid evaluate folder/0 --collection toy --system mine --report reports/1-run1"
    assert len(commands_) == 3
    assert "zero-shot against hybrid: averages" in words(page)


def test_a_report_has_the_page(tmp_path):
    paths = write_report([ONE, TWO], tmp_path, [reference()])
    assert "report.html" in [path.name for path in paths]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == PAGE


def test_compare_writes_the_page(tmp_path):
    for name, one in (("a", results("a", 1)), ("b", results("b", 2, noise=0.3))):
        write_report([one], tmp_path / name)
    page = tmp_path / "page.html"
    arguments = ["compare", *(str(tmp_path / name) for name in "ab"), "--baseline", "b (hybrid)"]
    ran = CliRunner().invoke(app, [*arguments, "--permutations", "200", "--html", str(page)])
    assert ran.exit_code == 0, ran.output
    assert str(page) in ran.output
    text = words(lxml.html.document_fromstring(page.read_text(encoding="utf-8")))
    assert "difference: a (hybrid) less b (hybrid)" in text
    assert "a (hybrid) against b (hybrid): averages" in text
    assert "200 sign vectors" in text


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<body><script>addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  setTimeout(() => {
    const regions = [...page.querySelectorAll("[role=region]")]
      .filter((one) => one.checkVisibility({ contentVisibilityAuto: true }));
    const found = {
      overflow: root.scrollWidth - root.clientWidth,
      scrolling: regions.filter((one) => one.scrollWidth > one.clientWidth).length,
      unreachable: regions.filter((one) => one.scrollWidth > one.clientWidth && one.tabIndex !== 0).length,
      idle: regions.filter((one) => one.scrollWidth <= one.clientWidth && one.tabIndex === 0).length,
      shown: [...page.querySelectorAll(".maps")].filter((one) => one.offsetHeight).length,
      switches: [...page.querySelectorAll(".switch")].filter((one) => one.offsetHeight).length,
      scheme: getComputedStyle(page.body).backgroundColor,
    };
    document.body.dataset.found = Object.entries(found).map((pair) => pair.join("=")).join(";");
  }, 300);
});</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; the page is not laid out")
@pytest.mark.parametrize(("scripts", "width", "dark"), [(True, 360, False), (False, 360, True), (True, 1280, False)])
def test_the_page_fits_a_phone(tmp_path, scripts, width, dark):
    sandbox = "allow-same-origin allow-scripts" if scripts else "allow-same-origin"
    frame = f'<iframe sandbox="{sandbox}" width="{width}" height="700" srcdoc="{html.escape(PAGE)}"></iframe>'
    probe = tmp_path / "probe.html"
    probe.write_text(f"<!doctype html><meta charset=utf-8>{PROBE}{frame}", encoding="utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", "--virtual-time-budget=4000",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []), "--dump-dom", probe.as_uri(),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True)
    said = re.search(r'data-found="([^"]*)"', ran.stdout)
    assert said, ran.stderr[-2000:]
    found = dict(pair.split("=") for pair in said[1].split(";"))
    assert found["overflow"] == "0"
    assert found["unreachable"] == "0"
    if width == 360:
        assert int(found["scrolling"]) > 5
    assert (found["switches"], found["shown"]) == (("1", "1") if scripts else ("0", "2"))
    if scripts:
        assert found["idle"] == "0"
    surface = colours.THEME["dark" if dark else "light"]["surface"].removeprefix("#")
    assert found["scheme"] == f"rgb({', '.join(str(int(surface[n : n + 2], 16)) for n in (0, 2, 4))})"
