#!/usr/bin/env python3
"""Take the pictures of the registry's pages that the documents show: docs/images/*.png.

    scripts/screenshots.py [--out DIR] [--chromium PROGRAM]      about a minute, 1 GB of room in the temp folder

Publishes made-up models of plausible shapes (random weights, two publishers that don't exist), serves them on loopback
as `samara serve` does, and looks at the pages with a real browser. Needs the packages of the extra `serve`, playwright,
and Chromium. Keys are new each time, so identities in the pictures differ; all else is the same.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from samara.registry.home import Home
from samara.registry.index import Index
from samara.registry.publications.own import list_own
from samara.registry.service.app import create_app
from samara.registry.service.server import RunningServer
from samara.registry.service.service import Service
from samara.registry.service.settings import Settings
from samara.registry.swarm_samples import SwarmSample
from samara.registry.tracker import Tracker
from samara.registry.tracker.values import Announce, Torrent
from samara.registry.trust.making import init_publisher
from samara.registry.trust.publishers import Publisher
from samara.schemas.manifest import Release, ReleaseFile
from samara.schemas.references import parse_reference
from samara.seeder.publish import Description, publish

ROOT = Path(__file__).resolve().parent.parent
FIRST_DAY = datetime(2026, 9, 1, 9, 0, tzinfo=UTC)
LAST_DAY = datetime(2026, 9, 29, 16, 20, tzinfo=UTC)
LARGEST = 200_000  # bytes of a picture
STRING, UINT32, ARRAY = 8, 4, 9  # GGUF value types
# GGUF tensor type, elements and bytes of one of its groups, general.file_type
KINDS = {"Q4_0": (2, 32, 18, 2), "Q8_0": (8, 32, 34, 7), "F16": (1, 1, 2, 1), "Q4_K_M": (12, 256, 144, 15)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's shape: `layers` of the same eight tensors, an embedding of `vocabulary` rows of `width`."""

    architecture: str
    layers: int
    width: int
    vocabulary: int
    context: int


FERN = Shape(architecture="llama", layers=30, width=576, vocabulary=49_152, context=8_192)
MOSS = Shape(architecture="qwen2", layers=24, width=1024, vocabulary=64_000, context=32_768)
REED = Shape(architecture="bert", layers=12, width=384, vocabulary=30_522, context=512)
TEMPLATE = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
NOTES = (
    "A small language model for notes, lists and short answers, trained on text that may be used freely.\n\n"
    "It runs on a laptop without a graphics card. Version 3 has a mended chat template, and a few layers that were"
    " trained for longer; everything else is as it was, so whoever has version 2 fetches only the difference."
)


