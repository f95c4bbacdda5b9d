"""What is said of a publisher of this machine, by every subcommand that shows one: for programs and for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samara.registry.trust.publishers import Publisher


def publisher_facts(publisher: Publisher) -> dict[str, object]:
    """What `--json` tells of a publisher."""
    from samara.registry.trust.files import time_text
    from samara.registry.trust.identity import identity_uri, root_magnet
    from samara.registry.trust.publishers import key_facts

    return {
        "name": publisher.name,
        "identity": publisher.identity,
        "uri": identity_uri(publisher.identity),
        "magnet": root_magnet(publisher.identity),
        "created": publisher.created,
        "root_version": publisher.chain.version,
        "expires": time_text(publisher.chain.expires),
        "folder": str(publisher.folder),
        "thresholds": {role: keys.threshold for role, keys in publisher.chain.newest.roles.items()},
        "keys": [asdict(fact) for fact in key_facts(publisher)],
        "catalog": _catalog_facts(publisher),
    }


def page(publisher: Publisher) -> str:
    """The same for people."""
    from samara.registry.trust.files import time_text
    from samara.registry.trust.identity import identity_uri
    from samara.registry.trust.publishers import key_facts

    lines = [
        f"publisher  {publisher.name}",
        f"identity   {publisher.identity}",
        f"root       version {publisher.chain.version}, expires {time_text(publisher.chain.expires)}",
        f"folder     {publisher.folder}",
    ]
    catalog = _catalog_facts(publisher)
    if catalog is None:
        lines.append("catalog    none yet: publish something")
    else:
        lines.append(
            f"catalog    version {catalog['timestamp_version']}, {catalog['releases']} names, good until"
            f" {catalog['expires']}"
        )
    thresholds = {role: keys.threshold for role, keys in publisher.chain.newest.roles.items() if keys.threshold > 1}
    lines += [f"threshold  {count} of the {role} keys must sign" for role, count in thresholds.items()]
    for fact in key_facts(publisher):
        state = "not here" if not fact.here else "encrypted" if fact.encrypted else "not encrypted"
        lines.append(f"key        {fact.keyid[:8]}  {fact.file or '—'} ({state}): {', '.join(fact.roles) or 'retired'}")
    lines.append(f"uri        {identity_uri(publisher.identity)}")
    lines.append(f"to trust   samara trust add {publisher.name} --identity {publisher.identity}")
    return "\n".join(lines)


def _catalog_facts(publisher: Publisher) -> dict[str, object] | None:
    from samara.registry.trust.files import time_text
    from samara.registry.trust.own_catalog import own_catalog

    state = own_catalog(publisher)
    if state is None:
        return None
    return {
        "timestamp_version": state.catalog.versions["timestamp"],
        "releases": len(state.catalog.entries),
        "expires": time_text(state.catalog.expires),
    }
