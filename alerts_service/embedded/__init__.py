"""A PostgreSQL server for a machine that has none. No imports here: the supervisor uses the standard library only."""
