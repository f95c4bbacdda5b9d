"""A real PgBouncer in front of a server of `support.postgres`, in a temporary folder. Debian's package; runs as whom
PostgreSQL runs as, since it refuses root too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from support.postgres import PASSWORD, Postgres, run_as

_LIMIT = 60.0  # seconds that it may take to start or stop


class PgBouncer:
    """Running. `port`: where it answers, on loopback."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port = port
        self._process = process

    def url(self, database: str) -> str:
        """What SAMARA_DATABASE is set to."""
        return f"postgresql+psycopg://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """At once; connections break."""
        self._process.terminate()
        self._process.wait(_LIMIT)


@contextlib.contextmanager
def pgbouncer(server: Postgres, *, mode: str = "transaction", size: int = 5, ignored: str = "") -> Iterator[PgBouncer]:
    """`mode`: of its pools; `size`: connections to the server; `ignored`: startup parameters that it swallows, as
    people set it up for other programs (`options`).
    """
    place = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    assert place is not None, "pgbouncer is not installed: sudo apt-get install -y pgbouncer"
    with tempfile.TemporaryDirectory(prefix="samara-pgb-") as name:
        folder = Path(name)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        (folder / "users").write_text(f'"postgres" "{PASSWORD}"\n', encoding="utf-8")
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "plain",
            "auth_file": folder / "users", "pool_mode": mode, "default_pool_size": size,
            "ignore_startup_parameters": ignored, "query_wait_timeout": 30,
        }  # fmt: skip
        lines = ["[databases]", f"* = host=127.0.0.1 port={server.port}", "[pgbouncer]"]
        lines += [f"{key} = {value}" for key, value in settings.items()]
        (folder / "pgbouncer.ini").write_text("\n".join([*lines, ""]), encoding="utf-8")
        user, wrap = run_as()
        if user is not None:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, user)
        process = subprocess.Popen(
            [*wrap, place, folder / "pgbouncer.ini"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        try:
            seen = []
            for line in process.stderr:
                seen.append(line)
                if "process up" in line:
                    break
            else:
                raise AssertionError("pgbouncer didn't start: " + "".join(seen[-10:]))
            reader = threading.Thread(target=_drain, args=(process,), daemon=True)
            reader.start()
            try:
                yield PgBouncer(port, process)
            finally:
                process.terminate()
                reader.join(_LIMIT)
        finally:
            process.kill()
            process.wait(_LIMIT)


def _drain(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    with process.stderr as log:
        for _ in log:
            pass
