"""Plain BitTorrent clients from Debian, each a process of its own with a profile of its own: on loopback, without DHT,
LAN, exchange of peers or port mapping, so that they know of nobody but whom a tracker names. No test in here.
"""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HOST = "127.0.0.1"
_END_WITHIN = 20.0  # seconds

Client = Callable[[Path, Path, Path, int], "contextlib.AbstractContextManager[None]"]


@contextlib.contextmanager
def aria2(torrent: Path, target: Path, profile: Path, port: int) -> Iterator[None]:
    """Give and take what `torrent` names in `target`, listening on `port`."""
    command = [
        "aria2c", "--no-conf", f"--dir={target}", f"--listen-port={port}", "--check-integrity=true", "--seed-ratio=0",
        "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false", "--enable-peer-exchange=false",
        "--disable-ipv6=true", "--file-allocation=none", "--summary-interval=0", "--console-log-level=warn",
        f"--interface={HOST}", str(torrent),
    ]  # fmt: skip
    with _running(command, profile):
        yield


@contextlib.contextmanager
def rtorrent(torrent: Path, target: Path, profile: Path, port: int) -> Iterator[None]:
    """The same. It wants a terminal."""
    session = profile / "session"
    session.mkdir(parents=True)
    settings = [
        f"directory.default.set={target}", f"session.path.set={session}", f"network.port_range.set={port}-{port}",
        f"network.bind_address.set={HOST}", "network.port_random.set=no", "dht.mode.set=disable",
        "protocol.pex.set=no", "trackers.use_udp.set=no", "pieces.hash.on_completion.set=no",
        "system.umask.set=0022", "network.http.dns_cache_timeout.set=0",
    ]  # fmt: skip
    command = ["rtorrent", "-n", *(part for each in settings for part in ("-o", each)), str(torrent)]
    with _running(command, profile, terminal=True):
        yield


@contextlib.contextmanager
def qbittorrent(torrent: Path, target: Path, profile: Path, port: int) -> Iterator[None]:
    """The same. Its own web page is on a port that the system chooses, on loopback."""
    config = profile / "qBittorrent" / "config" / "qBittorrent.conf"
    config.parent.mkdir(parents=True)
    config.write_text(
        "[LegalNotice]\nAccepted=true\n"
        "[BitTorrent]\n"
        "Session\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n"
        f"Session\\InterfaceAddress={HOST}\nSession\\Port={port}\nSession\\UseRandomPort=false\n"
        f"Session\\DefaultSavePath={target}\nSession\\Preallocation=false\n"
        "[Network]\nPortForwardingEnabled=false\n"
        "[Preferences]\n"
        "Connection\\ResolvePeerCountries=false\nConnection\\UPnP=false\nWebUI\\UseUPnP=false\n"
        f"WebUI\\Address={HOST}\nWebUI\\Port=0\n"
        "[RSS]\nSession\\EnableProcessing=false\n",
        encoding="utf-8",
    )
    command = ["qbittorrent-nox", f"--profile={profile}", f"--save-path={target}", "--skip-dialog=true", str(torrent)]
    with _running(command, profile):
        yield


@contextlib.contextmanager
def _running(command: Sequence[str], profile: Path, *, terminal: bool = False) -> Iterator[None]:
    """A process with a home of its own; ended politely, then not."""
    profile.mkdir(parents=True, exist_ok=True)
    log = profile / "output"
    environment = {**os.environ, "HOME": str(profile), "XDG_CONFIG_HOME": str(profile), "TERM": "xterm"}
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb"))
        read_end, write_end = pty.openpty() if terminal else (None, None)
        process = subprocess.Popen(
            command, stdin=write_end or subprocess.DEVNULL, stdout=write_end or output, stderr=subprocess.STDOUT,
            env=environment, cwd=profile, start_new_session=True,
        )  # fmt: skip
        if read_end is not None and write_end is not None:
            os.close(write_end)
            reader = threading.Thread(target=_drain, args=(read_end, output.fileno()))
            reader.start()
            stack.callback(reader.join)
        try:
            yield
            assert process.poll() is None, f"it ended by itself: {log.read_bytes()[-2000:].decode(errors='replace')}"
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _drain(terminal: int, into: int) -> None:
    """Until the other end is closed: a full terminal would hold the process up."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1 << 14):
            os.write(into, data)
    os.close(terminal)
