-- One page of a user's tasks, oldest first.
--
--   user_id        whose tasks
--   after          id of the last task already seen, null for the first page
--   completed      only those that are (true) or are not (false) done, null for both
--   q              only those with this text in title or description, in whatever case, null for all
--   updated_since  only those changed at this moment or later, null for all
--   page_size      how many rows at most
--
-- tasks_pkey (user_id, id) serves both the owner and the order, so the thousandth
-- page costs what the first one does. The other conditions filter what it yields.
select
    id,
    user_id,
    title,
    description,
    completed,
    created_at,
    updated_at
from tasks
where
    user_id = %(user_id)s
    and id > coalesce(%(after)s, '00000000-0000-0000-0000-000000000000'::uuid)
    and (%(completed)s::boolean is null or completed = %(completed)s)
    and (%(updated_since)s::timestamptz is null or updated_at >= %(updated_since)s)
    and (
        %(q)s::text is null
        or strpos(lower(title), lower(%(q)s)) > 0
        or strpos(lower(description), lower(%(q)s)) > 0
    )
order by id asc
limit %(page_size)s;
