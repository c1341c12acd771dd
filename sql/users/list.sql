-- Returns every user, oldest first. For the operator's command line only.
--
-- Reads the whole table.
select
    id,
    email,
    created_at
from users
order by
    created_at,
    id;
