-- Returns a task, or no row if there is no such task.
--
--   user_id  owner
--   task_id  task
--
-- Served by tasks_pkey (user_id, id).
select
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at
from tasks
where
    user_id = %(user_id)s
    and id = %(task_id)s;
