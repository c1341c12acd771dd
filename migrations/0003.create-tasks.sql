-- depends: 0002.create-users

create table if not exists tasks (
    user_id uuid not null,
    id uuid not null default uuidv7(),
    title text not null,
    description text,
    completed boolean not null default false,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    idempotency_key text,
    idempotency_digest bytea,
    -- The owner comes first: every statement names it, and a table that is ever
    -- distributed over several machines is distributed by it.
    constraint tasks_pkey primary key (user_id, id),
    constraint tasks_user_id_fkey foreign key (user_id) references users (id) on delete cascade,
    constraint tasks_title_length check (char_length(title) between 1 and 200),
    constraint tasks_title_trimmed check (title !~ '^\s|\s$'),
    constraint tasks_description_length check (char_length(description) <= 1000),
    constraint tasks_idempotency_key_form check (idempotency_key ~ '^[\x21-\x7e]{1,255}$'),
    constraint tasks_idempotency_pair check ((idempotency_key is null) = (idempotency_digest is null))
);

create unique index if not exists tasks_idempotency_key on tasks (user_id, idempotency_key)
where idempotency_key is not null;

comment on table tasks is 'What users mean to do. Each belongs to one user and goes with them.';
comment on column tasks.user_id is 'The owner. Every statement binds it.';
comment on column tasks.id is 'Time-ordered UUID (version 7), made here, so ids sort by creation.';
comment on column tasks.title is '1 to 200 characters, trimmed of white space at both ends.';
comment on column tasks.description is 'At most 1000 characters, or null.';
comment on column tasks.completed is 'Whether it is done.';
comment on column tasks.created_at is 'When the row was inserted.';
comment on column tasks.updated_at is 'When the row last changed; grows with each change, so it is the entity tag too.';
comment on column tasks.idempotency_key is 'What the client named its request, so that a repeated one creates nothing.';
comment on column tasks.idempotency_digest is 'SHA-256 of that request''s payload: the same key with another payload is refused.';
comment on index tasks_idempotency_key is 'Finds the task that an earlier request with the same key made.';
