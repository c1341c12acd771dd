-- Returns how many rows it has written to a temporary file, and fails with SQLSTATE 53100 if the disk is full.
-- A series larger than work_mem goes to such a file. It has some 40 kB and is deleted at once.
select count(*) as row_count
from set_config('work_mem', '64kB', true) as work_mem
cross join lateral generate_series(length(work_mem), 3000);
