"""
What Alembic runs to run the migrations.

In, as attributes of its configuration: `connection`, in whose transaction all is done, and `tables`, which say under
which prefix and in which schema. Committing is the caller's.
"""

from __future__ import annotations

from alembic import context

given = context.config.attributes
tables = given["tables"]

context.configure(
    connection=given["connection"],
    target_metadata=tables.metadata,
    version_table=given["version_table"],
    version_table_schema=tables.schema,
)
context.run_migrations(prefix=tables.prefix, schema=tables.schema)
