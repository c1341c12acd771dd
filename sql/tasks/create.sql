-- Creates a task and returns the row.
--
--   user_id      whose task
--   title        1 to 200 characters, trimmed
--   description  at most 1000 characters, or null
--   completed    whether it is done already
--
-- A user who does not exist violates tasks_user_id_fkey.
insert into tasks (user_id, title, description, completed)
values (%(user_id)s, %(title)s, %(description)s, %(completed)s)
returning
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at;
