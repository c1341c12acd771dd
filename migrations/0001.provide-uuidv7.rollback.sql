-- Only our own: the built-in one lives in pg_catalog and stays. A database that came from
-- an older server has both.

do $migration$
begin
    execute format('drop function if exists %I.uuidv7()', current_schema());
end
$migration$;
