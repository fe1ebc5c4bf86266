-- Looks at the runs under way.
local RUNNING = 10000

local function each_running(look)
  local members = call('ZRANGE', LEASE, 0, RUNNING - 1)
  for from = 1, #members, CHUNK do
    local ids = {}
    for i = from, math.min(from + CHUNK - 1, #members) do ids[#ids + 1] = sub(members[i], 9) end
    local runs = runs_of(ids)
    for i = 1, #ids do
      if runs[i] then look(ids[i], runs[i]) end
    end
  end
end

-- How many runs are under way, by where those of their queue are that are ready.
local function count_running()
  local running = {}
  each_running(function(_, run)
    local at = ready_of(run)
    running[at] = (running[at] or 0) + 1
  end)
  return running
end

