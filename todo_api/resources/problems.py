"""The problem types of users and tasks."""

from psycopg.errors import ForeignKeyViolation, UniqueViolation

from todo_api.http.problems import InvalidRequest, Problem, TimedOut, Unavailable


class UserNotFound(Problem):
    """404."""

    status_code = 404
    title = "User not found"
    detail = "There is no user with this id."
    violation = ForeignKeyViolation, "tasks_user_id_fkey"


class TaskNotFound(Problem):
    """404. The task of another user is answered alike."""

    status_code = 404
    title = "Task not found"
    detail = "This user has no task with this id."


class EmailTaken(Problem):
    """409."""

    status_code = 409
    title = "Email taken"
    detail = "Another user has this email. Upper and lower case make no difference."
    violation = UniqueViolation, "users_email_key"


class TaskChanged(Problem):
    """412, where If-Match fails."""

    status_code = 412
    title = "Task changed"
    detail = "The task has changed since the version in If-Match. Nothing was written; fetch it and retry."


class IdempotencyKeyReused(Problem):
    """422."""

    status_code = 422
    title = "Idempotency key reused"
    detail = (
        "An earlier request of this user had the same Idempotency-Key and another payload. "
        "Nothing was created; use a new key for a new task."
    )


SHARED = (InvalidRequest, Unavailable, TimedOut)  # problems that every operation on a resource can have
