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

if TYPE_CHECKING:
    from samara.fetcher.audit import findings
    from samara.fetcher.audit_facts import collect
    from samara.fetcher.local import locate
    from samara.fetcher.pull import PullOptions, pull
    from samara.fetcher.verify import verify
    from samara.registry.home import Home
    from samara.registry.trust.publishers import init_publisher, load_publisher
    from samara.schemas.errors import SamaraError
    from samara.schemas.references import parse_reference
    from samara.seeder.publish import Description, publish
    from samara.seeder.seed import seed
    from samara.seeder.swarm import SwarmOptions

# The public SDK: name → module. Imported when first used, so that `import samara` costs nothing.
_PUBLIC = {
    "Description": "samara.seeder.publish",
    "Home": "samara.registry.home",
    "PullOptions": "samara.fetcher.pull",
    "SamaraError": "samara.schemas.errors",
    "SwarmOptions": "samara.seeder.swarm",
    "collect": "samara.fetcher.audit_facts",
    "findings": "samara.fetcher.audit",
    "init_publisher": "samara.registry.trust.publishers",
    "load_publisher": "samara.registry.trust.publishers",
    "locate": "samara.fetcher.local",
    "parse_reference": "samara.schemas.references",
    "publish": "samara.seeder.publish",
    "pull": "samara.fetcher.pull",
    "seed": "samara.seeder.seed",
    "verify": "samara.fetcher.verify",
}

__all__ = [
    "Description",
    "Home",
    "PullOptions",
    "SamaraError",
    "SwarmOptions",
    "__version__",
    "collect",
    "findings",
    "init_publisher",
    "load_publisher",
    "locate",
    "parse_reference",
    "publish",
    "pull",
    "seed",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'samara' has no attribute {name!r}")
