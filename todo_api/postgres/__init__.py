"""PostgreSQL: pool, pipeline, migrations, the embedded server. Knows no HTTP."""
