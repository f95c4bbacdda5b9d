"""Alembic's environment: always online, on the connection that `samara.registry.schema` hands over."""

from alembic import context

from samara.registry.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
