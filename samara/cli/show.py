"""`samara show`: print a release for people, or as JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.text import clean, size
from samara.registry.home import Home
from samara.schemas.errors import ExitCode, SamaraError

if TYPE_CHECKING:
    from samara.schemas.manifest import Release, ReleaseFile


@dataclass(frozen=True, kw_only=True, slots=True)
class _Shown:
    """A release and what may be said of its trust."""

    release: Release
    trusted: bool
    says: str
    problem: SamaraError | None
    release_v2: str | None = None

    def magnet(self, file: ReleaseFile) -> str | None:
        """A file's magnet link; plain clients read it too."""
        return file.magnet_of(manifest=self.release.digest, release=self.release_v2)


@common_command(
    "show",
    examples="samara show acme/tiny:q8_0\nsamara show tiny.samara --json",
    exits=(ExitCode.NOT_FOUND, ExitCode.NETWORK, ExitCode.INTEGRITY, ExitCode.TRUST, ExitCode.STORE),
)
@click.argument("source", metavar="REF|FILE|URL|MAGNET")
def command(source: str) -> int:
    """Print a release and whether its signature is by a publisher you pinned.

    A file whose signature doesn't hold is shown all the same, with the exit code of what is wrong with it.
    """
    shown = _find(Home.find(), source)
    if shown.problem is not None:
        screen.warn(str(shown.problem))
    release = shown.release
    screen.result(
        {
            "uri": release.uri,
            "identity": release.identity,
            "publisher": release.publisher_name,
            "model": release.model,
            "tag": release.tag,
            "version": release.version,
            "manifest": release.digest,
            "created": release.created,
            "license": release.license,
            "description": release.description,
            "upstream": release.upstream.model_dump() if release.upstream else None,
            "base_model": release.base_model,
            "trusted": shown.trusted,
            "signature": shown.says,
            "problem": shown.problem.as_dict() if shown.problem else None,
            "bytes": release.size,
            "files": [_file_data(file, shown.magnet(file)) for file in release.files],
        },
        _page(shown),
    )
    return int(ExitCode.OK if shown.problem is None else shown.problem.exit_code)


def _find(home: Home, source: str) -> _Shown:
    from samara.fetcher.resolve import is_magnet, is_release_file, read_bundle, resolve
    from samara.registry.trust.known import KnownCatalogs
    from samara.registry.trust.release import inspect_release, open_release
    from samara.registry.web import is_url
    from samara.schemas.release_file import release_torrent

    if is_magnet(source) or not (is_url(source) or is_release_file(source)):
        resolved = resolve(home, source)
        pin = resolved.verified.pin
        return _Shown(
            release=resolved.release,
            trusted=True,
            says=f"good, by {pin.alias} ({pin.short}…)",
            problem=None,
            release_v2=release_torrent(resolved.verified.bundle).v2,
        )
    bundle = read_bundle(source)
    inspected = inspect_release(bundle)
    name = inspected.release.publisher_name
    if inspected.problem is not None:
        return _Shown(release=inspected.release, trusted=False, says="does not hold", problem=inspected.problem)
    known = KnownCatalogs(home)
    if known.trust.find(inspected.release.identity) is None:
        says = f"good, by somebody you have not pinned who calls themselves {name}"
        return _Shown(release=inspected.release, trusted=False, says=says, problem=None)
    try:
        verified = open_release(bundle, known.trust)
    except SamaraError as problem:
        return _Shown(release=inspected.release, trusted=False, says="does not hold", problem=problem)
    withdrawn, newer = known.retraction(verified.release), known.newer(verified.release)
    fresh = (
        f"WITHDRAWN: {withdrawn}"
        if withdrawn is not None
        else f"version {newer} is known"
        if newer is not None
        else "freshness not checked"
    )
    says = f"good, by {verified.pin.alias} ({verified.pin.short}…); {fresh}"
    return _Shown(
        release=verified.release, trusted=True, says=says, problem=None, release_v2=release_torrent(bundle).v2
    )


def _file_data(file: ReleaseFile, magnet: str | None) -> dict[str, object]:
    return {
        "path": file.path,
        "role": file.role,
        "size": file.size,
        "blob": file.b3,
        "sha256": file.sha256,
        "layout": file.layout,
        "blocks": len(file.blocks),
        "inline": file.inline is not None,
        "infohash_v1": file.torrent.v1 if file.torrent else None,
        "infohash_v2": file.torrent.v2 if file.torrent else None,
        "magnet": magnet,
        "mirrors": list(file.mirrors),
        "gguf": file.gguf.model_dump() if file.gguf else None,
    }


def _page(shown: _Shown) -> str:
    release = shown.release
    lines = [
        f"{release.publisher_name}/{release.model}:{release.tag}  version {release.version}  {release.created}",
        f"  signature    {shown.says}",
        f"  identity     {release.identity}",
        f"  manifest     {release.digest}",
    ]
    facts = {
        "licence": release.license,
        "description": release.description,
        "upstream": f"{release.upstream.repo} {release.upstream.commit or ''}".strip() if release.upstream else None,
        "base model": release.base_model,
    }
    lines += [f"  {name:<12} {_clean(text)}" for name, text in facts.items() if text]
    for file in release.files:
        lines += ["", f"  {file.path}  {size(file.size)}  {_clean(file.role)}", f"    blob       {file.b3}"]
        lines.append(f"    sha256     {file.sha256.removeprefix('sha256:')}")
        lines.append(f"    blocks     {len(file.blocks)} by {_clean(file.layout)}")
        if file.gguf is not None:
            gguf = file.gguf
            template = "chat template" if gguf.has_chat_template else "no chat template"
            context = f", context {gguf.context_length:,}" if gguf.context_length else ""
            lines.append(
                f"    gguf       {_clean(gguf.architecture)}, {gguf.parameter_count:,} parameters,"
                f" {_clean(gguf.quantisation)}{context}, {template}"
            )
        if link := shown.magnet(file):
            lines.append(f"    magnet     {link}")
        lines += [f"    mirror     {mirror}" for mirror in file.mirrors]
    return "\n".join(lines)


def _clean(text: str) -> str:
    """A publisher's words in one line."""
    return " ".join(clean(text).split())
