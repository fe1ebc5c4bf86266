-- Holds a dead letter, or without a reason lets it go; says whether there is one. What is held keeps the time at
-- which it died beside the reason. Arguments: the id, and maybe the reason.
local id = ARGV[1]
if not call('ZSCORE', LETTERS, id) then return 0 end
local run = runs_of({ id })[1]
local member = sub(run, 22, 28) .. id
local held = call('HGET', HOLD, id)
local died = held and string.match(held, '^%-?%d+') or call('ZSCORE', DIED, member) or '0'
if ARGV[2] then
  call('HSET', HOLD, id, died .. ':' .. ARGV[2])
  call('ZREM', DIED, member)
else
  call('HDEL', HOLD, id)
  call('ZADD', DIED, died, member)
end
return 1
