-- Only our own table: see 0002.

do $migration$
begin
    if exists (select from pg_constraint where conrelid = to_regclass('tasks') and conname = 'tasks_title_trimmed') then
        drop table tasks;
    elsif to_regclass('tasks') is not null then
        raise exception 'the table tasks was not made by todo-api and stays';
    end if;
end
$migration$;
