-- depends: 0004.bound-timestamps

alter table users validate constraint users_created_at_range;

alter table tasks validate constraint tasks_created_at_range;

alter table tasks validate constraint tasks_updated_at_range;
