"""The examples for operators: every setting in them exists, and the programs they are for take them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from samara.cli.main import COMMANDS
from samara.cli.serve import command as serve

DEPLOY = Path(__file__).parents[3] / "deploy"
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin"


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


@pytest.mark.parametrize("name", ["samara.service", "Dockerfile", "compose.yaml"])
def test_every_setting_is_an_option(name: str) -> None:
    known = {option.envvar for option in serve.params if getattr(option, "envvar", None)}
    used = set(re.findall(r"SAMARA_SERVE_[A-Z_]+", (DEPLOY / name).read_text()))
    assert used and used <= known


def test_the_services_fit_together() -> None:
    services = compose()["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
    assert services["migration"]["command"][0] in COMMANDS
    front = (DEPLOY / "nginx.conf").read_text()
    assert f"location {services['registry']['environment']['SAMARA_SERVE_ACCEL']} {{" in front
    assert "http://registry:8642" in front


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    program = shutil.which("nginx", path=SEARCHED)
    assert program is not None, "this test needs nginx (Debian: nginx-light)"
    text = (DEPLOY / "nginx.conf").read_text().replace("http://registry:", "http://127.0.0.1:")
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\nhttp {{ access_log off;\n"
        f" client_body_temp_path {tmp_path}/b; proxy_temp_path {tmp_path}/p; fastcgi_temp_path {tmp_path}/f;\n"
        f" uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;\n"
        + text.replace("listen 80", "listen 127.0.0.1:18999") + "}\n"
    )  # fmt: skip
    done = subprocess.run(
        [program, "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "samara.service"
    unit.write_text((DEPLOY / "samara.service").read_text().replace("/opt/samara/bin/samara", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "samara.service" in line]
    assert complaints == [], done.stderr


def test_the_unit_leaves_the_boots_number_readable() -> None:
    """By it a store is told from its clone on another machine (`samara.registry.store_id`); ProcSubset=pid hides it."""
    lines = (DEPLOY / "samara.service").read_text().splitlines()
    assert [line for line in lines if line.startswith("ProcSubset=") and line != "ProcSubset=all"] == []
