"""Every page of the built site in headless Chromium, opened from disk with the network off.

At desktop and phone width, light and dark; a picture of each is left in ``_build/screenshots``.
The site is the one in ``$WRNN_SITE``, or is built here from the committed chapters. Without
Chromium these tests are skipped, unless ``WRNN_REQUIRE_BROWSER=1`` makes that a failure.
"""

import base64
import csv
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait
from sphinx_external_toc.parsing import parse_toc_yaml

import wrnn
from companion import book
from companion.book.cells import FOLD
from companion.page import figures

ROOT = Path(__file__).parents[1]
SCREENSHOTS = ROOT / "_build" / "screenshots"
AXE = (ROOT / "tests" / "axe" / "axe.min.js").read_text(encoding="utf-8")
DESKTOP, PHONE = 1280, 390
TALLEST = 8000  # pixels of a screenshot
SCREEN, MOST_SCREENS = 844, 20  # pixels of a phone's screen, and how many a page may have
HEAVIEST = 1.5  # megabytes of a page with its pictures, without the theme
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
WAIT_FOR_PAGE = """
    const done = arguments[0];
    document.fonts.ready.then(() => requestAnimationFrame(() => setTimeout(done, 50)));
"""
STILL = """
    const style = document.createElement("style");
    style.textContent = "*, ::before, ::after { transition: none !important; }";
    document.head.append(style);
"""
SHOW = """
    Object.assign(document.documentElement.dataset, { theme: arguments[0], mode: arguments[0] });
"""
AUDIT = """
    const done = arguments[0];
    axe.run({ resultTypes: ["violations"] }).then(({ violations }) => done(
      violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
        .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((n) => n.target.join(" "))}`)));
"""
LOOK = """
    const math = [...document.querySelectorAll("span.math, div.math")];
    const article = (document.querySelector("article") ?? document.body).cloneNode(true);
    article.querySelectorAll("pre, code").forEach((code) => code.remove());
    const WORDS = (e) => e.textContent.trim().replace(/\\s+/g, " ");
    const TABLES = [...document.querySelectorAll("article table.docutils, article table.table")];
    const FIRST = [...document.querySelectorAll("article section > p")]
      .find((p) => p.textContent.trim());
    const PRINTED = new Set([...document.querySelectorAll("article .cell_output pre")]
      .flatMap((pre) => pre.textContent.split("\\n"))
      .map((line) => line.trim().split(/\\s{2,}/).join("|")));
    const MARKUP = /`{3,}|:{3,}|~{3,}|\\{[a-z:]+\\}`[^`]*`|\\$[^$]+\\$/g;
    return {
      text: document.body.innerText.trim().length,
      markup: article.textContent.match(MARKUP) ?? [],
      math: math.length,
      unrendered: math.filter((m) => !m.querySelector("math")?.getBoundingClientRect().width
                                     || m.querySelector("merror")).map((m) => m.textContent),
      hidden: [...document.querySelectorAll("article figcaption")]
        .filter((caption) => !caption.getClientRects().length).map(WORDS),
      images: [...document.images].map((i) => [i.src, i.alt.trim(), i.naturalWidth > 0]),
      ids: [...document.querySelectorAll("[id]")].map((e) => e.id),
      links: [...document.links].map((a) => a.href).filter((href) => href.startsWith("file:")),
      head: ["meta[name=description]", 'meta[property="og:title"]', "link[rel=icon]"]
        .filter((wanted) => document.querySelector("article") &&
                            !document.head.querySelector(wanted)),
      tabStops: [...document.querySelectorAll("div.formula[tabindex]")]
        .filter((formula) => formula.scrollWidth <= formula.clientWidth).map(WORDS),
      folds: [...document.querySelectorAll("article details summary")]
        .map((summary) => summary.innerText.trim()),
      early: [...document.querySelectorAll("article details")].filter((fold) =>
        FIRST && fold.compareDocumentPosition(FIRST) & Node.DOCUMENT_POSITION_FOLLOWING).map(WORDS),
      tables: TABLES.map((table) => [
        table.querySelectorAll("tr").length,
        (table.querySelector("a.table-file") ?? table.closest("section, article")
          .querySelector(":scope > p > a.table-file"))?.href ?? "",
      ]),
      twins: TABLES.map((table) => [...table.querySelectorAll("thead th")].map(WORDS))
        .filter((header) => header.length > 1 && PRINTED.has(header.join("|"))),
      numbers: [...document.querySelectorAll("article .caption-number")].map(WORDS),
      faces: [...document.querySelectorAll("article figure img")]
        .filter((image) => image.src.includes("/fig-"))
        .map((image) => [image.src, image.className]),
      weight: [...performance.getEntriesByType("resource")].map((r) => r.name),
    };
"""
WIDEST = """
    const tall = document.documentElement.scrollHeight;
    const wide = [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
      .map((e) => `${e.tagName}.${e.className}`);
    return [innerWidth, document.scrollingElement.scrollWidth, wide.slice(0, 5), tall];
"""


