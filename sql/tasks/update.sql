-- Changes a task. Returns the row, or no row if there is no such task or a condition on its version fails.
--
--   user_id           owner
--   task_id           task
--   title             1 to 200 characters, trimmed; null keeps it
--   keep_description  true keeps the description and ignores the next parameter
--   description       at most 1000 characters, or null to clear it
--   completed         new value; null keeps it
--   if_match          change only if updated_at is one of these; null for any
--   if_none_match     change only if updated_at is none of these; null for any
--
-- updated_at is the entity tag, so it grows with each change, even if the clock stands still or steps back.
-- Citus requires an immutable expression here. timestamptz + interval is not, hence the conversion to UTC and back.
-- least() keeps to the last time that the table allows, which only a row inserted by hand can reach.
-- Served by tasks_pkey (user_id, id).
update tasks set
    title = coalesce(%(title)s, title),
    description = case when %(keep_description)s then description else %(description)s end,
    completed = coalesce(%(completed)s, completed),
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
