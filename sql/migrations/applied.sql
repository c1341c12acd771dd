-- Returns the applied migrations, oldest first. The table is yoyo's, and does not exist before the first one.
select
    migration_id,
    applied_at_utc
from _yoyo_migration
order by
    applied_at_utc,
    migration_id;
