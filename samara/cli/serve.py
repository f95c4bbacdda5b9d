"""`samara serve`: the registry as an HTTP service, until told to stop."""

from __future__ import annotations

import sys
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import click

from samara.cli.amounts import Amount
from samara.cli.common import command as common_command
from samara.cli.common import screen
from samara.cli.serve_bounds import (
    FETCHING,
    bounds,
    connections_of,
    contact_of,
    fetch_limits_of,
    option,
    per_address_of,
    quotas_of,
    rates_of,
    title_of,
    tracker_rules_of,
)
from samara.cli.signals import stop_on_signals
from samara.cli.text import json_line
from samara.registry.home import Home
from samara.registry.registries import configured
from samara.schemas.endpoints import format_endpoint, parse_endpoint
from samara.schemas.errors import ExitCode, UsageError
from samara.schemas.events import Event, Listening, Serving
from samara.schemas.namespace_claim import check_origin
from samara.schemas.networks import Network, NetworkPolicy, parse_networks
from samara.schemas.references import is_identity, is_name
from samara.schemas.sizes import parse_size

if TYPE_CHECKING:
    from samara.cli.serving import ServePlan
    from samara.fetcher.providing import ProvideOptions
    from samara.registry.publications.following import FollowPlan

DEFAULT_LISTEN = "127.0.0.1:8642"
GIVE_UP_AFTER = 60.0  # seconds without a byte until a fetch waits for another time
PACKAGES = frozenset({"fastapi", "starlette", "uvicorn", "httptools", "jinja2", "prometheus_client", "segno"})


@common_command(
    "serve",
    examples=(
        "samara serve\n"
        "samara serve --listen 0.0.0.0:8642 --public --origin http://nas.lan:8642\n"
        "samara serve --origin https://models.example.org --behind 127.0.0.1/32 \\\n"
        "    --mirror --quota 500G\n"
        "samara serve --follow https://models.example.org --mirror --quota 2T"
    ),
    exits=(ExitCode.NETWORK, ExitCode.STORE, ExitCode.DISK_FULL),
)
@option("--listen", metavar="HOST:PORT", default=DEFAULT_LISTEN, show_default=True, help="Where to answer.")
@option("--public", is_flag=True, help="Allow --listen on an address that other machines reach.")
@option("--origin", metavar="URL", help="How clients address this registry; names are claimed for it alone.")
@option("--contact", metavar="TEXT|URL", help="Whom to tell what should not be here; on every page.")
@option("--title", metavar="TEXT", default="Samara registry", help="Its name, for people.")
@option(
    "--claims", type=click.Choice(["open", "listed"]), default="open", show_default=True,
    help="Who gets a name: whoever claims it first, or only --namespace.",
)  # fmt: skip
@option(
    "--namespace", "namespaces", multiple=True, metavar="NAME=IDENTITY", help="Whose a name is; repeatable."
)  # fmt: skip
@option("--read-only", is_flag=True, help="Take no publications.")
@option(
    "--follow", multiple=True, metavar="URL",
    help="List here what publishers proved at this registry, and ask it for bytes and peers; repeatable.",
)  # fmt: skip
@option(
    "--follow-every", type=Amount(min=0.1, max=10080), metavar="MINUTES",
    help="How often to look what is new there.  [default: 15]",
)  # fmt: skip
@option("--follow-names", is_flag=True, help="Take over names that publishers claimed there with a signature.")
@option(
    "--follow-only", multiple=True, metavar="IDENTITY", help="Of those registries, this publisher alone; repeatable."
)  # fmt: skip
@option("--private-mirrors", is_flag=True, help="Mirrors in manifests may lie in private networks.")
@option("--mirror", is_flag=True, help="Pull every listed blob from its swarm, keep, serve and seed it.")
@option("--pull-through", is_flag=True, help="Pull a blob that isn't here when it is asked for.")
@option("--quota", metavar="SIZE", help="What --mirror and --pull-through may keep, e.g. 500G.")
@option("--serve-all", is_flag=True, help="Give every listed file whose bytes are here, also those you merely pulled.")
@option(
    "--swarm-listen", multiple=True, metavar="HOST:PORT", help="Accept peers of the swarms here; repeatable."
)  # fmt: skip
@option("--no-discovery", is_flag=True, help="No DHT, LAN or UPnP: only registries' trackers, and mirrors.")
@option(
    "--dht-node", "dht_nodes", multiple=True, metavar="HOST:PORT", help="Join the DHT of this node; repeatable."
)  # fmt: skip
@option("--up", metavar="RATE", help="Cap what is given to swarms, e.g. 2M (bytes per second).")
@option("--down", metavar="RATE", help="Cap what is fetched, e.g. 2M (bytes per second).")
@option("--accel", metavar="PATH", help="Let the web server in front send files: its location for SAMARA_HOME/blobs.")
@option(
    "--behind", multiple=True, metavar="NETWORK",
    help="Web servers in front, whose X-Forwarded-For is believed; repeatable.",
)  # fmt: skip
@option("--metrics-for", multiple=True, metavar="NETWORK", help="Who may read /metrics beside this machine.")
@option(
    "--announce-interval", type=click.IntRange(1, 1440), default=30, show_default=True, metavar="MINUTES",
    help="How often peers are told to announce.",
)  # fmt: skip
@bounds
@option(
    "--log", type=click.Choice(["text", "json", "off"]), default="text", show_default=True,
    help="One line on stderr for each request.",
)  # fmt: skip
def command(**told: Any) -> None:
    """Serve what is published here and what publishers push: catalogue, API, tracker, the Hub's clients.

    With a publisher's own SAMARA_HOME, what it publishes is listed by itself and its bytes are served from where they
    lie. Runs until Ctrl-C or SIGTERM; answers under way are finished first. Speaks plain HTTP: for the internet, put a
    web server with TLS in front (--behind).
    """
    home = Home.find()
    try:
        plan = plan_of(configured(home), **told)
        from samara.cli.serving import serve_until
        from samara.registry.service import app as _app  # noqa: F401  (all that is needed is there)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in PACKAGES:
            raise
        raise UsageError(
            f"samara serve needs packages that aren't installed ({error.name})",
            next_step='pip install "samara[serve]"',
        ) from None
    with stop_on_signals() as stop:
        url = serve_until(stop, home, plan, on_event=_hear)
    screen.result({"served": url}, "")


