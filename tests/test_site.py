"""Every page of the built site in headless Chromium, opened from disk with the network off.

The site is the one in ``$WRNN_SITE``, or is built here from the committed chapters. Without
Chromium these tests are skipped, unless ``WRNN_REQUIRE_BROWSER=1`` makes that a failure.
"""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait
from sphinx_external_toc.parsing import parse_toc_yaml

from companion import book

ROOT = Path(__file__).parents[1]
PHONE = 390
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
    const mathematics = window.MathJax?.startup?.promise ?? Promise.resolve();
    Promise.allSettled([mathematics])
      .then(() => requestAnimationFrame(() => setTimeout(done, 50)));
"""
LOOK = """
    const math = [...document.querySelectorAll("span.math, div.math")];
    const article = (document.querySelector("article") ?? document.body).cloneNode(true);
    article.querySelectorAll("pre, code").forEach((code) => code.remove());
    const MARKUP = /`{3,}|:{3,}|~{3,}|\\{[a-z:]+\\}`[^`]*`|\\$[^$]+\\$/g;
    return {
      text: document.body.innerText.trim().length,
      markup: article.textContent.match(MARKUP) ?? [],
      math: math.length,
      unrendered: math.filter((m) => !m.querySelector("mjx-container svg")
                                     || m.querySelector("mjx-merror, [data-mjx-error]")).length,
      images: [...document.images].map((i) => [i.src, i.alt.trim(), i.naturalWidth > 0]),
    };
"""
WIDEST = """
    const wide = [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
      .map((e) => `${e.tagName}.${e.className}`);
    return [innerWidth, document.scrollingElement.scrollWidth, wide.slice(0, 5)];
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


def visit(browser: webdriver.Chrome, page: Path) -> Visit:
    resize(browser, 1280)
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page.as_uri())
    browser.execute_async_script(WAIT_FOR_PAGE)
    look = browser.execute_script(LOOK)
    resize(browser, PHONE)
    browser.execute_async_script(WAIT_FOR_PAGE)
    phone = browser.execute_script(WIDEST)
    console = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    return Visit(look, console, failed_requests(browser), *phone)


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


def test_no_console_error(visits):
    assert {name: seen.console_errors for name, seen in visits.items() if seen.console_errors} == {}


def test_no_failed_or_outside_request(visits):
    failed = {name: seen.failed_requests for name, seen in visits.items() if seen.failed_requests}
    assert failed == {}


def test_mathematics_is_rendered(visits):
    assert sum(seen.look["math"] for seen in visits.values()) > 0
    assert [name for name, seen in visits.items() if seen.look["unrendered"]] == []


def test_no_markup_is_left_over(visits):
    left = {name: seen.look["markup"] for name, seen in visits.items() if seen.look["markup"]}
    assert left == {}


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


def test_a_bad_page_is_seen_as_bad(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text(
        "<p>bad {eq}`eq-wave` bad</p><img src='missing.png'><span class='math'>\\(x\\)</span>"
        "<script src='https://example.org/outside.js'></script>"
        "<script>console.error('an error')</script><div style='width: 600px'>wide</div>"
    )
    seen = visit(browser, page)
    assert any("an error" in message for message in seen.console_errors)
    assert any("missing.png" in request for request in seen.failed_requests)
    assert any("example.org" in request for request in seen.failed_requests)
    assert seen.look["unrendered"] == 1
    assert seen.look["markup"] == ["{eq}`eq-wave`"]
    assert [image[1:] for image in seen.look["images"]] == [["", False]]
    assert seen.phone_scroll_width > seen.phone_width
