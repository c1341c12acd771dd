-- Returns no row, and fails with SQLSTATE 25006 if the database takes no writes: on a standby, or with
-- default_transaction_read_only. Writes nothing.
--
--   user_id  an id that no user has, so that nothing is locked
--
-- Served by tasks_pkey (user_id, id).
select id
from tasks
where user_id = %(user_id)s
for update;
