"""HTTP for any resource: bodies, queries, problems, preconditions, middleware.

Knows no task, no user and no statement.
"""
