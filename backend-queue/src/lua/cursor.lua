-- Where a schedule stands: its revision and its cursor; nothing where there is none.
local function standing(task)
  return call('HMGET', TASK .. task, 'revision', 'decided', 'served_since', 'runs', 'finished', 'paused')
end