def _hear(event: Event) -> None:
    if screen.json and isinstance(event, (Serving, Listening)):
        sys.stderr.write(json_line(event.as_dict()) + "\n")
        sys.stderr.flush()
    else:
        screen.hear(event)


def plan_of(asked: tuple[str, ...], /, **told: Any) -> ServePlan:
    """The options as values. `asked`: registries that this machine asks anyway. Raises UsageError."""
    from samara.cli.serving import ServePlan
    from samara.registry.service.logs import LogFormat
    from samara.registry.service.settings import Claims, Settings
    from samara.registry.service.wire_limits import WireLimits

    listen = parse_endpoint(told["listen"])
    _check_public(listen[0], public=told["public"])
    origin = origin_of(told["origin"], listen)
    behind = _networks(told["behind"])
    connections = connections_of(told["connections"])
    return ServePlan(
        listen=listen,
        settings=Settings(
            origin=origin,
            title=title_of(told["title"]),
            claims=Claims(told["claims"]),
            namespaces=dict(_namespace(text) for text in told["namespaces"]),
            policy=NetworkPolicy(private=told["private_mirrors"]),
            proxies=behind,
            watchers=_networks(told["metrics_for"]),
            quotas=quotas_of(told),
            rates=rates_of(told),
            accel=_accel(told["accel"], behind=behind),
            accepts_publishes=not told["read_only"],
            contact=contact_of(told["contact"]),
            serves_all=told["serve_all"],
        ),
        limits=WireLimits(trusted=behind, connections=connections, per_address=per_address_of(told, connections)),
        log=LogFormat(told["log"]),
        rules=tracker_rules_of(told),
        provide=_provide(told, origin, asked),
        follow=_follow(told, origin),
    )


