-- How many members of an index by time lie beyond its bounds: it keeps the newest `keep` for so long.
local function too_many(key, keep, age)
  return math.max(call('ZCARD', key) - keep, call('ZCOUNT', key, '-inf', now - age))
end

-- The oldest members of such an index, behind `skip` of them: ids, runs, and the members themselves.
local function oldest(key, skip, count)
  local members = count > 0 and call('ZRANGE', key, skip, skip + count - 1) or {}
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  return ids, runs_of(ids), members
end
