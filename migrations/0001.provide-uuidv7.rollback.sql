do $migration$
begin
    -- The built-in one lives in pg_catalog, is not ours, and stays.
    if exists (
        select from pg_proc
        where oid = to_regprocedure('uuidv7()') and pronamespace <> 'pg_catalog'::regnamespace
    ) then
        drop function uuidv7();
    end if;
end
$migration$;
