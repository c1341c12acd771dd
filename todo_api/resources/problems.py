"""The problem types of users and tasks."""

from psycopg.errors import ForeignKeyViolation, UniqueViolation

from todo_api.http.problems import InvalidRequest, Problem, TimedOut, Unavailable


class UserNotFound(
    Problem,
    status=404,
    violation=(ForeignKeyViolation, "tasks_user_id_fkey"),
    remedy="Treat the user as gone.",
):
    """There is no user with this id."""


class TaskNotFound(
    Problem, status=404, remedy="Treat the task as gone. After a repeated DELETE, treat it as deleted."
):
    """This user has no task with this id."""


class EmailTaken(
    Problem, status=409, violation=(UniqueViolation, "users_email_key"), remedy="Choose another email."
):
    """Another user has this email. Upper and lower case make no difference."""


class TaskChanged(
    Problem,
    status=412,
    remedy="Read the task again, then decide whether to send your change with its new ETag.",
):
    """The task has changed since the version in If-Match. Nothing was written; fetch it and retry."""


class IdempotencyKeyReused(
    Problem, status=422, remedy="Use a new key for a new task. To repeat a request, send the same payload."
):
    """An earlier request of this user had the same Idempotency-Key and another payload.

    Nothing was created. Use a new key for a new task.
    """


SHARED = (InvalidRequest, Unavailable, TimedOut)  # problems of every operation on a resource
