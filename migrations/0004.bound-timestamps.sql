-- depends: 0003.create-tasks

-- No row that was typed by hand may hold a moment that RFC 3339 cannot express. `not valid` leaves
-- the rows that are there to 0005, which does not block writes while it reads them.

alter table users
add constraint users_created_at_range
check (created_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00') not valid;

alter table tasks
add constraint tasks_created_at_range
check (created_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00') not valid,
add constraint tasks_updated_at_range
check (updated_at between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00') not valid;
