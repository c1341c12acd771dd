-- Deletes a task and returns its id, or no row where there is no such task or it has changed since.
--
--   user_id   whose task
--   task_id   which one
--   if_match  only where updated_at is one of these moments; null asks for none
--
-- Served by tasks_pkey (user_id, id).
delete from tasks
where
    user_id = %(user_id)s
    and id = %(task_id)s
    and (%(if_match)s::timestamptz[] is null or updated_at = any(%(if_match)s))
returning id;
