"""What people see: catalogue, models, publishers, status."""

from __future__ import annotations

from fastapi import APIRouter

from samara.registry.service.service import Service


def routes(service: Service) -> APIRouter:  # noqa: ARG001
    """The routes of this module."""
    return APIRouter()
