"""A PostgreSQL server for machines that have none.

This module imports nothing: the supervisor process uses the standard library only, so that it starts quickly.
"""
