-- Returns a user, or no row.
--
--   user_id  user
--
-- Served by users_pkey.
select
    id,
    email,
    created_at
from users
where id = %(user_id)s;