@dataclass
class Visit:
    """What a browser saw on one page."""

    look: dict
    console_errors: list[str]
    failed_requests: list[str]
    phone_width: int
    phone_scroll_width: int
    wide_elements: list[str]
    phone_height: int
    barriers: dict[str, list[str]]  # what axe-core found serious or critical, by width and theme


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        reason = "chromium and chromedriver are not installed"
        if os.environ.get("WRNN_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    yield browser
    browser.quit()


def resize(browser: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def failed_requests(browser: webdriver.Chrome) -> list[str]:
    """Requests that failed, and those that left the machine whether they failed or not."""
    urls, failed = {}, []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        event = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            urls[event["requestId"]] = url = event["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                failed.append(f"{url}: not local")
        elif message["method"] == "Network.loadingFailed" and not event.get("canceled"):
            failed.append(f"{urls.get(event['requestId'])}: {event['errorText']}")
    return failed


def screenshot(browser: webdriver.Chrome, path: Path) -> None:
    """Picture of a whole page, or of its first `TALLEST` pixels, as wide as the window."""
    width, height = browser.execute_script(
        "return [innerWidth, document.documentElement.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST), "scale": 1}
    wanted = {"format": "webp", "quality": 60, "clip": clip, "captureBeyondViewport": True}
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(picture))


def barriers(browser: webdriver.Chrome, page: Path, width: int) -> dict[str, list[str]]:
    """What axe-core finds serious or critical, light and dark; a screenshot of each."""
    browser.execute_script(STILL)
    browser.execute_script(AXE)
    found = {}
    for theme in ("light", "dark"):
        browser.execute_script(SHOW, theme)
        found[f"{width} {theme}"] = browser.execute_async_script(AUDIT)
        screenshot(browser, SCREENSHOTS / f"{page.stem}-{width}-{theme}.webp")
    return {where: problems for where, problems in found.items() if problems}


def visit(browser: webdriver.Chrome, page: Path) -> Visit:
    resize(browser, DESKTOP)
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    browser.execute_async_script(WAIT_FOR_PAGE)
    look = browser.execute_script(LOOK)
    console = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    failed = failed_requests(browser)
    found = barriers(browser, page, DESKTOP)
    resize(browser, PHONE)
    browser.execute_async_script(WAIT_FOR_PAGE)
    phone = browser.execute_script(WIDEST)
    # The theme makes what scrolls focusable 300 ms after the window has changed.
    browser.execute_async_script("setTimeout(arguments[0], 400)")
    return Visit(look, console, failed, *phone, found | barriers(browser, page, PHONE))


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    if "WRNN_SITE" in os.environ:
        return Path(os.environ["WRNN_SITE"]).resolve()
    return book.build(ROOT, tmp_path_factory.mktemp("site") / "html").parent


@pytest.fixture(scope="session")
def visits(browser, site) -> dict[str, Visit]:
    pages = sorted({*site.rglob("*.html")} - {*site.glob("_static/**/*")} - {site / "index.html"})
    assert pages, f"no site in {site}"
    return {page.relative_to(site).as_posix(): visit(browser, page) for page in pages}


def test_every_page_of_the_toc_is_there(visits):
    chapters = {f"{page}.html" for page in parse_toc_yaml(ROOT / "_toc.yml")}
    assert chapters <= set(visits)
    assert [name for name, seen in visits.items() if not seen.look["text"]] == []


def test_the_front_page_leads_to_the_book(browser, site):
    browser.get((site / "index.html").as_uri())
    first = (site / "book" / "index.html").as_uri()
    WebDriverWait(browser, 10).until(lambda browser: browser.current_url == first)


FAULTS = {
    "console_errors": "an error in the console",
    "failed_requests": "a request that failed or left the machine",
    "barriers": "what axe-core finds serious or critical",
    "unrendered": "a formula that is not drawn",
    "tabStops": "a tab stop on a formula that does not scroll",
    "hidden": "the caption of a figure that is not shown",
    "markup": "Markdown that was not read",
    "head": "no description of the page",
    "early": "a fold before the first sentence",
    "twins": "a table that stands there a second time as plain text",
}


def faults(seen: Visit, kind: str) -> list:
    return seen.look[kind] if kind in seen.look else getattr(seen, kind)


@pytest.mark.parametrize("kind", FAULTS)
def test_no_page_has(kind, visits):
    found = {name: faults(seen, kind) for name, seen in visits.items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}, FAULTS[kind]


def test_there_is_mathematics(visits):
    assert sum(seen.look["math"] for seen in visits.values()) > 100


def test_every_image_is_shown_and_has_alternative_text(visits):
    images = [image for seen in visits.values() for image in seen.look["images"]]
    assert images
    assert [source for source, alt, loaded in images if not (alt and loaded)] == []


def test_no_page_scrolls_sideways_on_a_phone(visits):
    wide = {
        name: seen.wide_elements
        for name, seen in visits.items()
        if seen.phone_scroll_width > seen.phone_width
    }
    assert {seen.phone_width for seen in visits.values()} == {PHONE}
    assert wide == {}


def broken_links(visits: dict[str, Visit], site: Path) -> list[str]:
    """Links to a file that is not there, or to a place that a page of the book does not have."""
    broken = set()
    for name, seen in visits.items():
        for link in seen.look["links"]:
            parts = urlsplit(link)
            target = Path(unquote(parts.path))
            inside = target.relative_to(site).as_posix() if target.is_relative_to(site) else ""
            place = unquote(parts.fragment)
            if not inside or not target.exists():
                broken.add(f"{name}: {link}")
            elif place and inside in visits and place not in visits[inside].look["ids"]:
                broken.add(f"{name}: {inside} has no #{place}")
    return sorted(broken)


def test_links_inside_the_site_lead_somewhere(visits, site):
    assert broken_links(visits, site) == []


def test_no_page_is_heavy(visits, site):
    """A page with its pictures; the theme is loaded once for all."""
    heavy = {}
    for name, seen in visits.items():
        own = {site / name}
        own |= {
            Path(unquote(urlsplit(url).path)) for url in seen.look["weight"] if "/_images/" in url
        }
        megabytes = sum(path.stat().st_size for path in own) / 1e6
        if megabytes > HEAVIEST:
            heavy[name] = round(megabytes, 2)
    assert heavy == {}
    shared = sum(path.stat().st_size for path in (site / "_static").rglob("*.*") if path.is_file())
    assert shared / 1e6 < 8


def test_every_fold_of_a_chapter_says_what_it_holds_and_has_a_name_of_its_own(visits):
    """The API reference folds its entries, under their own names."""
    chapters = {f"book/{source.stem}.html" for source in (ROOT / "notebooks").glob("*.py")}
    folds = {name: visits[name].look["folds"] for name in chapters}
    assert sum(map(len, folds.values())) > 20
    names = [f"{name}: {fold}" for name, here in folds.items() for fold in here]
    kinds = [f": {kind}" for kind in (FOLD, "Numbers: ")]
    assert [name for name in names if not any(kind in name for kind in kinds)] == []
    assert len(set(names)) == len(names)


def test_our_figures_and_tables_are_numbered_by_chapter(visits):
    """Never a bare Table 1, which is the paper's."""
    numbers = {name: seen.look["numbers"] for name, seen in visits.items()}
    assert sum(map(len, numbers.values())) > 60
    for name, here in numbers.items():
        appendix = re.match(r"book/([A-Z])_", name)
        chapter = appendix[1] if appendix else r"\d+"
        wrong = [n for n in here if not re.fullmatch(rf"(Figure|Table) {chapter}\.\d+", n)]
        assert wrong == [], name


def test_every_table_can_be_downloaded_as_csv(visits, site):
    found = 0
    for name, seen in visits.items():
        links = [link for _, link in seen.look["tables"]]
        assert len(set(links)) == len(links), name
        for rows, link in seen.look["tables"]:
            assert link.endswith(".csv"), f"{name}: a table without a file"
            path = Path(unquote(urlsplit(link).path))
            read = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
            assert len(read) == rows and len({len(row) for row in read}) == 1, path.name
            found += 1
    assert found > 40


def test_every_figure_has_a_face_for_dark_pages(visits):
    faces = [face for seen in visits.values() for face in seen.look["faces"]]
    light = {Path(source).stem for source, classes in faces if "only-light" in classes}
    dark = {Path(source).stem for source, classes in faces if "only-dark" in classes}
    assert light and {Path(source).stem for source, _ in faces} == light | dark
    assert dark == {f"{name}-dark" for name in light}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_one_face_of_a_figure_is_shown_and_stands_on_the_page(browser, site, theme):
    browser.get((site / "book" / "03_copy.html").as_uri())
    browser.execute_script(STILL)
    browser.execute_script(SHOW, theme)
    shown, ground, ink = browser.execute_script(
        "const style = getComputedStyle(document.body);"
        "return [[...document.querySelectorAll('article figure img')]"
        ".filter((image) => image.getClientRects().length).map((image) => image.src),"
        "style.backgroundColor, style.color]"
    )
    assert shown and all(("-dark" in source) == (theme == "dark") for source in shown)
    if theme == "dark":
        wanted = [
            f"rgb({', '.join(str(round(255 * part)) for part in to_rgb(colour))})"
            for colour in (figures.DARK_PAGE, figures.DARK_INK)
        ]
        assert [ground, ink] == wanted, "figures are drawn for another page"


def test_no_page_is_long_on_a_phone(visits):
    screens = {name: round(seen.phone_height / SCREEN, 1) for name, seen in visits.items()}
    assert {name: count for name, count in screens.items() if count > MOST_SCREENS} == {}


def test_verdicts_are_in_view_on_a_phone(browser, site):
    resize(browser, PHONE)
    cut = []
    for page in sorted((site / "book").glob("*.html")):
        browser.get(page.as_uri())
        cut += browser.execute_script(
            "return [...document.querySelectorAll('article table')].flatMap((table) => {"
            "const heads = [...table.querySelectorAll('thead th')];"
            "return heads.filter((head) => head.textContent.trim() === 'verdict'"
            "&& head.getBoundingClientRect().right > innerWidth).map(() => table.id); })"
        )
    resize(browser, DESKTOP)
    assert cut == []


def test_every_chapter_offers_its_notebook_and_source(site):
    for source in sorted((ROOT / "notebooks").glob("*.py")):
        page = (site / "book" / f"{source.stem}.html").read_text(encoding="utf-8")
        for file in (f"_sources/book/{source.stem}.ipynb", f"_sources/{source.name}"):
            assert f'href="../{file}"' in page
            assert (site / file).is_file()
        assert (site / "_sources" / source.name).read_bytes() == source.read_bytes()


def test_print_is_black_on_white(browser, site):
    browser.get((site / "book" / "03_copy.html").as_uri())
    browser.execute_script(SHOW, "dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        drawn = browser.execute_script(
            "return [...document.querySelectorAll('article figure img')]"
            ".filter((image) => image.getClientRects().length).map((image) => image.src)"
        )
        colours = browser.execute_script(
            "return ['article p', 'article .highlight pre', 'article .highlight span', 'body']"
            ".map((e) => getComputedStyle(document.querySelector(e)))"
            ".map(({ color, backgroundColor }) => [color, backgroundColor])"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert drawn and not any("-dark" in source for source in drawn)
    assert {colour for colour, _ in colours} == {"rgb(0, 0, 0)"}
    assert {ground for _, ground in colours} <= {"rgb(255, 255, 255)", "rgba(0, 0, 0, 0)"}


@pytest.fixture
def ring(browser, site, tmp_path) -> webdriver.Chrome:
    """A page with the interactive figure in its first state."""
    page = site / "book" / "ring-test.html"
    page.write_text(
        "<html lang='en'><title>ring</title><link rel='stylesheet' href='../_static/ring.css'>"
        "<script src='../_static/ring.js'></script><main><figure id='fig-ring'>"
        "<img src='../_static/ring.png' alt='a picture'></figure></main>"
    )
    resize(browser, DESKTOP)
    browser.get(page.as_uri())
    yield browser
    page.unlink()


def told(browser: webdriver.Chrome) -> list[int]:
    """Of how many past steps the inputs can be told, from the wave and from the static bump."""
    texts = browser.execute_script(
        "return [...document.querySelectorAll('.ring-told')].map((e) => e.textContent)"
    )
    return [int(text.split()[4]) for text in texts]


def set_slider(browser: webdriver.Chrome, name: str, value: float) -> None:
    browser.execute_script(
        "const slider = document.querySelector(`[name=${arguments[0]}]`);"
        "slider.value = arguments[1];"
        "slider.dispatchEvent(new Event('input', { bubbles: true }));",
        name,
        value,
    )


@pytest.mark.parametrize(("velocity", "bias"), [(1.0, 0.0), (0.3, 0.0), (0.8, -0.1), (0.5, 0.05)])
def test_the_ring_in_the_browser_is_the_wave_rnn(ring, velocity, bias):
    sites, inputs = 12, np.random.default_rng(0).integers(0, 2, 20)
    model = wrnn.WaveRNN(1, sites)
    with torch.no_grad():
        wrnn.init.shift_(model.weight_hh, velocity)
        wrnn.init.single_site_(model.weight_ih, 1)
        model.bias_ih.zero_()
        model.bias_hh.fill_(bias)
        expected = model(torch.tensor(inputs, dtype=torch.float32).reshape(-1, 1, 1))[0][-1, 0]
    settings = {"sites": sites, "velocity": velocity, "bias": bias}
    script = "return [...wrnnRing.state(arguments[0], arguments[1])]"
    seen = ring.execute_script(script, inputs.tolist(), settings)
    np.testing.assert_allclose(seen, expected.numpy(), atol=1e-5)


def test_a_wave_can_be_read_where_a_bump_cannot(ring):
    assert told(ring) == [21, 0]
    set_slider(ring, "velocity", 0)
    assert told(ring) == [0, 0]
    set_slider(ring, "velocity", 1)
    set_slider(ring, "bias", -0.1)
    assert 5 <= told(ring)[0] <= 9
    set_slider(ring, "bias", 0)
    set_slider(ring, "sites", 16)
    set_slider(ring, "step", 32)
    assert told(ring)[0] <= 16, "two laps lie on one another"


def test_the_ring_can_be_used_without_a_mouse(ring):
    def press(selector: str) -> str:
        ring.find_element("css selector", selector).send_keys(" ")
        return ring.execute_script("return document.querySelector('.ring-status').textContent")

    ring.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    try:
        assert press("[data-do=clear]") == "Step 1 of 32. Inputs: none."
        assert press("button[data-excite='1']") == "Step 1 of 32. Inputs: ring 2, just now."
        assert press("[data-do=next]") == "Step 2 of 32. Inputs: ring 2, 1 step ago."
        play = ring.find_element("css selector", "[data-do=play]")
        assert play.text == "Play", "it moved by itself"
        play.send_keys(" ")
        assert play.text == "Pause"
        slider = ring.find_element("css selector", "[name=step]")
        slider.send_keys("\ue012")  # arrow left
        assert play.text == "Play"
    finally:
        ring.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    ring.execute_script(AXE)
    assert ring.execute_async_script(AUDIT) == []


def test_a_click_on_a_ring_sets_it_going(ring):
    ring.find_element("css selector", "[data-do=clear]").click()
    ring.find_element("css selector", "[data-view=wave] g.ring-3 path").click()
    WebDriverWait(ring, 10).until(
        lambda browser: (
            browser.find_element("css selector", "[name=step]").get_property("value") > "1"
        )
    )
    assert "ring 3" in ring.find_element("css selector", "[data-told=wave]").text


def test_a_bad_page_is_seen_as_bad(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<article><p>bad {eq}`eq-wave` bad</p><img src='missing.png'>"
        "<span class='math'>\\(x\\)</span><div class='formula' tabindex='0'>y</div>"
        "<figure><figcaption style='display: none'>A caption.</figcaption></figure>"
        "<script src='https://example.org/outside.js'></script>"
        "<script>console.error('an error')</script><div style='width: 600px'>wide</div>"
        "<a href='no'>nowhere</a><section><details><summary>Show source</summary>"
        "</details><p>A sentence.</p></section><table class='docutils'><thead><tr><th>a</th>"
        "<th>b  c</th></tr></thead></table><div class='cell_output'><pre>a  b c\n1  2</pre></div>"
        "</article>"
    )
    seen = visit(browser, page)
    assert [kind for kind in FAULTS if not faults(seen, kind)] == []
    assert any("missing.png" in request for request in seen.failed_requests)
    assert any("example.org" in request for request in seen.failed_requests)
    assert any("image-alt" in problem for problem in seen.barriers["1280 light"])
    assert seen.look["markup"] == ["{eq}`eq-wave`"] and seen.look["twins"] == [["a", "b c"]]
    assert [image[1:] for image in seen.look["images"]] == [["", False]]
    assert seen.phone_scroll_width > seen.phone_width
    assert seen.look["folds"] == ["Show source"] and seen.look["tables"] == [[1, ""]]
    assert broken_links({"bad.html": seen}, tmp_path) == [f"bad.html: {(tmp_path / 'no').as_uri()}"]
