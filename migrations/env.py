"""Alembic's entry: runs on the connection that `batchgen.jobtable.migrations` passes in, inside its transaction.

Views stay as they are while a migration changes a table. In SQLite, Alembic makes another table, drops the old one and
renames the new one; only the legacy form of that ALTER TABLE allows views of the table that is missing meanwhile. At
the end every view is read: one that has lost a column makes the whole upgrade fail.
"""

from alembic import context
from sqlalchemy import inspect

connection = context.config.attributes["connection"]
is_sqlite = connection.dialect.name == "sqlite"
if is_sqlite:
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
context.configure(connection=connection, transactional_ddl=True, render_as_batch=True)
context.run_migrations()
if is_sqlite:
    connection.exec_driver_sql("PRAGMA legacy_alter_table=OFF")
    for view in inspect(connection).get_view_names():
        connection.exec_driver_sql(f"SELECT * FROM {view} LIMIT 0")
