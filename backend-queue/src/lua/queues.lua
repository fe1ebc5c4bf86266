-- How the queues stand, those without anything left out: of each its name, how many runs are ready and under way,
-- since when the oldest is due or nothing, whether it is paused, and the pause.
-- Arguments: none; or, where too many are under way to be counted here, 1, and of each place where runs are that are
-- ready how many of its runs are under way. Answers whether it could count them, and the queues.
local RUNNING = 10000
local names, running = { default = true }, {}
if ARGV[1] then
  for i = 2, #ARGV, 2 do running[ARGV[i]] = tonumber(ARGV[i + 1]) end
else
  if call('ZCARD', LEASE) > RUNNING then return { 0, {} } end
  for from = 0, RUNNING - 1, CHUNK do
    local members = call('ZRANGE', LEASE, from, from + CHUNK - 1)
    for _, at in ipairs(places_of(members)) do
      if at then running[at] = (running[at] or 0) + 1 end
    end
    if #members < CHUNK then break end
  end
end
-- Where it is kept how many there are, all are counted.
for _, kept in ipairs(limited) do
  local count = call('HLEN', kept.under)
  if kept.phase ~= 'b' and count > 0 then running[kept.ready] = count end
end
for _, name in ipairs(call('SMEMBERS', QUEUES)) do names[name] = true end
for _, name in ipairs(call('HKEYS', PAUSED)) do names[name] = true end
local found = {}
for name in pairs(names) do
  local at = ready_in(name)
  local fresh = fresh_of(at)
  local waiting = call('ZCARD', at) + call('LLEN', fresh) - (call('HGET', GONE, fresh) or 0)
  local is_paused, pause = pause_of(name)
  local oldest = oldest_in(at)
  if waiting > 0 or running[at] or is_paused then
    found[#found + 1] = { name, waiting, running[at] or 0, oldest and string.format('%.0f', oldest) or '',
      is_paused and 1 or 0, pause or '' }
  end
end
return { 1, found }
