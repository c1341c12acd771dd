"""Tasks: their payloads, and the operations on them."""
