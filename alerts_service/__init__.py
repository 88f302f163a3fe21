"""Keeps the alerts of NeverMissCall."""
