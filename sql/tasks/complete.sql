-- Toggles or sets whether a task is completed. Returns the row, or no row if there is no such task or
-- a condition on its version fails.
--
--   user_id        owner
--   task_id        task
--   completed      new value; null toggles it
--   if_match       change only if updated_at is one of these; null for any
--   if_none_match  change only if updated_at is none of these; null for any
--
-- Two toggles at the same time wait for each other, so neither is lost. For updated_at see tasks/update.
-- Served by tasks_pkey (user_id, id).
update tasks set
    completed = coalesce(%(completed)s, not completed),
    updated_at = least(
        greatest(now(), (updated_at at time zone 'utc' + interval '1 microsecond') at time zone 'utc'),
        '9999-12-31 23:59:59.999999+00'
    )
where
    user_id = %(user_id)s
    and id = %(task_id)s
    and (%(if_match)s::timestamptz[] is null or updated_at = any(%(if_match)s))
    and (%(if_none_match)s::timestamptz[] is null or updated_at <> all(%(if_none_match)s))
returning
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at;
