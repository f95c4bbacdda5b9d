"""Swarms in memory."""

from __future__ import annotations


class Tracker:
    """Who is in which swarm."""
