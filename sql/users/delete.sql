-- Deletes a user and all their tasks. Returns the user, or no row if there is no such user.
--
--   user_id  user
--
-- Served by users_pkey. The cascade is served by the first column of tasks_pkey.
delete from users
where id = %(user_id)s
returning
    id,
    email,
    created_at;
