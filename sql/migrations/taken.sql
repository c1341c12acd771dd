-- Returns which of these names are taken in the schema that new tables go to, and by what kind of relation.
-- For `todo-api migrate` only.
--
--   names  the relations that are to be created
select
    oid::regclass::text as relation_name,
    case relkind
        when 'r' then 'table'
        when 'p' then 'table'
        when 'v' then 'view'
        when 'm' then 'materialized view'
        when 'i' then 'index'
        when 'S' then 'sequence'
        when 'f' then 'foreign table'
        else 'relation'
    end as relation_kind
from pg_class
where
    relnamespace = to_regnamespace(quote_ident(current_schema()))
    and relname = any(%(names)s)
order by relname;
