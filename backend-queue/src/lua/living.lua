-- Some of the runs of a task that have not ended and are not for later.
-- Arguments: the task, how many at most of those that live and of those that wait for their turn, and the queue in
-- which others are most likely.
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
-- another one before. They are looked for among the latest, of that queue and, together not more, of all others.
local others, looked = tonumber(call('HGET', COUNT, task) or 0), 0

local seen = {}

local function add_others(some, is_listed)
  runs = runs_of(some)
  for i = 1, #some do
    if others <= 0 or bytes >= LARGEST then return end
    local run = runs[i]
    if run and not seen[some[i]] and byte(run, 38) % 2 == 0 and (byte(run, 1) == S_FRESH) == is_listed and byte(run, 1) > S_SCHEDULED
        and byte(run, 1) <= S_FRESH and byte(run, 1) ~= S_HELD and task_of(run) == task then
      add(some[i], run)
      seen[some[i]] = true
      others = others - 1
    end
  end
end

-- Looks at the latest of a list, in portions, and at most at so many of them; says at how many it was.
local function add_latest(list, count, is_listed)
  local passed = 0
  while others > 0 and bytes < LARGEST and passed < count do
    local some = call('LRANGE', list, -math.min(count, passed + most), -passed - 1)
    if is_listed then
      for i = 1, #some do some[i] = sub(some[i], 8) end
    end
    add_others(some, is_listed)
    passed = passed + #some
    if #some < most then break end
  end
  return passed
end

if others > 0 then
  local own, left = fresh_of(ready_in(ARGV[3])), 5 * most
  add_latest(own, left, true)
  local names = call('SMEMBERS', QUEUES)
  names[#names + 1] = 'default'
  for i, name in ipairs(names) do
    -- What one list leaves is for those behind it.
    local each = math.max(1, math.floor(left / (#names - i + 1)))
    -- A list in which nothing is found costs a call as well.
    if left <= 0 or others <= 0 then break end
    local list = fresh_of(ready_in(name))
    if list ~= own then left = left - math.max(1, add_latest(list, math.min(each, left), true)) end
  end
  add_latest(UNSHOWN, 5 * most, false)
end
while others > 0 and looked < 5 * most and bytes < LARGEST do
  local some = call('ZRANGE', SHOWN .. ':' .. task, looked, looked + most - 1, 'REV')
  if #some == 0 then break end
  add_others(some, false)
  looked = looked + #some
end
return found
