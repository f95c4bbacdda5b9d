"""A lab of network namespaces: machines, a switch between them, and every kind of bad link. Linux, root, ip, tc, nft.

    with Lab("fetcher", "seeder") as lab:
        lab.rate("fetcher", mbit=20)
        lab.weather("fetcher", Weather(lost=3.0, seed=7))
        started(home, "pull", …, wrap=lab["fetcher"].wrap)

Each machine is a namespace with one interface, `eth0`, on a bridge in a namespace of its own. There is no route to
anywhere else: nothing that runs in a lab can reach this machine's own network, and nothing can reach in. Addresses are
of 198.18.0.0/15, which is set aside for such tests (RFC 2544) and routed nowhere.

Losses and resets come at places drawn from a seed: of every `PERIOD` packets that reach a machine the same ones are hit
in each run. Which packet of which connection that is still depends on timing.

Names carry the process's id: what a killed test leaves behind is removed by `sweep`, which each new lab begins with.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PACKAGES = "iproute2 nftables"
NO_LAB = f"no network namespaces: needs Linux and root, and: sudo apt-get install -y {PACKAGES}"
PROGRAMS = ("ip", "tc", "nft")
PERIOD = 1000  # packets after which losses and resets repeat
LIMIT = 30.0  # seconds for one command

_PREFIX = "samara-lab"
_NAME = re.compile(_PREFIX + r"-(\d+)-\d+-[a-z0-9]+\Z")
_RUN = Path("/run/netns")
_ETC = Path("/etc/netns")
_NETWORK = "198.18.0."
_CLONE_NEWNET = 0x40000000
_ESTABLISHED = "01"  # in /proc/net/tcp
_KERNEL_MUST = """table inet probe { chain probe { type filter hook input priority 0
meta l4proto tcp numgen inc mod 9 vmap { 1 : drop }
meta l4proto tcp quota over 9 bytes tcp flags set rst
}
}
"""
_QUEUE = "50ms"  # the longest that a packet may wait behind a cap before it is dropped
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What happens to packets that arrive at a machine.

    `lost`: percent that are dropped. `resets`: of each 1000 so many cut their connection, at both ends, as a router
    does that has forgotten it. `silent`: nothing comes in and nothing goes out, and nobody is told.
    `silent_after`: (address, bytes) of one other machine: after so many bytes nothing of what it sends comes, on
    connections that stay open. `forgotten`: local TCP ports whose connections are dead, both ways, as after a router
    has forgotten them.
    """

    lost: float = 0.0
    resets: int = 0
    silent: bool = False
    silent_after: tuple[str, int] | None = None
    forgotten: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.lost <= 100 or not 0 <= self.resets <= PERIOD:
            raise ValueError(f"no such weather: {self}")


def places_of(weather: Weather) -> dict[int, str]:
    """Which of each `PERIOD` packets are hit, and what with: to "lose" it or to "cut" its connection. Pure."""
    generator = random.Random(weather.seed)
    lost = round(weather.lost * PERIOD / 100)
    chosen = generator.sample(range(PERIOD), min(PERIOD, lost + weather.resets))
    return {place: "lose" if number < lost else "cut" for number, place in enumerate(chosen)}


