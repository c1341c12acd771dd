-- Runs at the end of every `todo-api migrate`: what the service may do.
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
