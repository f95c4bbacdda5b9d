"""The pages in a real browser: nothing runs that isn't ours, everything can be reached, read and operated."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from page_kit import Shown, watched
from playwright.sync_api import Browser, Page

# What an accessible page has, whatever is on it. Returns what is wrong, in words.
STRUCTURE = """() => {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const named = (e) => (e.getAttribute('aria-label') || (e.getAttribute('aria-labelledby') || '').split(' ')
      .map((id) => document.getElementById(id)?.textContent || '').join('') || '').trim();
  for (const [what, selector] of [['main', 'main'], ['banner', 'body > header'], ['contentinfo', 'body > footer'],
      ['h1', 'h1'], ['title', 'title']]) {
    const found = all(selector);
    if (found.length !== 1) wrong.push(`${found.length} of ${what}`);
    if (found[0] && !found[0].textContent.trim()) wrong.push(`empty ${what}`);
  }
  if (document.documentElement.lang !== 'en') wrong.push('no language');
  let level = 0;
  for (const heading of all('h1,h2,h3,h4,h5,h6')) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) wrong.push(`heading level ${level} then ${now}: ${heading.textContent}`);
    if (!heading.textContent.trim()) wrong.push('empty heading');
    level = now;
  }
  for (const nav of all('nav, section, [role=region], [role=group]'))
    if (!named(nav)) wrong.push(`${nav.tagName} without a name`);
  for (const control of all('input, select, textarea'))
    if (!control.labels.length) wrong.push(`control ${control.name} without a label`);
  for (const one of all('a, button, summary'))
    if (!(one.textContent.trim() || named(one))) wrong.push(`${one.outerHTML.slice(0, 80)} says nothing`);
  for (const image of all('img')) if (!image.alt) wrong.push('img without alt');
  for (const image of all('svg'))
    if (image.getAttribute('aria-hidden') !== 'true' && !(image.getAttribute('role') === 'img' && named(image)))
      wrong.push('svg without a name');
  for (const table of all('table')) {
    if (!table.caption || !table.caption.textContent.trim()) wrong.push('table without caption');
    for (const cell of table.querySelectorAll('th')) if (!cell.scope) wrong.push('th without scope');
  }
  const ids = all('[id]').map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) wrong.push(`id ${id} twice`);
  for (const one of all('[aria-labelledby]'))
    for (const id of one.getAttribute('aria-labelledby').split(' '))
      if (!document.getElementById(id)) wrong.push(`labelled by ${id}, which isn't there`);
  for (const one of all('*'))
    for (const name of one.getAttributeNames()) if (name.startsWith('on') || name === 'style') wrong.push(`${name}=`);
  if (all('script').length !== 1) wrong.push('another script');
  for (const one of all('a[href]'))
    if (!/^(https?:|magnet:)/.test(one.href)) wrong.push(`a link to ${one.href.slice(0, 60)}`);
  return wrong;
}"""

# Every piece of text against what is behind it (WCAG 2.2, 1.4.3): the worst ratio of each pair of colours below 4.5.
CONTRAST = """() => {
  const parse = (text) => { const m = text.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const one = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = (c) => 0.2126 * one(c[0]) + 0.7152 * one(c[1]) + 0.0722 * one(c[2]);
  const behind = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] === 1) return c; if (c[3] > 0) return null; } return null; };
  const wrong = new Set();
  let checked = 0;
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(e);
    if (!(text || e.matches('input, select')) || style.visibility === 'hidden' || !e.getClientRects().length) continue;
    const back = behind(e);
    if (!back) { wrong.add(`no plain background behind ${e.tagName}`); continue; }
    const ink = parse(e instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
    checked += 1;
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) wrong.add(`${e.tagName}.${e.getAttribute('class')}: ${ink} on ${back} is ${ratio.toFixed(2)}`);
  }
  if (checked < 10) wrong.add(`only ${checked} texts were looked at`);
  return [...wrong];
}"""

# The block map's and the chart's colours against the card they lie on (WCAG 2.2, 1.4.11: 3).
GRAPHICS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number).slice(0, 3);
  const one = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const light = (c) => 0.2126 * one(c[0]) + 0.7152 * one(c[1]) + 0.0722 * one(c[2]);
  const back = light(parse(getComputedStyle(document.querySelector('.panel')).backgroundColor));
  return ['previous', 'elsewhere', 'repeated', 'new'].map((kind) => {
    const path = document.querySelector(`.legend .kind-${kind}`);
    if (!path) return [kind, 0];
    const [a, b] = [light(parse(getComputedStyle(path).fill)), back].sort((x, y) => y - x);
    return [kind, (a + 0.05) / (b + 0.05)];
  });
}"""


def test_every_page_is_sound_and_quiet(shown: Shown, chromium: Browser, url: str) -> None:
    with watched(chromium, url=url) as looked:
        for path in shown.paths:
            answer = looked.page.goto(url + path)
            assert answer is not None
            assert answer.status == 200, path
            assert looked.page.evaluate(STRUCTURE) == [], path
            assert looked.trouble == [], path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_background(shown: Shown, chromium: Browser, url: str, scheme: str) -> None:
    with watched(chromium, url=url, scheme=scheme) as looked:
        for path in shown.kinds:
            looked.page.goto(url + path)
            looked.page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert looked.page.evaluate(CONTRAST) == [], path
        looked.page.goto(f"{url}/acme/llama")
        assert {kind: ratio for kind, ratio in looked.page.evaluate(GRAPHICS) if ratio < 3} == {}


