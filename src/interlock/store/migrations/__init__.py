"""
The migrations: how the tables of one version of Interlock become those of the next, by Alembic.

`interlock.store.schema` runs them. Until the first release there is one, which follows `interlock.store.tables`.
"""
