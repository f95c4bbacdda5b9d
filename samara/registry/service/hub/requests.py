"""What is in requests of the Hub's clients, bounded: flags, cursors, the paths asked about, where they reached us."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from samara.registry.service.hub.problems import bad_request
from samara.schemas.manifest import MAX_FILES

MAX_BODY = 1 << 20  # bytes of a question about paths
MAX_PATHS = MAX_FILES  # in it
_CURSOR = re.compile(r"[0-9]{1,9}\Z")
_HOST = re.compile(r"[0-9A-Za-z.:\[\]_-]{1,255}\Z")


def flag(value: str | None) -> bool:
    """What clients send for true: Python's and JavaScript's spelling, and numbers."""
    return value is not None and value.lower() in {"true", "1"}


def number(value: str | None, what: str, *, default: int, most: int) -> int:
    """A count of a query, at most `most`. Raises HubError."""
    if value is None:
        return default
    if not _CURSOR.match(value):
        raise bad_request(f"{what} must be a number")
    return min(int(value), most)


def paths_asked(body: bytes, content_type: str) -> tuple[tuple[str, ...], bool]:
    """(paths, expand) of a question about paths: JSON, or a form as huggingface_hub sends it. Raises HubError."""
    if len(body) > MAX_BODY:
        raise bad_request("too much is asked about at once", status=413)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        paths, expand = _of_json(body)
    elif kind in {"application/x-www-form-urlencoded", ""}:
        paths, expand = _of_form(body)
    else:
        raise bad_request("paths are asked about in JSON or a form", status=415)
    if len(paths) > MAX_PATHS:
        raise bad_request(f"at most {MAX_PATHS} paths can be asked about at once", status=413)
    return tuple(dict.fromkeys(path.strip("/") for path in paths)), expand


def base_url(origin: str, headers: Mapping[str, str], scheme: str) -> str:
    """Where the client reached this registry, without a slash at the end: absolute links of answers begin so.

    It is `origin` for who came by that name (perhaps through a web server that speaks TLS for us), else what the
    request says, unless that is no host at all.
    """
    host = headers.get("host", "")
    if not _HOST.match(host) or host.lower() == urlsplit(origin).netloc.lower():
        return origin
    return f"{'https' if scheme == 'https' else 'http'}://{host}"


def _of_json(body: bytes) -> tuple[list[str], bool]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("not JSON") from None
    paths = value.get("paths") if isinstance(value, dict) else None
    if isinstance(paths, str):
        paths = [paths]
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise bad_request('expected {"paths": ["…"]}')
    return paths, value.get("expand") is True


def _of_form(body: bytes) -> tuple[list[str], bool]:
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_PATHS + 16)
    except ValueError:  # too many fields, or no text
        raise bad_request("a form that can't be read") from None
    return fields.get("paths", []), flag(fields.get("expand", [""])[0])