def test_the_two_schemes_differ(chromium: Browser, url: str) -> None:
    found = set()
    for scheme in ("light", "dark"):
        with watched(chromium, url=url, scheme=scheme) as looked:
            looked.page.goto(url)
            found.add(looked.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
    assert len(found) == 2


@pytest.mark.parametrize(("width", "height"), [(320, 640), (640, 450)], ids=["320 px", "1280 px at 200 %"])
def test_nothing_is_wider_than_the_window(
    shown: Shown, chromium: Browser, url: str, width: int, height: int
) -> None:  # fmt: skip
    with watched(chromium, url=url, width=width, height=height) as looked:
        for path in (*shown.kinds, "/acme/shards"):
            looked.page.goto(url + path)
            looked.page.evaluate("() => document.querySelectorAll('details').forEach((one) => { one.open = true; })")
            assert looked.page.evaluate("() => document.documentElement.scrollWidth") <= width, path


def test_without_scripts_everything_is_there(shown: Shown, chromium: Browser, url: str) -> None:
    with watched(chromium, url=url, scripts=False) as looked:
        page = looked.page
        page.goto(url)
        page.get_by_label("Search", exact=True).fill("tuned")
        page.get_by_label("Search", exact=True).press("Enter")
        assert urlsplit(page.url).query.startswith("q=tuned")
        assert page.get_by_role("heading", level=2).first.inner_text() == "1 model for “tuned”"
        page.get_by_role("link", name="tuned", exact=True).click()
        assert page.get_by_role("heading", level=1).inner_text() == "tuned"
        assert page.get_by_role("button").count() == 0  # nothing that wouldn't work
        for text in ("samara pull umbra/tuned:", "b3sum --check", "hf download", "Block map"):
            assert page.get_by_text(text).first.is_visible(), text
        page.get_by_text("Magnet link as a QR code").click()
        assert page.get_by_role("img", name="QR code of the magnet link").is_visible()
        assert looked.trouble == []


def test_filters_narrow_and_can_be_taken_back(chromium: Browser, url: str) -> None:
    with watched(chromium, url=url) as looked:
        page = looked.page
        page.goto(url)
        everything = page.locator(".models > li").count()
        page.get_by_label("Licence").select_option("MIT")
        page.get_by_role("button", name="Search").click()
        assert page.locator(".models > li").count() == 1 < everything
        assert page.get_by_label("Licence").input_value() == "MIT"
        page.get_by_role("link", name="Clear").click()
        assert page.locator(".models > li").count() == everything


def test_by_keyboard_alone(chromium: Browser, url: str) -> None:
    with watched(chromium, url=url) as looked:
        page = looked.page
        page.goto(url)
        focused = "() => document.activeElement.textContent.trim() || document.activeElement.name"
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "Skip to the content"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "q"
        page.keyboard.type("llama")
        page.keyboard.press("Enter")
        page.wait_for_url("**q=llama**")
        order = tab_through(page)
        first_result = next(i for i, (text, _) in enumerate(order) if text == "llama")
        assert [text for text, _ in order].index("Search") < first_result
        assert all(seen for _, seen in order), "a focus that can't be seen"
        page.get_by_role("link", name="llama", exact=True).first.focus()
        page.keyboard.press("Enter")
        page.wait_for_url("**/acme/llama")
        reached = [text for text, seen in tab_through(page)]
        for text in ("Copy", "Status", "q8_0", "Digests of q8_0.gguf"):
            assert text in reached, text


def tab_through(page: Page) -> list[tuple[str, bool]]:
    """What Tab comes to, from the top: its text, and whether one sees that it has the focus."""
    page.evaluate("() => { document.activeElement.blur(); window.getSelection().removeAllRanges(); }")
    found: list[tuple[str, bool]] = []
    for _ in range(120):
        page.keyboard.press("Tab")
        at = page.evaluate(
            """() => { const e = document.activeElement; if (e === document.body) return null;
            const s = getComputedStyle(e);
            const seen = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2;
            return [e.textContent.trim() || e.name || '', seen]; }"""
        )
        if at is None:
            break
        found.append((at[0], at[1]))
    return found


def test_what_is_copied_is_what_is_shown(shown: Shown, chromium: Browser, url: str) -> None:
    with watched(chromium, url=url) as looked:
        looked.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        looked.page.goto(f"{url}/acme/llama")
        looked.page.get_by_role("button", name="Copy the identity").click()
        looked.page.get_by_text("Copied to the clipboard").wait_for(state="attached")
        assert looked.page.evaluate("() => navigator.clipboard.readText()") == shown.acme
        looked.page.get_by_role("button", name="Copy the command “Pull with samara”").click()
        looked.page.wait_for_function(
            "() => navigator.clipboard.readText().then((text) => text.startsWith('samara pull'))"
        )
        copied = looked.page.evaluate("() => navigator.clipboard.readText()")
        assert copied == "samara pull acme/llama:q8_0 --registry https://models.example"
        assert looked.trouble == []


def test_paper_shows_no_controls(chromium: Browser, url: str) -> None:
    with watched(chromium, url=url) as looked:
        looked.page.emulate_media(media="print")
        looked.page.goto(f"{url}/acme/llama")
        assert not looked.page.get_by_role("navigation", name="Registry").is_visible()
        assert looked.page.get_by_role("heading", level=1).is_visible()