def ruleset(weather: Weather) -> str:
    """The nftables rules that make a weather, replacing any before them. Pure."""
    lines = [
        # "add" first: deleting what isn't there would be an error
        "add table inet weather", "delete table inet weather", "table inet weather {",
        "  counter lost { }", "  counter resets { }", "  counter silenced { }",
        '  chain lose { counter name "lost" drop; }',
        # the segment becomes the reset: its receiver is told by it, its sender by the answer to the next one
        '  chain cut { tcp flags & rst != rst tcp flags set rst counter name "resets" accept; }',
        '  chain silence { counter name "silenced" drop; }',
        "  chain arriving {", "    type filter hook input priority 0; policy accept;",
        '    iifname "lo" accept',
    ]  # fmt: skip
    if weather.silent:
        lines.append("    goto silence")
    if weather.silent_after is not None:
        address, size = weather.silent_after
        lines.append(f"    ip saddr {address} quota over {size} bytes goto silence")
    ports = ", ".join(map(str, weather.forgotten))
    if ports:
        lines.append(f"    tcp dport {{ {ports} }} goto silence")
    places = places_of(weather)
    if places:
        hits = ", ".join(f"{place} : goto {what}" for place, what in sorted(places.items()))
        lines.append(f"    meta l4proto tcp numgen inc mod {PERIOD} vmap {{ {hits} }}")
    lines.append("  }")
    if weather.silent or ports:
        # on leaving the machine, not at its output: there the sender would be told
        lines += [
            "  chain leaving {", "    type filter hook postrouting priority 0; policy accept;",
            '    oifname "lo" accept',
            "    goto silence" if weather.silent else f"    tcp sport {{ {ports} }} goto silence", "  }",
        ]  # fmt: skip
    return "\n".join([*lines, "}", ""])


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One machine of a lab: its namespace, and the address it began with."""

    role: str
    namespace: str
    port: str
    address: str

    @property
    def wrap(self) -> tuple[str, ...]:
        """What to put before a command so that it runs there; its process id stays its own."""
        return ("ip", "netns", "exec", self.namespace)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread open its sockets there. Sockets and threads made inside stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(_RUN / self.namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _enter(home)
        finally:
            os.close(home)


class Lab:
    """Machines on one switch, named by their roles. Use as a context manager."""

    def __init__(self, *roles: str) -> None:
        number = next(_numbers)
        self._switch = f"{_PREFIX}-{os.getpid()}-{number}-switch"
        self._machines = {
            role: Machine(
                role=role,
                namespace=f"{_PREFIX}-{os.getpid()}-{number}-{role}",
                port=f"port{at}",
                address=f"{_NETWORK}{at + 1}",
            )
            for at, role in enumerate(roles)
        }
        self._address = {role: machine.address for role, machine in self._machines.items()}

    def __getitem__(self, role: str) -> Machine:
        return self._machines[role]

    def __enter__(self) -> Lab:
        sweep()
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self.close()

    def close(self) -> None:
        """Remove every namespace, with what runs in it."""
        for namespace in [*(machine.namespace for machine in self._machines.values()), self._switch]:
            remove(namespace)

    def address(self, role: str) -> str:
        """The address a machine has now."""
        return self._address[role]

    # -- what can be wrong with a link ---------------------------------------------------------------------------

    def rate(self, role: str, *, mbit: float) -> None:
        """Cap what a machine sends and what it is sent, each at `mbit` million bits per second."""
        machine = self._machines[role]
        bits = round(mbit * 1e6)
        # what may pass at once: a timer tick's worth, or fast links never reach their rate; never less than one
        # segment as the kernel hands it on, or nothing passes at all
        burst = max(16 * 1024, bits // 8 // 100)
        shape = ("root", "tbf", "rate", f"{bits}bit", "burst", str(burst), "latency", _QUEUE)
        _run("tc", "-n", machine.namespace, "qdisc", "replace", "dev", "eth0", *shape)
        _run("tc", "-n", self._switch, "qdisc", "replace", "dev", machine.port, *shape)

    def weather(self, role: str, weather: Weather) -> None:
        """Let it rain on a machine, or clear up. Counters begin anew."""
        machine = self._machines[role]
        if places_of(weather):
            # where there is no wire the kernel sends packets of 64 KiB; of a wire's segments each is lost by itself
            for other in self._machines.values():
                _ip("-n", other.namespace, "link", "set", "eth0", "gso_max_segs", "1")
        _run("ip", "netns", "exec", machine.namespace, "nft", "-f", "-", given=ruleset(weather))

    def hits(self, role: str, what: str) -> int:
        """How many packets were "lost", answered by "resets" or "silenced" at a machine since its weather began."""
        told = _run("ip", "netns", "exec", self._machines[role].namespace, "nft", "list", "counter", "inet", "weather",
                    what)  # fmt: skip
        found = re.search(r"packets (\d+)", told)
        assert found is not None, told
        return int(found[1])

    def down(self, role: str) -> None:
        """Pull a machine's plug at the switch."""
        _ip("-n", self._switch, "link", "set", self._machines[role].port, "down")

    def up(self, role: str) -> None:
        """Put it back."""
        _ip("-n", self._switch, "link", "set", self._machines[role].port, "up")

    def move(self, role: str, last: int) -> str:
        """Give a machine another address, the network's `last`, instead of the one it has. Returns it."""
        machine = self._machines[role]
        old, new = self._address[role], f"{_NETWORK}{last}"
        _ip("-n", machine.namespace, "address", "del", f"{old}/24", "dev", "eth0")
        _ip("-n", machine.namespace, "address", "add", f"{new}/24", "dev", "eth0")
        self._address[role] = new
        return new

    def connected_ports(self, role: str) -> tuple[int, ...]:
        """The local ports of a machine's established TCP connections (IPv4)."""
        told = _run(*self._machines[role].wrap, "cat", "/proc/net/tcp")
        rows = [line.split() for line in told.splitlines()[1:]]
        return tuple(sorted(int(row[1].partition(":")[2], 16) for row in rows if row[3] == _ESTABLISHED))

    def names_from(self, role: str, server: str, *, timeout: int = 1, attempts: int = 1) -> None:
        """Let a machine ask the name server at address `server`, so often and so long (seconds) each time.

        Only for processes that are started later, by `wrap`.
        """
        folder = _ETC / self._machines[role].namespace
        folder.mkdir(parents=True, exist_ok=True)
        how = f"nameserver {server}\noptions timeout:{timeout} attempts:{attempts}\n"
        (folder / "resolv.conf").write_text(how)

    def _build(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "switch0", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "switch0", "up")
        for machine in self._machines.values():
            _ip("netns", "add", machine.namespace)
            _ip("-n", self._switch, "link", "add", machine.port, "type", "veth", "peer", "name", "eth0", "netns",
                machine.namespace)  # fmt: skip
            _ip("-n", self._switch, "link", "set", machine.port, "master", "switch0", "up")
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
            _ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
            _ip("-n", machine.namespace, "link", "set", "eth0", "up")


