-- The migrations that are applied, oldest first. yoyo keeps them; the table is missing before the first.
select
    migration_id,
    applied_at_utc
from _yoyo_migration
order by
    applied_at_utc,
    migration_id;
