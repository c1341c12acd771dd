-- Only our own, known by its comment: the built-in one lives in pg_catalog and stays, and so does
-- one that another application made. A database that came from an older server has both.

do $migration$
declare
    ours constant regprocedure := to_regprocedure(format('%I.uuidv7()', current_schema()));
begin
    if obj_description(ours, 'pg_proc') = 'Time-ordered UUID, as PostgreSQL 18 has it built in.' then
        execute format('drop function %s', ours);
    end if;
end
$migration$;
