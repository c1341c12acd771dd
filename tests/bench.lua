-- What wrk sends: one kind of request, to each of the tasks in a file in turn.
--
--   wrk -s bench.lua URL -- OPERATION FILE
--
-- A line of the file is a user's id and the id of a task of theirs. The last line printed is for bench.py:
-- requests, microseconds they took, the least latency, its median and 99th percentile in microseconds,
-- failures.

local json = { ["Content-Type"] = "application/json" }
local body = '{"title": "Buy milk", "description": "two litres, whole, from the shop on the corner"}'

local operations = {
  get = function(tasks, id) return "GET", tasks .. "/" .. id end,
  list = function(tasks) return "GET", tasks end,
  create = function(tasks) return "POST", tasks, json, body end,
  update = function(tasks, id) return "PUT", tasks .. "/" .. id, json, body end,
  toggle = function(tasks, id) return "PATCH", tasks .. "/" .. id .. "/complete" end,
  page_behind = function(tasks, id) return "GET", tasks .. "?after=" .. id end,
}

local requests, sent = {}, 0

function init(arguments)
  local operation = operations[arguments[1]]
  for line in io.lines(arguments[2]) do
    local user, task = line:match("(%S+) (%S+)")
    requests[#requests + 1] = wrk.format(operation("/api/" .. user .. "/tasks", task))
  end
end

function request()
  sent = sent + 1
  return requests[sent % #requests + 1]
end

function done(summary, latency)
  local errors = summary.errors
  print(
    summary.requests, summary.duration, latency.min, latency:percentile(50), latency:percentile(99),
    errors.status + errors.connect + errors.read + errors.write + errors.timeout
  )
end
