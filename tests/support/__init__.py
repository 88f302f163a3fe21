"""Helpers that several test modules use. Fixtures are in `tests/conftest.py`."""
