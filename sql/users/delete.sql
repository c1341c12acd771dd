-- Deletes a user, and with them their tasks, and returns the row, or no row where there is no such user.
--
--   user_id  which user
--
-- Served by users_pkey; the cascade by the first column of tasks_pkey.
delete from users
where id = %(user_id)s
returning
    id,
    email,
    created_at;
