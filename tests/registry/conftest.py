"""Puts this folder on the path, so that the tests below it find its kits (pytest does that for a conftest)."""
