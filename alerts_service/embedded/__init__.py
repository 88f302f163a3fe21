"""A PostgreSQL server for machines without an installed PostgreSQL.

This module imports nothing, so that the supervisor process starts quickly. At startup the supervisor imports only the
standard library and this package. It imports psutil only if it must stop processes of an earlier supervisor.
"""
