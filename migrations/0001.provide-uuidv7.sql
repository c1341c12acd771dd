-- uuidv7() for servers older than PostgreSQL 18, where it is built in.
--
-- Same layout as the built-in one (RFC 9562, section 5.7, with method 3 of 6.2):
-- 48 bits of milliseconds since 1970, the version, 12 bits of the fraction of that
-- millisecond, then the variant and 62 random bits, so that ids sort by creation.

do $migration$
begin
    if to_regprocedure('uuidv7()') is null then
        create function uuidv7() returns uuid
        language sql volatile parallel safe
        as $function$
            select encode(
                int8send(((us / 1000) << 16) | (7 << 12) | ((us % 1000) * 4096 / 1000))
                || substring(uuid_send(gen_random_uuid()) from 9),
                'hex'
            )::uuid
            from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint) as clock (us)
        $function$;
        comment on function uuidv7() is 'Time-ordered UUID, as PostgreSQL 18 has it built in.';
    end if;
end
$migration$;
