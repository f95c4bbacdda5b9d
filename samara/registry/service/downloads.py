"""How a download is presented: the name it is to be saved under (RFC 6266, RFC 8187), how long it may be kept. Pure."""

from __future__ import annotations

from urllib.parse import quote

IMMUTABLE = "public, max-age=31536000, immutable, no-transform"  # named by its digest: it will never be anything else
OCTETS = "application/octet-stream"
_NAME_BYTES = 200
_ATTR_CHARS = "!#$&+-.^_`|~"  # RFC 8187 attr-char beside letters and digits


def content_disposition(file_name: str | None) -> str:
    """`attachment` with a safe name: no path, nothing that can end the header or its quotes."""
    name = (file_name or "").replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in name if c.isprintable() and not 0xD800 <= ord(c) < 0xE000).strip(". ")
    name = name.encode()[:_NAME_BYTES].decode(errors="ignore")
    if not name:
        return "attachment"
    plain = "".join(c if " " <= c <= "~" and c not in '"\\%' else "_" for c in name)
    if plain == name:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"
