-- How the queues stand, those without anything left out: of each its name, how many runs are ready and under way,
-- since when the oldest is due or nothing, whether it is paused, and the pause.
local names, running = { default = true }, count_running()
for _, name in ipairs(call('SMEMBERS', QUEUES)) do names[name] = true end
for _, name in ipairs(call('HKEYS', PAUSED)) do names[name] = true end
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
