-- Runs at the end of every `todo-api migrate`: what the service may do, and for how long.
--
-- Whoever migrates owns the tables. The service connects as todo_app, or as a member of it, and
-- gets what the files under sql/ need and no more: it cannot give a task to another user, nor make
-- up an id or a moment. Roles belong to the whole server, so making them is the administrator's;
-- where there is no todo_app, nothing is granted.

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

-- A pooler in transaction mode does not carry a session's settings, so the role brings them, each
-- unless the administrator has set another. A login that may not alter the role leaves that to them.
do $settings$
declare
    wanted record;
begin
    for wanted in
        select name, value
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
    loop
        execute format(
            'alter role todo_app in database %I set %I = %L', current_database(), wanted.name, wanted.value
        );
    end loop;
exception
    when insufficient_privilege then
        raise notice 'todo_app keeps the settings it has: %', sqlerrm;
end
$settings$;
