-- One user, or no row.
--
--   user_id  which user
--
-- Served by users_pkey.
select
    id,
    email,
    created_at
from users
where id = %(user_id)s;
