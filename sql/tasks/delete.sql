-- Deletes a task. Returns its id, or no row if there is no such task or a condition on its version fails.
--
--   user_id        owner
--   task_id        task
--   if_match       delete only if updated_at is one of these; null for any
--   if_none_match  delete only if updated_at is none of these; null for any
--
-- Served by tasks_pkey (user_id, id).
delete from tasks
where
    user_id = %(user_id)s
    and id = %(task_id)s
    and (%(if_match)s::timestamptz[] is null or updated_at = any(%(if_match)s))
    and (%(if_none_match)s::timestamptz[] is null or updated_at <> all(%(if_none_match)s))
returning id;
