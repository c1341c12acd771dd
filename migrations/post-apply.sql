-- Runs at the end of every `todo-api migrate`: grants the service what it needs, gives its role the settings that a
-- pooler does not carry, and looks after Citus.
--
-- Whoever migrates owns the tables. The service connects as todo_app, or as a member of it, and gets what the
-- files under sql/ need and no more: it cannot give a task to another user, nor choose an id or a time. Roles
-- belong to the whole server, so the administrator makes them. Where there is no todo_app, nothing is granted.

do $grants$
begin
    if to_regrole('todo_app') is not null then
        grant select, insert (email), delete on users to todo_app;
        grant
            select,
            insert (user_id, title, description, completed, idempotency_key, idempotency_digest),
            update (title, description, completed, updated_at, idempotency_key),
            delete
        on tasks to todo_app;
        -- Whether the schema is current is part of being ready.
        grant select on _yoyo_migration to todo_app;
    end if;
end
$grants$;

-- A pooler in transaction mode does not carry a session's settings, so the role brings them. Those that the
-- administrator has set stay. A login that may not alter the role prints what the administrator has to run.
do $settings$
declare
    missing constant text := (
        select string_agg(
            format('alter role todo_app in database %I set %I = %L;', current_database(), name, value), ' '
        )
        from (
            values
            ('statement_timeout', '4s'),
            ('lock_timeout', '2s'),
            ('default_transaction_isolation', 'read committed')
        ) as settings (name, value)
        where to_regrole('todo_app') is not null and not exists (
            select from pg_db_role_setting, unnest(setconfig) as setting
            where
                setrole = to_regrole('todo_app')
                and split_part(setting, '=', 1) = name
                and setdatabase in (0, (select oid from pg_database where datname = current_database()))
        )
    );
begin
    if missing is not null then
        execute missing;
    end if;
exception
    when insufficient_privilege then
        raise warning 'todo_app lacks settings that it needs behind a pooler. As an administrator, run: %', missing;
end
$settings$;

-- On Citus, a table that was rolled back and migrated again is an ordinary one, which only one node has.
do $citus$
begin
    if to_regclass('pg_dist_partition') is null then
        return;
    end if;
    if (
        select count(*) < 3 from pg_dist_partition
        where logicalrel in (to_regclass('users'), to_regclass('tasks'), to_regclass('_yoyo_migration'))
    ) then
        raise warning 'Citus does not distribute all tables. As their owner, run docs/citus.sql before adding rows';
    end if;
end
$citus$;
