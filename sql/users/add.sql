-- Adds a user and returns the row.
--
--   email  as it was typed; taken where another user has it, in whatever case
--
-- A taken address violates users_email_key.
insert into users (email)
values (%(email)s)
returning
    id,
    email,
    created_at;
