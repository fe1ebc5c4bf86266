-- Some of the runs of a task that have not ended and are not for later.
-- Arguments: the task, and how many at most of those that live and of those that wait for their turn.
local task, most = ARGV[1], tonumber(ARGV[2])
local ids = call('SRANDMEMBER', LIVE .. task, most)
for _, member in ipairs(call('ZRANGE', HELD .. task, 0, most - 1)) do ids[#ids + 1] = sub(member, 8) end
local found, bytes = {}, 0

local function add(id, run)
  run = whole(id, run)
  found[#found + 1] = { id, run }
  bytes = bytes + #run
end

local runs = runs_of(ids)
for i = 1, #ids do
  if runs[i] and bytes < LARGEST then add(ids[i], runs[i]) end
end
-- Those that take no turns are counted only, because where others give way there are none, unless the task was
-- another one before. They are looked for among the latest.
local others, looked = tonumber(call('HGET', COUNT, task) or 0), 0

local seen = {}

local function add_others(some, is_listed)
  runs = runs_of(some)
  for i = 1, #some do
    local run = runs[i]
    if run and not seen[some[i]] and byte(run, 38) % 2 == 0 and (byte(run, 1) == S_FRESH) == is_listed and byte(run, 1) > S_SCHEDULED
        and byte(run, 1) <= S_FRESH and byte(run, 1) ~= S_HELD and task_of(run) == task then
      add(some[i], run)
      seen[some[i]] = true
      others = others - 1
    end
  end
end

if others > 0 then
  local lists = call('SMEMBERS', QUEUES)
  for i = 1, #lists do lists[i] = fresh_of(ready_in(lists[i])) end
  lists[#lists + 1] = FRESH
  for _, list in ipairs(lists) do
    for back = 1, 5 do
      local members = call('LRANGE', list, -back * most, -(back - 1) * most - 1)
      for i = 1, #members do members[i] = sub(members[i], 8) end
      add_others(members, true)
    end
  end
  add_others(call('LRANGE', UNSHOWN, -5 * most, -1), false)
end
while others > 0 and looked < 5 * most and bytes < LARGEST do
  local some = call('ZRANGE', SHOWN .. ':' .. task, looked, looked + most - 1, 'REV')
  if #some == 0 then break end
  add_others(some, false)
  looked = looked + #some
end
return found
