-- Shows some of the runs that are not shown yet. Arguments: how many at most, and 1 for those too that are fresh.
-- Answers how many are left.
local most, left = tonumber(ARGV[1]), 0
local seen = show_unshown(most)
left = call('LLEN', UNSHOWN)
if ARGV[2] == '1' then
  local names = call('SMEMBERS', QUEUES)
  names[#names + 1] = 'default'
  for _, name in ipairs(names) do
    local ready = ready_in(name)
    if seen < most then seen = seen + unfreshen(ready, most - seen) end
    left = left + call('LLEN', fresh_of(ready))
  end
end
return left
