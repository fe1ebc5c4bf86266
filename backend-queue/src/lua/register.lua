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
  local before = known[2] or ''
  if before ~= ARGV[2] then revision = revision + 1 end
  -- An edited trigger, which is what a definition ends with, begins now.
  if #before > 17 and string.sub(before, 18) ~= string.sub(ARGV[2], 18) then
    local stands = call('HMGET', key, 'decided', 'finished')
    call('HSET', key, 'decided', math.max(tonumber(stands[1]) or 0, now - ARGV[3]))
    if tonumber(stands[2]) then call('HSET', key, 'finished', math.max(tonumber(stands[2]), now)) end
  end
  -- Nobody served these fires when the last who did has not said so for a lease.
  if (tonumber(known[3]) or 0) < now then call('HSET', key, 'served_since', now) end
end
call('HSET', key, 'revision', revision, 'definition', ARGV[2], 'served_until', now + ARGV[4])
return revision
