"""uvicorn: processes, shutdown, protocol limits. Knows no routes."""
