-- Adds a user and returns the row.
--
--   email  kept as typed; taken if another user has it in any case of its letters
--
-- A taken address violates users_email_key.
insert into users (email)
values (%(email)s)
returning
    id,
    email,
    created_at;
