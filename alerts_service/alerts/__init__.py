"""Alerts: creating, listing and searching them, and their status transitions, one at a time or in bulk."""