@functools.cache
def there_is_no_lab() -> bool:
    """Whether this machine, or this user, can't make one. What to do about it is in NO_LAB."""
    if sys.platform != "linux" or os.geteuid() != 0 or any(shutil.which(name) is None for name in PROGRAMS):
        return True
    try:
        with Lab("probe") as lab:
            lab.rate("probe", mbit=1)
            # not the lab's own rules: a mistake in those must fail tests, not skip them
            _run(*lab["probe"].wrap, "nft", "-f", "-", given=_KERNEL_MUST)
    except (OSError, subprocess.SubprocessError):
        return True
    return False


def namespaces() -> list[str]:
    """The namespaces of all labs on this machine."""
    return sorted(path.name for path in _RUN.iterdir() if _NAME.match(path.name)) if _RUN.is_dir() else []


def sweep() -> list[str]:
    """Remove the namespaces of labs whose process has ended, and what still runs in them. Returns their names."""
    gone = [name for name in namespaces() if not _lives(int(name.split("-")[2]))]
    for name in gone:
        remove(name)
    return gone


def remove(namespace: str) -> None:
    """Remove one namespace of a lab, with the processes in it. It may be gone already."""
    assert _NAME.match(namespace), namespace
    shutil.rmtree(_ETC / namespace, ignore_errors=True)
    if not (_RUN / namespace).exists():
        return
    for pid in _run("ip", "netns", "pids", namespace, check=False).split():
        if int(pid) != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    _run("ip", "netns", "delete", namespace, check=False)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _enter(descriptor: int) -> None:
    if _libc().setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str, given: str = "", check: bool = True) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=LIMIT, check=False)
    if check and done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
