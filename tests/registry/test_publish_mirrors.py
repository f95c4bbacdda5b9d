"""Looking up the hosts of mirrors: a DNS that doesn't answer holds up neither publications nor a process that ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from service_kit import Author, author
from support.world import random_file

from samara.registry.publications import mirrors
from samara.registry.publications.mirrors import check_mirrors
from samara.registry.publications.refusals import PublicationRefusedError
from samara.schemas.manifest import Release
from samara.schemas.networks import NetworkPolicy
from samara.seeder.publish import Description

HOSTS = tuple(f"https://host-{number}.example/x" for number in range(12))
ENDS = """
import sys, threading
from samara.registry.publications import mirrors
from samara.registry.http.urls import parse_url
from samara.schemas.networks import NetworkPolicy

mirrors.SECONDS = 0.1
targets = {(target.host, target.port): target for target in map(parse_url, sys.argv[1:])}
mirrors._resolving.acquire()
print(mirrors._looked_up(targets, NetworkPolicy(), lambda host, port: threading.Event().wait()))
"""


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> Author:
    return author(tmp_path_factory.mktemp("acme"), "acme")


@pytest.fixture(scope="module")
def release(acme: Author) -> Release:
    file = random_file(acme.folder / "x.bin", 70_000, seed=1)
    return acme.publish("x:v1", [file], Description(mirrors=HOSTS))


def test_a_dns_that_never_answers_is_waited_for_once_and_no_process_is_held_by_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS, *HOSTS], capture_output=True, text=True, check=False, timeout=30
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "some mirrors couldn't be resolved in time" in done.stdout


def test_every_host_is_judged_whichever_answers_first(release: Release) -> None:
    """Also the last one, and also where others can't be resolved."""

    def resolve(host: str, _port: int) -> Sequence[str]:
        if host == "host-3.example":
            raise OSError("no such host")
        return ["10.0.0.1"] if host == "host-11.example" else ["1.1.1.1"]

    with pytest.raises(PublicationRefusedError, match=r"host-11\.example must not be followed"):
        check_mirrors([release], NetworkPolicy(), resolve=resolve)
    told = check_mirrors([release], NetworkPolicy(private=True), resolve=resolve)
    assert told == ("mirror host-3.example can't be resolved",)


def test_who_was_given_up_frees_its_place(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    """More often than publications may look names up at once."""
    monkeypatch.setattr(mirrors, "SECONDS", 0.05)
    never = threading.Event()
    for _ in range(6):
        told = check_mirrors([release], NetworkPolicy(), resolve=lambda _host, _port: [str(never.wait(5))])
        assert told == ("some mirrors couldn't be resolved in time",)
    never.set()
