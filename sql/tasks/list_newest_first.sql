-- Returns a page of a user's tasks, newest first. Looks at 10,000 tasks at most, so a page may be short.
--
--   user_id        owner
--   after          continue after the task with this id, which need not exist; null starts with the newest
--   completed      true or false: only tasks that are or are not completed; null for both
--   q              only tasks with this text in title or description, in any case; null for all
--   updated_since  only tasks changed at this time or later; null for all
--   page_size      return at most so many rows
--
-- `matches` says whether the task passes the filters. `stopped` is true for the 10,000th task that was looked at,
-- if there are more after it. That row is returned even if it does not match, because the next page continues
-- after it. Every other row matches.
--
-- Served by tasks_pkey (user_id, id), in order. Rows are read one by one until the page is full, so the cost
-- depends neither on the number of tasks nor on the depth of the page.
select
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at,
    matches,
    stopped
from (
    select
        id,
        user_id,
        title,
        description,
        completed,
        created_at,
        updated_at,
        (%(completed)s::boolean is null or completed = %(completed)s)
        and (%(updated_since)s::timestamptz is null or updated_at >= %(updated_since)s)
        and (
            %(q)s::text is null
            or strpos(lower(title), lower(%(q)s)) > 0
            or strpos(lower(description), lower(%(q)s)) > 0
        ) as matches,
        row_number() over newest_first = 10000 and lead(id) over newest_first is not null as stopped
    from tasks
    where
        user_id = %(user_id)s
        and id < coalesce(%(after)s, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
    window newest_first as (order by id desc)
    order by id desc
    limit 10000
) as scanned
where matches or stopped
order by id desc
limit %(page_size)s;
