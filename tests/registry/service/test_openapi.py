"""The OpenAPI document against the running service: whatever is sent, by it or against it, no answer is a 500, errors
are problems, and no path leads anywhere it shouldn't.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from serving_kit import World, raw, world

from samara.schemas.publication import MEDIA_TYPE

OWN = ("/v1/", "/healthz", "/readyz", "/metrics", "/announce", "/scrape")
QUIET = settings(
    derandomize=True,  # the same cases every time
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
TRICKS = (
    "..", "../../../../etc/passwd", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%252e%252e%252f", "....//", "\\..\\..\\x",
    "%00", "a%00.gguf", "%0d%0aX-Injected:%20yes", "%ff%fe", "<script>alert(1)</script>", "a" * 3000, "%E2%80%AE", "'",
    "%27--", "{}", "*", "~", ".git", "con", "-1", "0x0", "1e9", "null", "%20", "/", "//", "?", "#",
)  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("openapi")) as found:
        yield found


@schemathesis.serializer(MEDIA_TYPE)
def _as_it_is(_context: Any, value: Any) -> bytes:
    """A body of a kind of our own: bytes, whatever they are."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@pytest.mark.parametrize("examples", [2, pytest.param(40, marks=pytest.mark.long)])
def test_nothing_that_is_sent_breaks_it(served: World, examples: int) -> None:
    """schemathesis makes the requests, fitting and unfitting ones, of every operation; always the same."""
    described = schemathesis.openapi.from_url(f"{served.server.url}/v1/openapi.json")
    names = []
    for found in described.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        names.append(operation.label)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(QUIET, max_examples=examples)
            @given(operation.as_strategy(generation_mode=mode))
            def try_it(case: Any) -> None:
                answer = case.call(timeout=30)
                case.validate_response(
                    answer, checks=[not_a_server_error, status_code_conformance, content_type_conformance]
                )  # fmt: skip

            with contextlib.suppress(Unsatisfiable):  # some operations have nothing that could be unfitting
                try_it()
    assert len(names) >= 12
    assert 'status="500"' not in served.service.metrics.render([]).decode()


def document(served: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(served.ask("/v1/openapi.json").body)
    return found


def test_the_document_tells_every_error_as_a_problem(served: World) -> None:
    for path, methods in document(served)["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if status == "default" or int(status) >= 400:
                    is_hub = not path.startswith(OWN)  # its clients expect what they know
                    kinds = set(answer["content"]) - ({"application/json"} if is_hub else set())
                    assert kinds == {"application/problem+json"}, (path, status)


def test_no_route_follows_a_path_trick(served: World) -> None:
    paths = [*document(served)["paths"], "/{owner}", "/{owner}/{model}", "/static/{name}", "/{a}/{b}/resolve/{c}/{d}"]
    with_parameters = [path for path in paths if "{" in path]
    assert len(with_parameters) >= 10
    for path in with_parameters:
        for trick in TRICKS:
            shown = quote(trick, safe="%/.\\#?*<>'{}~")
            filled = "".join(shown if part.startswith("{") else part for part in re.split(r"(\{[^}]+\})", path))
            with raw(served.server) as client:
                client.send(f"GET {filled} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                got = client.rest()
            head, _, body = got.partition(b"\r\n\r\n")
            status = int(head.split(b" ")[1])
            assert status < 500, (filled, got[:500])
            assert b"x-injected" not in head.lower()
            assert b"root:" not in body and b"Traceback" not in body
            if b"text/html" in head:
                assert b"<script>alert" not in body, filled


@pytest.mark.parametrize("host", ["evil.example", "", "a\tb", "x" * 3000, "[::1", "127.0.0.1:99999"])
def test_no_answer_repeats_the_host_that_a_client_names(served: World, host: str) -> None:
    with raw(served.server) as client:
        client.send(f"GET /v1/publishers/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        got = client.rest()
    assert got.split(b" ")[1] in {b"400", b"404", b"431"}
    assert b"evil.example" not in got and b"location:" not in got.lower()
