-- depends: 0001.provide-uuidv7

create table if not exists users (
    id uuid not null default gen_random_uuid(),
    email text not null,
    created_at timestamptz not null default now(),
    constraint users_pkey primary key (id),
    constraint users_email_length check (char_length(email) between 3 and 320),
    constraint users_email_form check (email ~ '^[^@[:space:][:cntrl:]]+@[^@[:space:][:cntrl:]]+$')
);

create unique index if not exists users_email_key on users (lower(email));

comment on table users is 'Everyone who has tasks.';
comment on column users.id is 'Random UUID (version 4), made here.';
comment on column users.email is 'As it was typed; unique without regard to case.';
comment on column users.created_at is 'When the row was inserted.';
comment on index users_email_key is 'One user an address, whatever its case; also serves the look-up by address.';
