"""A registry with everything that its pages have to show, honest and hostile, and a browser to look at it. No test in
here.

acme: llama (three versions of q4_0, then q8_0; the second q4_0 withdrawn), many files, a replaced key, an equivocation.
umbra: a model tuned from acme's. The one without a name: hostile in every word that it may choose.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request, Response, sync_playwright
from service_kit import Author, author
from support.models import gguf

from samara.registry.index import Index
from samara.registry.publications.accept import Rules, accept
from samara.registry.publications.claims import ClaimRules
from samara.registry.publications.refusals import PublicationRefusedError
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.swarm_samples import SwarmSample
from samara.registry.trust.key_changes import rotate_key, set_threshold
from samara.registry.trust.own_catalog import retraction, update_catalog
from samara.registry.trust.publishers import load_publisher
from samara.schemas.networks import NetworkPolicy
from samara.schemas.publication import Publication
from samara.seeder.publish import Description

ORIGIN = "https://models.example"
CHROMIUM = "/usr/bin/chromium"
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg/onload=alert(3)>{{7*7}}&amp;&#x27;"
BIDI = "safe\u202egpj.exe\u2066 \u202dx\u200b\u0007\x1b[31m"
LONG = "W" * 3000 + " " + "\u0645" * 1500
REASON = "leaks <script>alert(1)</script> \"quoted\" & 'so'"
HOSTILE_FILE = "it's $(touch pwned) `id` & #1 %41 é.bin"
DESCRIPTION = Description(
    license="Apache-2.0",
    description="A small language model for notes and lists.\n\nIt was made for tests, and is good at nothing else.",
    upstream_repo="https://code.example/notes/llama",
    upstream_commit="0123456789abcdef0123456789abcdef01234567",
    base_model="example/base-llama",
)
HOSTILE = Description(
    license=EVIL[:200],
    description=f"{EVIL} javascript:alert(4) {BIDI} {LONG}",
    upstream_repo="javascript:alert(document.domain)",
    upstream_commit="'\"><b>x",
    base_model=f"{EVIL} {BIDI}",
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The registry, and who is in it. `hostile`: identity of who has no name here; `kinds`: of `paths`, pages of every
    kind once, for what takes long.
    """

    service: Service
    acme: str
    hostile: str
    paths: tuple[str, ...]
    kinds: tuple[str, ...]


def build(folder: Path) -> tuple[Index, Shown]:
    """The registry's index, open, and the rest."""
    acme, umbra = author(folder / "acme", "acme"), author(folder / "umbra", "umbra")
    hostile = author(folder / "hostile", "totally-acme")
    index = Index.open(acme.home)
    for template, tag in (
        ("{{ a }}", "q4_0"),
        ("{{ b }} longer", "q4_0"),
        ("{{ c }}" * 900, "q4_0"),
        ("{{ c }}", "q8_0"),
    ):
        acme.publish(f"llama:{tag}", [gguf(folder / f"{tag}.gguf", template=template)], DESCRIPTION)
        if template == "{{ b }} longer":
            update(acme, "llama", "q4_0", REASON)
        take(index, acme, name="acme")
    acme.publish("shards:v1", shards(folder / "shards"), Description(license="MIT"))
    rotated = rotate_key(acme.home, load_publisher(acme.home, "acme"), "online", ask=None, now=datetime.now(UTC))
    set_threshold(acme.home, rotated.publisher, "root", 1, ask=None, now=datetime.now(UTC))
    acme = Author(home=acme.home, publisher=load_publisher(acme.home, "acme"), folder=acme.folder)
    take(index, acme, name="acme")
    umbra.publish("tuned:q4_0", [gguf(folder / "tuned.gguf", template="{{ a }}", tuned={3: 77, 4: 78})], DESCRIPTION)
    take(index, umbra, name="umbra")
    equivocate(index, umbra)
    evil_file = folder / "evil" / HOSTILE_FILE
    evil_file.parent.mkdir()
    evil_file.write_bytes(b"evil" * 5000)
    evil_gguf = with_architecture(gguf(folder / "evil" / "e.gguf"), b"<svg/onload=alert(5)>")
    hostile.publish("model:latest", [evil_file, evil_gguf], HOSTILE)
    hostile.publish("withdrawn:v1", [evil_file], HOSTILE)
    update(hostile, "withdrawn", "v1", REASON)
    take(index, hostile, name=None)
    service = Service(home=acme.home, index=index, settings=Settings(origin=ORIGIN, title="Models of <Example> & Co"))
    add_samples(service, acme)
    return index, Shown(
        service=service,
        acme=acme.identity,
        hostile=hostile.identity,
        paths=(
            "/", "/?q=llama&sort=name", "/?q=nothing-is-called-so", "/?license=MIT", "/status",
            "/acme", "/umbra", f"/{hostile.identity}",
            "/acme/llama", "/acme/llama/releases/q4_0", "/acme/llama/releases/q4_0?version=2",
            "/acme/llama/releases/q8_0",
            "/acme/shards", "/umbra/tuned", f"/{hostile.identity}/model", f"/{hostile.identity}/withdrawn",
        ),
        kinds=(
            "/", "/?q=nothing-is-called-so", "/status", "/umbra", "/acme/llama",
            "/acme/llama/releases/q4_0?version=2", f"/{hostile.identity}/model",
        ),
    )  # fmt: skip


