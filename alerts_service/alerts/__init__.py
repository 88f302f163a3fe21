"""Alerts: recording, finding, acknowledging, resolving."""
