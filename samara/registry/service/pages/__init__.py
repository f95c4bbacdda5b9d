"""What people see: the catalogue, publishers, models and their releases, the registry's status. HTML made here, by
Jinja2; readable without scripts, and nothing comes from elsewhere.

    catalogue, publisher, model, status     one page each: facts in, HTML out
    release_facts                           what a release's page tells of it
    rendering                               templates, answers with ETags, paging
    errors                                  errors for browsers
    commands                                what to copy into a terminal. Pure
    block_map, charts, qr, badge            pictures. Pure
    key_history, words                      a root chain, numbers and publishers' words as text. Pure

All words of publishers are hostile: the templates escape them, `words.clean` takes away what reorders or hides.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from samara.registry.service.pages import catalogue, model, publisher, static_files, status
from samara.registry.service.pages.errors import answered
from samara.registry.service.pages.rendering import Pages
from samara.registry.service.service import Service


def routes(service: Service) -> APIRouter:
    """The routes of this package. They come last: /{owner} takes whatever nothing else took."""
    router = APIRouter()
    pages = Pages(service)
    for path, handler in (
        ("/", catalogue.answer),
        ("/status", status.answer),
        ("/favicon.ico", static_files.icon),
        ("/static/{name}", static_files.answer),
        ("/{owner}", publisher.answer),
        ("/{owner}/{model}", model.answer_model),
        ("/{owner}/{model}/badge.svg", model.answer_badge),
        ("/{owner}/{model}/releases/{tag}", model.answer_release),
    ):
        router.add_api_route(
            path, answered(pages, handler), methods=["GET"], include_in_schema=False, response_class=Response,
            response_model=None,
        )  # fmt: skip
    return router
