"""Routes that belong to no resource: probes, metrics, documentation."""
