"""The pages by axe-core's rules for WCAG 2.2 A and AA and its best practices: somebody else's eyes beside our own."""

from __future__ import annotations

import pytest
from axe_kit import axe_source
from page_kit import Shown, watched
from playwright.sync_api import Browser

pytestmark = pytest.mark.long  # real parts that take their time: the longer suite

RUN = """async () => {
  const found = await axe.run(document, {resultTypes: ['violations', 'incomplete']});
  const told = (kind) => found[kind].map((rule) => `${rule.id}: ${rule.nodes[0].html.slice(0, 160)}`);
  return {violations: told('violations'), passes: found.passes.length};
}"""


@pytest.fixture(scope="module")
def axe() -> str:
    return axe_source()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), pytest.param("dark", 320, marks=pytest.mark.long)])
def test_axe_finds_nothing(
    shown: Shown, chromium: Browser, url: str, axe: str, scheme: str, width: int
) -> None:  # fmt: skip
    with watched(chromium, url=url, scheme=scheme, width=width) as looked:
        for path in (*shown.kinds, "/no-such-publisher"):
            looked.page.goto(url + path)
            looked.page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            looked.page.evaluate(axe)
            found = looked.page.evaluate(RUN)
            assert found["violations"] == [], path
            assert found["passes"] > 15
