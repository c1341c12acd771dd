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

-- What a pooler in transaction mode refuses to carry, its role brings to a session: time-outs, unless
-- the administrator has set others. Who may not alter the role leaves that to them.
do $timeouts$
declare
    is_set constant boolean := exists (
        select from pg_db_role_setting as settings, unnest(settings.setconfig) as setting
        where
            settings.setrole = to_regrole('todo_app')
            and split_part(setting, '=', 1) in ('statement_timeout', 'lock_timeout')
            and settings.setdatabase in (0, (select oid from pg_database where datname = current_database()))
    );
begin
    if to_regrole('todo_app') is not null and not is_set then
        execute format('alter role todo_app in database %I set statement_timeout = ''4s''', current_database());
        execute format('alter role todo_app in database %I set lock_timeout = ''2s''', current_database());
    end if;
exception
    when insufficient_privilege then
        raise notice 'todo_app keeps the time-outs it has: %', sqlerrm;
end
$timeouts$;
