-- Returns how many rows it has put into a temporary file, and fails with SQLSTATE 53100 where the disk is full.
-- The file has some 40 kB and is deleted at once: it is what a series becomes that exceeds work_mem.
select count(*) as row_count
from set_config('work_mem', '64kB', true) as work_mem
cross join lateral generate_series(length(work_mem), 3000);