def take(index: Index, who: Author, *, name: str | None) -> None:
    """Take in what somebody published; a name as the operator gives it."""
    rules = Rules(
        claims=ClaimRules(origin=ORIGIN, listed={name: who.identity} if name else {}),
        policy=NetworkPolicy(private=True),
    )
    accept(index, who.publication(), rules, now=datetime.now(UTC))


def update(who: Author, model: str, tag: str, reason: str) -> None:
    """Withdraw what a name means."""
    update_catalog(
        who.home, who.publisher, retraction(model, tag, reason), signers=who.publisher.online_keys(None),
        now=datetime.now(UTC),
    )  # fmt: skip


def equivocate(index: Index, who: Author) -> None:
    """Two different catalogs of one version, both signed."""
    keys, saved = who.home.keys, who.folder / "keys-before"
    shutil.copytree(keys, saved)
    who.publish("tuned:other", [gguf(who.folder / "one.gguf", template="1")])
    take(index, who, name=None)
    shutil.rmtree(keys)
    saved.rename(keys)
    who.publish("tuned:another", [gguf(who.folder / "two.gguf", template="2")])
    with pytest.raises(PublicationRefusedError):
        accept(
            index, Publication(metadata=who.publication().metadata, releases=(), claim=None),
            Rules(claims=ClaimRules(origin=ORIGIN, listed={})), now=datetime.now(UTC),
        )  # fmt: skip


def shards(folder: Path) -> list[Path]:
    """More files than a page shows."""
    folder.mkdir()
    paths = [folder / f"part-{number:02}.bin" for number in range(20)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 70_000)
    return paths


def with_architecture(path: Path, name: bytes) -> Path:
    """The same GGUF of another architecture."""
    data = path.read_bytes()
    old = len(b"llama").to_bytes(8, "little") + b"llama"
    path.write_bytes(data.replace(old, len(name).to_bytes(8, "little") + name, 1))
    return path


def add_samples(service: Service, who: Author) -> None:
    """Two days of a swarm."""
    listing = service.listings.model(service.listings.owners()[0], "llama")[0]
    release = service.manifests.release(listing.manifest)
    assert release is not None
    now = int(service.clock())
    service.listings.add_samples(
        [
            (
                release.files[0].b3,
                SwarmSample(at=now - age, seeders=3 + age // 7000 % 9, leechers=age // 5000 % 4, completed=1),
            )
            for age in range(600, 2 * 86_400, 3000)
        ],
        forget_before=0,
    )


@dataclass
class Watched:
    """A page of a browser, and everything that went wrong in it."""

    page: Page
    trouble: list[str] = field(default_factory=list)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium without a screen."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield launched
        finally:
            launched.close()


@contextlib.contextmanager
def watched(
    opened: Browser, *, width: int = 1200, height: int = 900, scheme: str = "light", scripts: bool = True, url: str
) -> Iterator[Watched]:
    """A page that notes console messages, dialogs, failed requests and requests to anywhere but `url`."""
    context: BrowserContext = opened.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
        reduced_motion="reduce",
    )
    page = context.new_page()
    watched = Watched(page)
    page.on("console", lambda message: watched.trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: watched.trouble.append(f"error: {error}"))

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the icon, when we go on before it came
            watched.trouble.append(f"failed: {request.url} {request.failure}")

    page.on("requestfailed", failed)

    def answered(answer: Response) -> None:
        if answer.status >= 400:
            watched.trouble.append(f"{answer.status}: {answer.url}")

    page.on("response", answered)

    def look(url_asked: str) -> None:
        if not url_asked.startswith((url + "/", "data:")):
            watched.trouble.append(f"request to {url_asked}")

    page.on("request", lambda request: look(request.url))

    def refuse(dialog: Dialog) -> None:
        watched.trouble.append("a dialog opened")
        dialog.dismiss()

    page.on("dialog", refuse)
    try:
        yield watched
    finally:
        context.close()
