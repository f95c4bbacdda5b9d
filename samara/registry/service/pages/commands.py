"""What to copy into a terminal. Pure. Every word of a publisher is quoted for a POSIX shell."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import quote

from samara.registry.listed_publishers import Owner
from samara.schemas.digests import b3_hex
from samara.schemas.manifest import Release, ReleaseFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """`text` is one or several lines for a shell; `why`: what it is good for."""

    name: str
    why: str
    text: str


def trust(owner: Owner) -> Command:
    """How a machine comes to trust this publisher."""
    return Command(
        name="Trust the publisher",
        why="Once. Compare the identity with what the publisher itself says, not with this page alone.",
        text=f"samara trust add {shlex.quote(alias(owner))} --identity {owner.identity}",
    )


def alias(owner: Owner) -> str:
    """A name for a publisher on the reader's machine: its own here. Who has none gets the beginning of its identity:
    what it calls itself may be somebody else's name.
    """
    return owner.namespace or owner.identity[:12]


def commands(
    owner: Owner, release: Release, main: ReleaseFile, *, origin: str, is_current: bool, is_given: bool
) -> tuple[Command, ...]:
    """How to get a release: by samara, and by clients that people have already. `main`: the file for one-file clients,
    `is_given`: whether this registry gives it out; `origin`: how this registry is addressed; `is_current`: whether its
    tag means this very release.
    """
    where = f":{release.tag}" if is_current else f"@{release.digest}"
    revision = release.tag if is_current else b3_hex(release.digest)[:40]
    model = f"{owner.slug}/{release.model}"
    reference = shlex.quote(f"{alias(owner)}/{release.model}{where}")
    registry = shlex.quote(origin)
    file = main.path.rsplit("/", 1)[-1]
    target = shlex.quote(f"./{file}")
    url = f"{origin}/v1/blobs/{main.b3_hex}/{quote(file, safe='')}"
    found = (
        trust(owner),
        Command(
            name="Pull with samara",
            why="From peers, mirrors and this registry at once. Every block is checked before it counts.",
            text=f"samara pull {reference} --registry {registry}",
        ),
        Command(
            name="Download as from the Hub",
            why="For tools that know the Hub: the files come from here; what they check is what this registry says.",
            text=f"HF_ENDPOINT={registry} hf download {shlex.quote(model)} --revision {shlex.quote(revision)}",
        ),
        Command(
            name="With curl, checked by b3sum",
            why="The digest is the one in the signed manifest.",
            text=(
                f"curl -fL -o {target} {shlex.quote(url)}\nprintf '%s  %s\\n' {main.b3_hex} {target} | b3sum --check"
            ),
        ),
    )
    return found if is_given else found[:2]
