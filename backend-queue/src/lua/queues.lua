-- How the queues stand, those without anything left out: of each its name, how many runs are ready and under way,
-- since when the oldest is due or nothing, whether it is paused, and the pause.
local RUNNING = 10000
local names, running = { default = true }, {}
for _, name in ipairs(call('SMEMBERS', QUEUES)) do names[name] = true end
for _, name in ipairs(call('HKEYS', PAUSED)) do names[name] = true end
local members = call('ZRANGE', LEASE, 0, RUNNING - 1)
for from = 1, #members, CHUNK do
  local ids = {}
  for i = from, math.min(from + CHUNK - 1, #members) do ids[#ids + 1] = sub(members[i], 9) end
  local runs = runs_of(ids)
  for i = 1, #ids do
    local at = runs[i] and ready_of(runs[i])
    if at then running[at] = (running[at] or 0) + 1 end
  end
end
local found = {}
for name in pairs(names) do
  local at = ready_in(name)
  local waiting, is_paused, pause = call('ZCARD', at), pause_of(name)
  local oldest
  for rank = 0, waiting > 0 and 15 or -1 do
    local first = rank * 2 ^ 49
    local some = call('ZRANGE', at, string.format('%.0f', first), string.format('(%.0f', first + 2 ^ 49), 'BYSCORE',
      'LIMIT', 0, 1, 'WITHSCORES')
    local due = some[2] and tonumber(some[2]) - first - 2 ^ 48
    if due then oldest = math.min(oldest or due, due) end
  end
  if waiting > 0 or running[at] or is_paused then
    found[#found + 1] = { name, waiting, running[at] or 0, oldest and string.format('%.0f', oldest) or '',
      is_paused and 1 or 0, pause or '' }
  end
end
return found
