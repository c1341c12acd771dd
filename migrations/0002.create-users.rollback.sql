-- squawk-ignore ban-drop-table
drop table if exists users;
