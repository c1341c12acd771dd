-- Returns no row, and fails with SQLSTATE 25006 where the database takes no writes: on a standby, or with
-- default_transaction_read_only. Writes nothing itself.
--
--   user_id  whose tasks to lock: the id of nobody
--
-- Served by tasks_pkey (user_id, id).
select id
from tasks
where user_id = %(user_id)s
for update;
