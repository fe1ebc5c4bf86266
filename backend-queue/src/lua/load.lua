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
-- What is ready lies in the order of priorities, and of each the oldest comes first.
for level = 0, 15 do
  local low = level * 2 ^ 49
  local from, to = string.format('%.0f', low), string.format('(%.0f', low + 2 ^ 49)
  local ready = call('ZRANGE', READY, from, to, 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')[2]
  if ready then note(tonumber(ready) - low - 2 ^ 48) end
end
return { math.max(0, waiting), oldest or false, ahead, under_way, letters }
