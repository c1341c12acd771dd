-- Returns the user with an email, or no row.
--
--   email  in any case of its letters
--
-- Served by users_email_key.
select
    id,
    email,
    created_at
from users
where lower(email) = lower(%(email)s);
