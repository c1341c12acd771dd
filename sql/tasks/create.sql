-- Creates a task and returns it, or returns the task that an earlier request with the same key created.
--
--   user_id             owner
--   title               1 to 200 characters, trimmed
--   description         at most 1000 characters, or null
--   completed           whether it is completed already
--   idempotency_key     the client's name for the request; null always creates
--   idempotency_digest  SHA-256 of the request's payload; null if the key is
--
-- `created` is true for a new task. xmax is 0 only in a row that was just inserted. `same_payload` is false if the
-- earlier request had another payload. An earlier task is not changed: the update writes the same key again, because
-- only an update can return that row. Requests with one key at the same time wait for each other on
-- tasks_idempotency_key, so exactly one of them creates.
-- A user who does not exist violates tasks_user_id_fkey.
insert into tasks (user_id, title, description, completed, idempotency_key, idempotency_digest)
values (
    %(user_id)s, %(title)s, %(description)s, %(completed)s, %(idempotency_key)s, %(idempotency_digest)s
)
on conflict (user_id, idempotency_key) where idempotency_key is not null
do update set idempotency_key = excluded.idempotency_key
returning
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at,
    xmax = 0 as created,
    idempotency_digest is not distinct from %(idempotency_digest)s as same_payload;
