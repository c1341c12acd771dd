alter table tasks
-- squawk-ignore ban-drop-constraint
drop constraint tasks_created_at_range,
-- squawk-ignore ban-drop-constraint
drop constraint tasks_updated_at_range;

alter table users
-- squawk-ignore ban-drop-constraint
drop constraint users_created_at_range;
