"""First contact with a publisher: from an identity, a root file or a source to what can be pinned. Pins nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samara.fetcher.catalogs import DHT_SOURCE, open_source
from samara.registry.trust.identity import ROOT_V1_NAME, identity_of
from samara.registry.trust.roots import RootChain, inspect_root, verify_root_chain
from samara.registry.trust.sources import read_whole
from samara.schemas.errors import MalformedError, NotFoundError, TrustError, UsageError, cannot_read
from samara.schemas.release_file import MAX_ROOT_BYTES, MAX_ROOTS


@dataclass(frozen=True, kw_only=True, slots=True)
class Introduction:
    """What is to be pinned. `root`: (version, digest) of a newer root to begin with; `chain`: roots seen on the way."""

    identity: str
    root: tuple[int, str] | None = None
    chain: RootChain | None = None
    sources: tuple[str, ...] = ()


def introduce(*, identity: str | None, root: Path | None, sources: tuple[str, ...]) -> Introduction:
    """Who somebody is, by whatever was given of them; all that was given must agree.

    Raises UsageError, TrustError (another publisher than was named), NotFoundError, NetworkError or MalformedError.
    """
    told: tuple[int, str] | None = None
    chain: RootChain | None = None
    if root is not None:
        data = _read(root)
        view = inspect_root(data)
        if view.version == 1:
            found = identity_of(data)
            _require_same(identity, found, str(root))
            identity, chain = found, verify_root_chain(found, [data])
        elif identity is None:  # whoever has it can append it to roots of his own: it names nobody
            raise UsageError(
                f"{root} is root version {view.version}, which doesn't say whose it is", expected="version 1",
                next_step="give the publisher's identity too: --identity KEY",
            )  # fmt: skip
        else:
            told = (view.version, view.signed_sha256.hex())
    for text in sources:
        if text.startswith(DHT_SOURCE):
            continue
        first = read_whole(open_source(text), ROOT_V1_NAME, MAX_ROOT_BYTES)
        if first is None:
            raise NotFoundError(f"{text} has no {ROOT_V1_NAME}", next_step="check the address")
        found = identity_of(first)
        _require_same(identity, found, text)
        identity = found
        theirs = verify_root_chain(found, _roots(text, first))
        chain = theirs if chain is None or theirs.version > chain.version else chain
    if identity is None:
        raise UsageError(
            "who is it?", expected="--identity KEY, --root FILE or --from URL",
            next_step="ask the publisher for its identity",
        )  # fmt: skip
    if told is not None and chain is not None:
        _require_told(chain, told)
    return Introduction(identity=identity, root=told, chain=chain, sources=sources)


def _roots(text: str, first: bytes) -> list[bytes]:
    source = open_source(text)
    roots = [first]
    while len(roots) < MAX_ROOTS:
        data = read_whole(source, f"{len(roots) + 1}.root.json", MAX_ROOT_BYTES)
        if data is None:
            break
        roots.append(data)
    return roots


def _require_same(expected: str | None, found: str, where: str) -> None:
    if expected is not None and expected != found:
        raise TrustError(
            f"{where} belongs to another publisher", expected=expected, actual=found,
            next_step="check the identity with the publisher, over another channel",
        )  # fmt: skip


def _require_told(chain: RootChain, told: tuple[int, str]) -> None:
    version, digest = told
    if chain.version < version or chain.views[version - 1].signed_sha256.hex() != digest:
        raise TrustError(
            "the roots of that source don't lead to the root you gave", expected=f"version {version} sha256:{digest}",
            actual=f"up to version {chain.version}", next_step="don't use this source",
        )  # fmt: skip


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise cannot_read(path, error) from None
    if len(data) > MAX_ROOT_BYTES:
        raise MalformedError(f"{path} is too large for a root", expected=f"≤ {MAX_ROOT_BYTES} bytes")
    return data
