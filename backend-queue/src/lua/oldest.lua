-- How many members of an index by time lie beyond its bounds: it keeps the newest `keep` for so long.
local function too_many(key, keep, age)
  return math.max(call('ZCARD', key) - keep, call('ZCOUNT', key, '-inf', now - age))
end

-- The oldest of such an index, behind `skip` of them: their ids, and the members themselves.
local function oldest_ids(key, skip, count)
  local members = count > 0 and call('ZRANGE', key, skip, skip + count - 1) or {}
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  return ids, members
end

-- As `oldest_ids`, with the runs between the two.
local function oldest(key, skip, count)
  local ids, members = oldest_ids(key, skip, count)
  return ids, runs_of(ids), members
end
