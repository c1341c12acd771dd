-- One task of a user, or no row.
--
--   user_id  whose task
--   task_id  which one
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
