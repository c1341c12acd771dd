-- Toggles or sets whether a task is done and returns the row, or no row where there is no such
-- task or it has changed since.
--
--   user_id    whose task
--   task_id    which one
--   completed  whether it is done; null toggles it
--   if_match   only where updated_at is one of these moments; null asks for none
--
-- Two toggles at once wait for one another, so neither is lost. For updated_at see tasks/update.
-- Served by tasks_pkey (user_id, id).
update tasks set
    completed = coalesce(%(completed)s, not completed),
    updated_at = greatest(
        now(),
        (updated_at at time zone 'utc' + interval '1 microsecond') at time zone 'utc'
    )
where
    user_id = %(user_id)s
    and id = %(task_id)s
    and (%(if_match)s::timestamptz[] is null or updated_at = any(%(if_match)s))
returning
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at;
