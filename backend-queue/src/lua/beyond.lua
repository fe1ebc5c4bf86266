-- The ended runs beyond bounds, the one that ended first first.
-- Arguments: how many are kept and for how long, behind how many, and how many at most. Told is of each its id, itself
-- without its envelope, and its size.
local function beyond()
  local skip, limit = tonumber(ARGV[3]), math.min(tonumber(ARGV[4]), CHUNK)
  local over = too_many(ENDED, tonumber(ARGV[1]), tonumber(ARGV[2]))
  local ids, runs = oldest(ENDED, skip, math.min(limit, over - skip))
  local told = {}
  for i = 1, #ids do
    local run, head, size = runs[i], '', 0
    if run then
      head, size = sub(run, 1, 51 + byte(run, 51)), #run
      if byte(run, 38) % 4 >= 2 then size = size + call('HSTRLEN', BIG, ids[i]) end
    end
    told[i] = { ids[i], head, size }
  end
  return ids, runs, told
end
