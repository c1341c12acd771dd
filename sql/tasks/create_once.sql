-- Creates a task, or returns the one that an earlier request with the same key created.
--
--   user_id             whose task
--   title               1 to 200 characters, trimmed
--   description         at most 1000 characters, or null
--   completed           whether it is done already
--   idempotency_key     what the client named the request
--   idempotency_digest  SHA-256 of its payload
--
-- The last two columns tell what happened: `created` is true for a new task, and
-- `same_payload` is false where the key came with another payload, which then changed
-- nothing. A row that was just inserted has no locker yet, hence xmax = 0; the update
-- that returns an earlier row writes what is there already. Equal requests at once
-- wait for one another on tasks_idempotency_key, so exactly one of them creates.
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
    idempotency_digest = %(idempotency_digest)s as same_payload;
