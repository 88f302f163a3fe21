"""Retention: a background job that deletes old resolved alerts and expired idempotency keys."""
