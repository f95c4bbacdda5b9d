"""Refusals as the Hub's clients understand them: a status, X-Error-Code, X-Error-Message and {"error": …}.

Nothing of a message is believed: headers get plain printable ASCII of a bounded length.
"""

from __future__ import annotations

import re

from fastapi.responses import JSONResponse

from samara.schemas.errors import SamaraError

_MAX_SAID = 300  # characters of a message; of what the client sent only so many are repeated:
_MAX_ASKED = 80
_UNFIT = re.compile(r"[^ -~]")


class HubError(SamaraError):
    """A request for what isn't there. `code`: what clients tell such errors apart by; `commit`: which they remember it
    for.
    """

    def __init__(self, what: str, *, status: int, code: str | None = None, commit: str | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.code = code
        self.commit = commit


def no_repository(name: str) -> HubError:
    """404: the Hub itself answers 401 here, as a stranger shall not learn what is private; nothing is private here."""
    return HubError(f"Repository not found: {asked(name)}", status=404, code="RepoNotFound")


def no_revision(revision: str) -> HubError:
    """No tag and no release that is kept here; or `main` of a model that lists nothing."""
    return HubError(f"Invalid rev id: {asked(revision)}", status=404, code="RevisionNotFound")


def withdrawn(revision: str, reason: str) -> HubError:
    """Clients tell this as a revision that doesn't exist any more, with the reason; they don't ask for a token."""
    return HubError(
        f"{asked(revision)} was withdrawn by its publisher: {reason}", status=410, code="RevisionNotFound"
    )  # fmt: skip


def taken_down(what: str) -> HubError:
    """By the operator. As for what was withdrawn: the Hub's own words for what it disabled (DisabledRepoError) make
    huggingface_hub speak of a lost connection, or go on with what it has in its cache.
    """
    return HubError(what, status=410, code="RevisionNotFound")


def no_entry(path: str, commit: str) -> HubError:
    """No such file or folder in this commit."""
    return HubError(f"Entry not found: {asked(path)}", status=404, code="EntryNotFound", commit=commit)


def bad_request(what: str, *, status: int = 400) -> HubError:
    """What no client sends."""
    return HubError(what, status=status)


def asked(text: str) -> str:
    """What a client sent, fit to be repeated to it."""
    return text if len(text) <= _MAX_ASKED else text[:_MAX_ASKED] + "…"


def answer(error: HubError) -> JSONResponse:
    """An error as an answer."""
    headers = {"X-Error-Message": _UNFIT.sub("?", error.what)[:_MAX_SAID], "Cache-Control": "no-store"}
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    if error.commit is not None:
        headers["X-Repo-Commit"] = error.commit
    said = error.what[:_MAX_SAID].encode(errors="replace").decode()  # what was asked for may be no text
    return JSONResponse({"error": said}, status_code=error.status, headers=headers)
