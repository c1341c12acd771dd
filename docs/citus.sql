-- Distributes the tables over the nodes of a Citus cluster. Run it on the coordinator as the tables' owner, after
-- `todo-api migrate` and before the first row:
--
--     psql "$MIGRATIONS_DATABASE_URL" --set ON_ERROR_STOP=1 --file docs/citus.sql
--
-- Run it again when `migrate` warns that Citus does not distribute all tables, for instance after a rollback. Tables
-- that are distributed already stay as they are.

-- Every node has all users. Every node also knows which migrations are applied: a service that is connected to a
-- node without them says that its schema is behind and does not start.
select create_reference_table(relation)
from unnest(array['users', '_yoyo_migration']::regclass[]) as relation
where relation not in (select logicalrel from pg_dist_partition);

-- All tasks of one user are on one node.
select create_distributed_table(relation, 'user_id')
from unnest(array['tasks']::regclass[]) as relation
where relation not in (select logicalrel from pg_dist_partition);

-- Citus computes the defaults and sends them with the row, so the service's role must be allowed to insert these
-- columns. Leave this out if the service connects as the owner.
grant insert (id, created_at) on users to todo_app;
grant insert (id, created_at, updated_at) on tasks to todo_app;
