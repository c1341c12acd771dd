-- Returns the SHA-256, in hexadecimal, of each applied migration's file as it was when it was applied.
-- `todo-api migrate` writes it into yoyo's log, and is the only one to read it.
select distinct on (applied.migration_id)
    applied.migration_id,
    log.comment as digest
from _yoyo_migration as applied
inner join _yoyo_log as log on applied.migration_hash = log.migration_hash
where log.comment is not null
order by
    applied.migration_id asc,
    log.created_at_utc desc;
