"""Alembic's entry: runs on the connection that `batchgen.jobtable.migrations` passes in, inside its transaction."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transactional_ddl=True, render_as_batch=True)
context.run_migrations()
