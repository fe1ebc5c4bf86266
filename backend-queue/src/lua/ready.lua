-- Since when the oldest run that is ready at a place is due; nothing for none. They lie in the order of priorities, and of
-- each the oldest comes first.
local function oldest_in(at)
  local oldest
  for rank = 0, call('ZCARD', at) > 0 and 15 or -1 do
    local first = rank * 2 ^ 49
    local some = call('ZRANGE', at, string.format('%.0f', first), string.format('(%.0f', first + 2 ^ 49), 'BYSCORE',
      'LIMIT', 0, 1, 'WITHSCORES')
    local due = some[2] and tonumber(some[2]) - first - 2 ^ 48
    if due then oldest = math.min(oldest or due, due) end
  end
  for _, member in ipairs(call('LRANGE', fresh_of(at), 0, 99)) do
    local run = runs_of({ sub(member, 8) })[1]
    if is_of(member, run) then
      local due = parse('>i8', run, 29)
      return math.min(oldest or due, due)
    end
  end
  return oldest
end

