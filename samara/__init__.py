"""Samara: AI models, whole and provably the right ones, onto any machine, from anywhere, over any link.

Rooms, from the ground up; each imports only rooms below it:
  schemas   the nouns and wire formats, pure
  registry  what exists and who vouches for it: index, store, trust
  seeder    giving: hash, torrent, publish, swarm session
  fetcher   getting: resolve, plan, pull, verify, audit
  runner    using: the inference engine in a child process
  cli       the `samara` command
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:  # the same names for type checkers; a test holds them equal to the table
    from samara.fetcher.audit import findings as audit_findings
    from samara.fetcher.audit import outcome as audit_outcome
    from samara.fetcher.audit_facts import collect as collect_facts
    from samara.fetcher.bundle_export import export_bundle
    from samara.fetcher.bundle_import import import_bundle
    from samara.fetcher.local import locate
    from samara.fetcher.options import PullOptions
    from samara.fetcher.pull import Pulled, pull
    from samara.fetcher.verify import verify
    from samara.registry.home import Home
    from samara.registry.trust.making import init_publisher
    from samara.registry.trust.pins import TrustFolder
    from samara.registry.trust.publishers import load_publisher
    from samara.runner.engine import Engine
    from samara.runner.options import EngineOptions
    from samara.schemas.errors import (
        DiskFullError,
        EngineError,
        IntegrityError,
        MalformedError,
        NetworkError,
        NotFoundError,
        SamaraError,
        StoreError,
        TrustError,
        UsageError,
    )
    from samara.schemas.references import parse_reference
    from samara.seeder.publish import Published, publish
    from samara.seeder.release_words import Description
    from samara.seeder.seed import seed
    from samara.seeder.swarm_options import SwarmOptions

# The public SDK: name → module, or module:name. Imported when first used, so that `import samara` costs nothing.
_PUBLIC = {
    "Description": "samara.seeder.release_words",
    "DiskFullError": "samara.schemas.errors",
    "Engine": "samara.runner.engine",
    "EngineError": "samara.schemas.errors",
    "EngineOptions": "samara.runner.options",
    "Home": "samara.registry.home",
    "IntegrityError": "samara.schemas.errors",
    "MalformedError": "samara.schemas.errors",
    "NetworkError": "samara.schemas.errors",
    "NotFoundError": "samara.schemas.errors",
    "PullOptions": "samara.fetcher.options",
    "Published": "samara.seeder.publish",
    "Pulled": "samara.fetcher.pull",
    "SamaraError": "samara.schemas.errors",
    "StoreError": "samara.schemas.errors",
    "SwarmOptions": "samara.seeder.swarm_options",
    "TrustError": "samara.schemas.errors",
    "TrustFolder": "samara.registry.trust.pins",
    "UsageError": "samara.schemas.errors",
    "audit_findings": "samara.fetcher.audit:findings",
    "audit_outcome": "samara.fetcher.audit:outcome",
    "collect_facts": "samara.fetcher.audit_facts:collect",
    "export_bundle": "samara.fetcher.bundle_export",
    "import_bundle": "samara.fetcher.bundle_import",
    "init_publisher": "samara.registry.trust.making",
    "load_publisher": "samara.registry.trust.publishers",
    "locate": "samara.fetcher.local",
    "parse_reference": "samara.schemas.references",
    "publish": "samara.seeder.publish",
    "pull": "samara.fetcher.pull",
    "seed": "samara.seeder.seed",
    "verify": "samara.fetcher.verify",
}

__all__ = ["__version__", *_PUBLIC]


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(import_module(module), attribute or name)
    raise AttributeError(f"module 'samara' has no attribute {name!r}")
