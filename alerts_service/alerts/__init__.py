"""Alerts: create, list and search alerts, and change their status, for one alert or in bulk."""
