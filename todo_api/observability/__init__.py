"""Logs, metrics and traces. Knows no routes."""
