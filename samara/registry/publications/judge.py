"""Is an offered catalog its publisher's next one? By the TUF workflow against what the registry has. Keeps nothing.

The order of catalogs is (root version, timestamp version). One with the order of what is here must be the same byte for
byte; if it is another one that is signed as well, that is equivocation and both sides are evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from samara.registry.publications.refusals import PublicationRefusedError, Reason
from samara.registry.trust.catalog_client import CatalogState
from samara.registry.trust.catalogs import is_signed_by, read_catalog, read_own, signed_digest
from samara.registry.trust.identity import identity_of
from samara.registry.trust.roots import RootChain, verify_root_chain
from samara.registry.trust.sources import BundleSource
from samara.registry.trust.updater import ExpiredCatalogError, RolledBackError
from samara.registry.trust.workflow import run_workflow
from samara.schemas.errors import DiskFullError, MalformedError, SamaraError, StoreError, TrustError
from samara.schemas.metadata_bundle import MetadataBundle

OFFERED = "the publication"


class EquivocatedError(PublicationRefusedError):
    """Two signed documents of one version. `known`, `offered`: the metadata files; `digest`: of what was offered."""

    def __init__(self, what: str, *, version: int, known: bytes, offered: bytes, digest: bytes) -> None:
        super().__init__(
            Reason.EQUIVOCATION, what, expected="what was published as this version before", actual="something else",
            next_step="both are kept as evidence; if you didn't do this, somebody else has your key:"
            " see samara publisher rotate --help",
        )  # fmt: skip
        self.version = version
        self.known = known
        self.offered = offered
        self.digest = digest


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A proven catalog. `is_new`: not what the registry has already."""

    state: CatalogState
    is_new: bool


def order_of(bundle: MetadataBundle) -> tuple[int, int]:
    """Root version and timestamp version, unproven. Raises MalformedError."""
    return len(bundle.roots), signed_digest(bundle.timestamp)[0]


def judge_catalog(before: MetadataBundle | None, offered: MetadataBundle, *, now: datetime) -> Judgement:
    """Prove `offered` against what is here of its publisher.

    Raises PublicationRefusedError (EquivocatedError with evidence), MalformedError, StoreError or DiskFullError.
    """
    identity = identity_of(offered.roots[0])
    try:
        chain = verify_root_chain(identity, offered.roots)
        if before is not None:
            chain = _one_line(verify_root_chain(identity, before.roots), chain)
            same_order = order_of(offered) == order_of(before)
            if same_order or offered.timestamp == before.timestamp:
                _require_same(before, offered, chain)
            if same_order:
                state = CatalogState(catalog=read_catalog(identity, before), bundle=before, chain=chain)
                return Judgement(state=state, is_new=False)
        state = _run(before, offered, chain, now)
    except (PublicationRefusedError, MalformedError, StoreError, DiskFullError):  # the last two are our own troubles
        raise
    except ExpiredCatalogError as error:
        raise PublicationRefusedError(
            Reason.EXPIRED, error.what, next_step="sign it again: samara publisher refresh"
        ) from None
    except RolledBackError as error:
        raise PublicationRefusedError(
            Reason.STALE, error.what, next_step="somebody published elsewhere: samara publisher sync"
        ) from None
    except TrustError as error:
        raise PublicationRefusedError(
            Reason.UNPROVEN, error.what, expected=error.expected, actual=error.actual
        ) from None
    except SamaraError as error:  # a part that the catalog names and the publication lacks
        raise PublicationRefusedError(Reason.UNPROVEN, str(error)) from None
    return Judgement(state=state, is_new=True)


def _run(before: MetadataBundle | None, offered: MetadataBundle, chain: RootChain, now: datetime) -> CatalogState:
    bundle = run_workflow(
        BundleSource(offered, OFFERED), roots=chain.roots, before=before, now=now, on_roots=lambda _roots: None
    )
    if bundle != offered:
        # the library keeps what it has when a version is not higher
        raise PublicationRefusedError(
            Reason.STALE, "the publication is not newer than what is here", expected=f"after {order_of(bundle)}",
            actual=order_of(offered), next_step="somebody published elsewhere: samara publisher sync",
        )  # fmt: skip
    return CatalogState(
        # which wants each part to name the next by its digest: else one version could have two contents
        catalog=read_own(chain, bundle),
        bundle=bundle,
        chain=chain,
        timestamp_digest=signed_digest(bundle.timestamp)[1],
    )


def _one_line(mine: RootChain, theirs: RootChain) -> RootChain:
    """The longer of two chains, of which one must begin with the other."""
    for view, other, known, offered in zip(mine.views, theirs.views, mine.roots, theirs.roots, strict=False):
        if view.signed_sha256 != other.signed_sha256:
            raise EquivocatedError(
                f"two different roots were signed as version {view.version}", version=view.version, known=known,
                offered=offered, digest=other.signed_sha256,
            )  # fmt: skip
    if theirs.version < mine.version:
        raise PublicationRefusedError(
            Reason.STALE, "the publication has older roots than are known here", actual=f"version {theirs.version}",
            expected=f"version {mine.version} at least", next_step="take them over first: samara publisher sync",
        )  # fmt: skip
    return theirs


def _require_same(before: MetadataBundle, offered: MetadataBundle, chain: RootChain) -> None:
    """Of one version there is one content."""
    for role in ("timestamp", "snapshot", "targets"):
        known, other = getattr(before, role), getattr(offered, role)
        if known == other:
            continue
        version, digest = signed_digest(other)
        if not is_signed_by(chain.roots[-1], role, other):
            raise PublicationRefusedError(
                Reason.UNPROVEN, f"the {role} metadata is not signed by enough of its publisher's keys"
            )
        if (version, digest) == signed_digest(known):
            raise PublicationRefusedError(
                Reason.STALE, f"the {role} metadata has the same contents as what is here, in other bytes",
                next_step="publish the next version",
            )  # fmt: skip
        raise EquivocatedError(
            f"two different catalogs were signed as version {order_of(before)[1]} ({role} metadata)",
            version=order_of(before)[1], known=known, offered=other, digest=bytes.fromhex(digest),
        )  # fmt: skip
