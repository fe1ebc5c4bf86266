-- The deliveries whose lease has expired, the oldest first: of each the run's id, its fence, the run, and why it
-- shall be cancelled. The time comes first.
-- Arguments: how many at most, after how long a silence of everybody leases are spared, and for how long.
local limit, silence, spare = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
-- When nobody has asked for so long, Redis was away and not the workers: they first get the time to prolong.
local known = call('HMGET', BEAT, 'at', 'spared')
local spared = tonumber(known[2]) or 0
if known[1] and now - known[1] > silence then spared = now + spare end
call('HSET', BEAT, 'at', now, 'spared', spared)
if now < spared and spared <= now + spare then return { now, {} } end
local members = call('ZRANGE', LEASE, '-inf', '(' .. now, 'BYSCORE', 'LIMIT', 0, limit)
local found, ids = {}, {}
for i = 1, #members do ids[i] = sub(members[i], 9) end
if #ids == 0 then return { now, found } end
local odd = {}
for i = 1, #ids do odd[i] = 'c' .. ids[i] end
local runs, reasons = runs_of(ids), fields(ODD, odd)
local bytes = 0
for i = 1, #ids do
  local fence = sub(members[i], 1, 8)
  local run = runs[i] and whole(ids[i], runs[i]) or ''
  found[#found + 1] = { ids[i], fence, run, reasons[i] }
  bytes = bytes + #run
  if bytes > LARGEST then break end
end
return { now, found }
