"""
The store: everything durable, as plain functions of a SQLAlchemy `Connection`.

Run them with `governor.write(tickets.approve, …)`, `await governor.awrite(…)` or `governor.read(…)`, or inside a
transaction of the host's own.
"""
