"""Retention: background tasks that delete expired alerts and idempotency keys."""
