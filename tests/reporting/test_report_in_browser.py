"""A report in a real browser: on a desktop, on a telephone and printed; nothing is asked of the network, nothing overflows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapterhub_lite.reporting.outcome import Report
from tests.reporting.test_report import facts_in

CHROMIUM = os.environ.get("ADAPTERHUB_CHROMIUM", shutil.which("chromium") or "/usr/bin/chromium")
AXE = os.environ.get("ADAPTERHUB_AXE")
"""Path of axe.min.js, of the npm package axe-core."""
QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZES = {"desktop": (1280, "light"), "telephone": (390, "light"), "dark": (1280, "dark")}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"needs Chromium at {CHROMIUM}, or where ADAPTERHUB_CHROMIUM says")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(plain: Any, hostile: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of a plain run, of one on hostile text, and of the two compared."""
    compared = Report.of([facts_in(plain.folder), facts_in(hostile.folder)])
    both = compared.save(tmp_path_factory.mktemp("compared") / "report.html")
    return [plain.folder / "report.html", hostile.folder / "report.html", both]


@pytest.mark.parametrize("name", SIZES)
def test_a_page_asks_for_nothing_and_fits(browser, pages, name):
    width, scheme = SIZES[name]
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    for file in pages:
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("dialog", lambda dialog, said=said: said.append(dialog.message))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto(file.as_uri())
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # What is wider than the page, but for tables that scroll by themselves.
        wide = page.evaluate(
            "[...document.querySelectorAll('main *, header *')].filter(one => !one.closest('.scroll') && "
            "one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 80))"
        )
        assert wide == []
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(20, 24, 29)" if scheme == "dark" else "rgb(255, 255, 255)"
        )
        page.close()
    context.close()


def test_a_page_can_be_printed(browser, pages, tmp_path):
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(pages[0].as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = page.pdf(path=str(tmp_path / "page.pdf"))
    assert printed.startswith(b"%PDF")
    context.close()


@pytest.mark.skipif(AXE is None, reason="needs axe-core: npm pack axe-core, and ADAPTERHUB_AXE=PATH of its axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_can_be_read_by_all(browser, pages, scheme):
    context = browser.new_context(color_scheme=scheme)
    for file in pages:
        page = context.new_page()
        page.goto(file.as_uri())
        page.evaluate(Path(str(AXE)).read_text(encoding="utf-8"))
        found = page.evaluate(
            "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice']}).then(all => "
            "all.violations.map(one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 150)]))"
        )
        assert found == []
        page.close()
    context.close()
