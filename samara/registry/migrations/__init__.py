"""Alembic migrations of the index. `samara.registry.schema` runs them; nobody else does."""
