-- Notes for how long tasks are served. Arguments: the length, and the tasks.
local until_when = tonumber(ARGV[1]) > 0 and now + ARGV[1] or 0
for i = 2, #ARGV do
  local key = TASK .. ARGV[i]
  if call('EXISTS', key) == 1 then call('HSET', key, 'served_until', until_when) end
end
return 0
