-- What the migrations add up to, as pg_dump prints it. Written by: make schema

CREATE TABLE public.tasks (
    user_id uuid NOT NULL,
    id uuid DEFAULT uuidv7() NOT NULL,
    title text NOT NULL,
    description text,
    completed boolean DEFAULT false NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    idempotency_key text,
    idempotency_digest bytea,
    CONSTRAINT tasks_created_at_range CHECK (((created_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-12-31 23:59:59.999999+00'::timestamp with time zone))),
    CONSTRAINT tasks_description_length CHECK ((char_length(description) <= 1000)),
    CONSTRAINT tasks_idempotency_key_form CHECK ((idempotency_key ~ '^[\x21-\x7e]{1,255}$'::text)),
    CONSTRAINT tasks_idempotency_pair CHECK (((idempotency_key IS NULL) = (idempotency_digest IS NULL))),
    CONSTRAINT tasks_title_length CHECK (((char_length(title) >= 1) AND (char_length(title) <= 200))),
    CONSTRAINT tasks_title_trimmed CHECK ((title !~ '^\s|\s$'::text)),
    CONSTRAINT tasks_updated_at_range CHECK (((updated_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (updated_at <= '9999-12-31 23:59:59.999999+00'::timestamp with time zone)))
);

COMMENT ON TABLE public.tasks IS 'What users mean to do. Each belongs to one user and goes with them.';

COMMENT ON COLUMN public.tasks.user_id IS 'The owner. Every statement binds it.';

COMMENT ON COLUMN public.tasks.id IS 'Time-ordered UUID (version 7), made here, so ids sort by creation.';

COMMENT ON COLUMN public.tasks.title IS '1 to 200 characters, trimmed of white space at both ends.';

COMMENT ON COLUMN public.tasks.description IS 'At most 1000 characters, or null.';

COMMENT ON COLUMN public.tasks.completed IS 'Whether it is done.';

COMMENT ON COLUMN public.tasks.created_at IS 'When the row was inserted.';

COMMENT ON COLUMN public.tasks.updated_at IS 'When the row last changed; grows with each change, so it is the entity tag too.';

COMMENT ON COLUMN public.tasks.idempotency_key IS 'What the client named its request, so that a repeated one creates nothing.';

COMMENT ON COLUMN public.tasks.idempotency_digest IS 'SHA-256 of that request''s payload: the same key with another payload is refused.';

CREATE TABLE public.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT users_created_at_range CHECK (((created_at >= '0001-01-01 00:00:00+00'::timestamp with time zone) AND (created_at <= '9999-12-31 23:59:59.999999+00'::timestamp with time zone))),
    CONSTRAINT users_email_form CHECK ((email ~ '^[^@[:space:][:cntrl:]]+@[^@[:space:][:cntrl:]]+$'::text)),
    CONSTRAINT users_email_length CHECK (((char_length(email) >= 3) AND (char_length(email) <= 320)))
);

COMMENT ON TABLE public.users IS 'Everyone who has tasks.';

COMMENT ON COLUMN public.users.id IS 'Random UUID (version 4), made here.';

COMMENT ON COLUMN public.users.email IS 'As it was typed; unique without regard to case.';

COMMENT ON COLUMN public.users.created_at IS 'When the row was inserted.';

ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_pkey PRIMARY KEY (user_id, id);

ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);

CREATE UNIQUE INDEX tasks_idempotency_key ON public.tasks USING btree (user_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

COMMENT ON INDEX public.tasks_idempotency_key IS 'Finds the task that an earlier request with the same key made.';

CREATE UNIQUE INDEX users_email_key ON public.users USING btree (lower(email));

COMMENT ON INDEX public.users_email_key IS 'One user an address, whatever its case; also serves the look-up by address.';

ALTER TABLE ONLY public.tasks
    ADD CONSTRAINT tasks_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
