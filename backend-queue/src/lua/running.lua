-- How many runs are under way, by where those of their queue are that are ready.
local RUNNING = 10000

local function count_running()
  local running = {}
  local members = call('ZRANGE', LEASE, 0, RUNNING - 1)
  for from = 1, #members, CHUNK do
    local ids = {}
    for i = from, math.min(from + CHUNK - 1, #members) do ids[#ids + 1] = sub(members[i], 9) end
    local runs = runs_of(ids)
    for i = 1, #ids do
      local at = runs[i] and ready_of(runs[i])
      if at then running[at] = (running[at] or 0) + 1 end
    end
  end
  return running
end

