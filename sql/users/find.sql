-- The user with an address, or no row.
--
--   email  in whatever case
--
-- Served by users_email_key.
select
    id,
    email,
    created_at
from users
where lower(email) = lower(%(email)s);
