-- What there is to do: how many runs wait, since when the oldest of them that may begin is due (nothing
-- for none), how many are ahead, how many are under way, and how many dead letters there are.
local ahead = call('ZCOUNT', DELAYED, '(' .. string.format('%.0f', now), '+inf')
local under_way, letters = call('ZCARD', LEASE), call('ZCARD', LETTERS)
local waiting = call('HLEN', RUN) - under_way - call('ZCARD', ENDED) - letters - ahead

local oldest
local function note(due)
  if due and (not oldest or due < oldest) then oldest = due end
end
local first = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')[2]
if first and tonumber(first) <= now then note(tonumber(first)) end
local names = call('SMEMBERS', QUEUES)
names[#names + 1] = 'default'
for _, name in ipairs(names) do note(oldest_in(ready_in(name))) end
return { math.max(0, waiting), oldest and string.format('%.0f', oldest) or false, ahead, under_way, letters }