def _follow(told: dict[str, Any], origin: str) -> FollowPlan | None:
    """Whom to follow, and how."""
    origins = _followed(told)
    if not origins:
        for name in ("follow_every", "follow_names", "follow_only"):
            if told[name]:
                raise UsageError(
                    f"--{name.replace('_', '-')} is about registries that are followed, and none is",
                    next_step="add --follow URL",
                )
        return None
    from samara.registry.publications.following import EVERY, FollowPlan
    from samara.registry.publications.sync import SyncRules

    if origin in origins:
        raise UsageError("a registry can't follow itself", actual=origin, next_step="leave it out, or correct --origin")
    for identity in told["follow_only"]:
        if not is_identity(identity):
            raise UsageError("not an identity", expected="52 base32 digits", actual=repr(identity[:80]))
    return FollowPlan(
        origins=origins,
        every=EVERY if told["follow_every"] is None else 60.0 * told["follow_every"],
        how=SyncRules(
            names=told["follow_names"],
            reserved=dict(_namespace(text) for text in told["namespaces"]),
            only=frozenset(told["follow_only"]),
        ),
    )


def _followed(told: dict[str, Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(check_origin, told["follow"])))


def origin_of(told: str | None, listen: tuple[str, int]) -> str:
    """The registry's address for clients: what the operator says, or where it listens."""
    if told:
        return check_origin(told)
    host, port = listen
    if host in {"0.0.0.0", "::", ""} or port == 0:  # noqa: S104  (compared, not bound)
        raise UsageError(
            "clients can't address this registry by where it listens", actual=format_endpoint(listen),
            next_step="say how they do: --origin http://models.example.lan:8642",
        )  # fmt: skip
    return check_origin(f"http://{format_endpoint(listen)}")


def _check_public(host: str, *, public: bool) -> None:
    try:
        is_loopback = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and not public:
        raise UsageError(
            f"{host} can be reached from other machines",
            next_step="if that is meant, add --public; else listen on 127.0.0.1",
        )


def _namespace(text: str) -> tuple[str, str]:
    name, _, identity = text.partition("=")
    if not is_name(name) or not is_identity(identity):
        raise UsageError("not a namespace", expected="NAME=IDENTITY", actual=repr(text[:120]))
    return name, identity


def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(network for text in texts for network in parse_networks(text))


def _accel(path: str | None, *, behind: tuple[Network, ...]) -> str | None:
    if path is None:
        return None
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError("not a location of a web server", expected="/samara-files/", actual=repr(path[:80]))
    if not behind:
        raise UsageError(
            "--accel is for web servers in front, and none is named", next_step="add --behind 127.0.0.1/32"
        )
    return path


def _provide(told: dict[str, Any], origin: str, asked: tuple[str, ...]) -> ProvideOptions | None:
    if not told["mirror"] and not told["pull_through"]:
        _refuse_fetching(told)
        return None
    from samara.cli.network import swarm_options
    from samara.fetcher.options import PullOptions
    from samara.fetcher.providing import ProvideOptions

    swarm = swarm_options(
        listen=told["swarm_listen"],
        no_discovery=told["no_discovery"],
        no_dht=False,
        dht_nodes=told["dht_nodes"],
        no_lan=False,
        no_upnp=False,
        up=told["up"],
        down=told["down"],
        small=False,
    )
    # whom the registry's tracker is asked by learns of the mirror too
    swarm = replace(swarm, trackers=(*swarm.trackers, f"{origin}/announce"))
    others = tuple(one for one in dict.fromkeys((*_followed(told), *asked)) if one != origin)
    return ProvideOptions(
        pull=PullOptions(
            swarm=swarm, registries=others, private_mirrors=told["private_mirrors"], give_up_after=GIVE_UP_AFTER
        ),
        mirror=told["mirror"],
        pull_through=told["pull_through"],
        quota=None if told["quota"] is None else parse_size(told["quota"]),
        origin=origin,
        limits=fetch_limits_of(told),
        serves_all=told["serve_all"],
    )


def _refuse_fetching(told: dict[str, Any]) -> None:
    for name in ("quota", "swarm_listen", "dht_nodes", "up", "down", "no_discovery", *FETCHING):
        if told[name] or (told[name] == 0 and told[name] is not False):
            shown = {"dht_nodes": "dht-node"}.get(name, name).replace("_", "-")
            raise UsageError(f"--{shown} is about what is fetched, and nothing is", next_step="add --mirror")
