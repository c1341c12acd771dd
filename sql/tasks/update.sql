-- Changes a task and returns the row, or no row where there is no such task or it has changed since.
--
--   user_id           whose task
--   task_id           which one
--   title             1 to 200 characters, trimmed; null keeps it
--   keep_description  true keeps it, whatever the next parameter says
--   description       at most 1000 characters, or null to clear it
--   completed         whether it is done; null keeps it
--   if_match          only where updated_at is one of these moments; null asks for none
--
-- updated_at grows even where the clock stands still or steps back: it is the entity tag. The way
-- by UTC is immutable, which timestamptz + interval is not: Citus refuses that of a column here.
-- Served by tasks_pkey (user_id, id).
update tasks set
    title = coalesce(%(title)s, title),
    description = case when %(keep_description)s then description else %(description)s end,
    completed = coalesce(%(completed)s, completed),
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
