-- Accepts the definition of a task. Arguments: the task, the definition, where its cursor begins before now, and
-- for how long its fires are served. Answers the revision.
local key = TASK .. ARGV[1]
local known = call('HMGET', key, 'revision', 'definition', 'served_until')
local revision = tonumber(known[1])
if not revision then
  revision = 1
  local begun = now - ARGV[3]
  call('HSET', key, 'decided', begun, 'served_since', begun, 'runs', 0)
else
  if known[2] ~= ARGV[2] then revision = revision + 1 end
  -- Nobody served these fires when the last who did has not said so for a lease.
  if (tonumber(known[3]) or 0) < now then call('HSET', key, 'served_since', now) end
end
call('HSET', key, 'revision', revision, 'definition', ARGV[2], 'served_until', now + ARGV[4])
return revision