def write_model(
    path: Path, shape: Shape, kind: str, *, seed: int, template: str | None = None, tuned: Sequence[int] = ()
) -> Path:
    """A GGUF of this shape with random weights. `tuned`: layers that got others."""
    number, group, size, file_type = KINDS[kind]
    keys = [
        _key("general.architecture", STRING, _string(shape.architecture)),
        _key("general.file_type", UINT32, struct.pack("<I", file_type)),
        _key(f"{shape.architecture}.context_length", UINT32, struct.pack("<I", shape.context)),
        _key(
            "tokenizer.ggml.tokens",
            ARRAY,
            struct.pack("<IQ", STRING, shape.vocabulary) + b"".join(_string(f"t{n}") for n in range(shape.vocabulary)),
        ),
    ]
    if template is not None:
        keys.insert(2, _key("tokenizer.chat_template", STRING, _string(template * 200)))
    tensors = list(_tensors(shape))
    offset, infos = 0, []
    for name, rows in tensors:
        infos.append(_string(name) + struct.pack("<IQQIQ", 2, shape.width, rows, number, offset))
        offset += -(-shape.width * rows // group * size // 32) * 32
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(infos)
    with path.open("wb") as file:
        file.write(header + bytes(-len(header) % 32))
        for name, rows in tensors:
            mine = any(name.startswith(f"blk.{layer}.") for layer in tuned)
            noise = random.Random(f"{seed} {name} {mine}").randbytes(shape.width * rows // group * size)
            file.write(noise + bytes(-len(noise) % 32))
    return path


def _tensors(shape: Shape) -> Iterator[tuple[str, int]]:
    yield "token_embd.weight", shape.vocabulary
    for layer in range(shape.layers):
        for name, factor in (("attn_q", 1), ("attn_k", 1), ("attn_v", 1), ("attn_output", 1), ("ffn", 8)):
            yield f"blk.{layer}.{name}.weight", shape.width * factor


def _key(name: str, kind: int, value: bytes) -> bytes:
    return _string(name) + struct.pack("<I", kind) + value


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def fill(home: Home, folder: Path) -> Release:
    """Publish everything; the release whose page is shown."""
    acme, lichen = (
        init_publisher(home, name, passphrase=None, recovery=None, now=FIRST_DAY, kdf_rounds=1)
        for name in ("acme", "lichen")
    )
    with Index.open(home) as index:

        def put(who: Publisher, name: str, path: Path, about: Description, day: int) -> Release:
            now = FIRST_DAY + timedelta(days=day)
            release = publish(
                home, [path], parse_reference(f"{who.name}/{name}"), who, description=about,
                output=folder / f"{name.replace(':', '-')}.samara", now=now,
            ).release  # fmt: skip
            list_own(home, index, now=now)
            return release

        fern = Description(license="Apache-2.0", description=NOTES, upstream_repo="https://code.example/acme/fern")
        put(
            acme,
            "fern-135m:q8_0",
            write_model(folder / "fern-q8_0.gguf", FERN, "Q8_0", seed=1, template=TEMPLATE),
            fern,
            0,
        )
        (folder / "v1").mkdir()
        put(
            acme,
            "fern-135m:q4_0",
            write_model(folder / "v1/fern-135m.gguf", FERN, "Q4_0", seed=1, template="old"),
            fern,
            1,
        )
        put(
            lichen, "fern-recipes:q4_0",
            write_model(folder / "fern-recipes.gguf", FERN, "Q4_0", seed=1, template="old", tuned=range(22, 30)),
            Description(
                license="Apache-2.0", description="Fern, tuned on cooking recipes. Knows when the dough is ready.",
                base_model="acme/fern-135m:q4_0",
            ), 6,
        )  # fmt: skip
        put(
            acme, "moss-360m:q4_k_m", write_model(folder / "moss.gguf", MOSS, "Q4_K_M", seed=2, template=TEMPLATE),
            Description(license="MIT", description="A model for code: completes functions, explains errors."), 9,
        )  # fmt: skip
        put(
            lichen, "reed-embed:f16", write_model(folder / "reed.gguf", REED, "F16", seed=3),
            Description(license="CC0-1.0", description="Sentences as vectors, to search in one's own documents."),
            14,
        )  # fmt: skip
        (folder / "v3").mkdir()
        tuned = write_model(
            folder / "v3/fern-135m.gguf", FERN, "Q4_0", seed=1, template=TEMPLATE, tuned=(11, 12, 24, 25)
        )  # fmt: skip
        return put(acme, "fern-135m:q4_0", tuned, fern, 27)


def busy(service: Service, file: ReleaseFile) -> None:
    """Two weeks of a swarm, and the peers that are there now."""
    end, chance = int(LAST_DAY.timestamp()), random.Random(7)
    samples = []
    for age in range(0, 14 * 86_400, 1800):
        day = 1 - age / (14 * 86_400)
        seeders = round(4 + 30 * day**2 + chance.random() * 3)
        leechers = max(0, round(9 * chance.random() - 3 + (12 if 86_400 < age < 2 * 86_400 else 0)))
        samples.append((file.b3, SwarmSample(at=end - age, seeders=seeders, leechers=leechers, completed=leechers)))
    service.listings.add_samples(samples, forget_before=0)
    assert file.torrent is not None
    v1, v2 = bytes.fromhex(file.torrent.v1), bytes.fromhex(file.torrent.v2)
    service.tracker.publish([Torrent(b3=file.b3, v1=v1, v2=v2)])
    blob = service.index.blob(file.b3)
    for place in blob.locations if blob else ():
        service.index.set_location(
            file.b3, place.path, place.stamp, in_store=place.in_store, verified_at=LAST_DAY.timestamp() - 3600
        )
    for number in range(38):
        told = Announce(infohash=v1, peer_id=number.to_bytes(20, "big"), port=20_000 + number, is_whole=number < 34)
        service.tracker.announce(told, bytes([198, 51, 100, number]), LAST_DAY.timestamp())


def take(browser: Browser, url: str, out: Path) -> list[Path]:
    """The pictures."""
    made = []
    for scheme in ("light", "dark"):
        for name, path, height in (("catalogue", "/", 900), ("model", "/acme/fern-135m", 1000)):
            context = browser.new_context(
                viewport={"width": 1120, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page = context.new_page()
            page.goto(url + path, wait_until="networkidle")
            target = out / f"registry-{name}-{scheme}.png"
            page.screenshot(path=target)
            made.append(target)
            if name == "model":
                target = out / f"registry-block-map-{scheme}.png"
                page.locator("section:has(> #map)").screenshot(path=target)
                made.append(target)
            context.close()
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Make the pictures; 1 if one is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        release = fill(home, Path(folder))
        with Index.open(home) as index, sync_playwright() as playwright:
            service = Service(
                home=home, index=index, settings=Settings(origin="https://models.example", title="Models of the house"),
                tracker=Tracker(), clock=LAST_DAY.timestamp,
            )  # fmt: skip
            busy(service, release.files[0])
            with RunningServer(create_app(service)) as server:
                browser = playwright.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
                made = take(browser, server.url, options.out)
                browser.close()
    large = [path for path in made if path.stat().st_size > LARGEST]
    for path in made:
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    for path in large:
        print(f"{path} is larger than {LARGEST} bytes", file=sys.stderr)
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main())
