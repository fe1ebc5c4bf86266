-- How the queues stand, those without anything left out: of each its name, how many runs wait, ready or in a line, and
-- are under way, since when the oldest of those that wait is due or nothing, whether it is paused, and the pause.
-- Arguments: none; or, where too many are under way to be counted here, 1, and of each place where runs are that are
-- ready how many of its runs are under way. Answers whether it could count them, and the queues.
local RUNNING = 10000
-- How many members of lines are looked at, of all queues that have some together, and how many lines of each.
local IN_LINES = 2000
local names, running = { default = true }, {}
if ARGV[1] then
  for i = 2, #ARGV, 2 do running[ARGV[i]] = tonumber(ARGV[i + 1]) end
else
  if call('ZCARD', LEASE) > RUNNING then return { 0, {} } end
  for from = 0, RUNNING - 1, CHUNK do
    local members = call('ZRANGE', LEASE, from, from + CHUNK - 1)
    for _, at in ipairs(places_of(members)) do
      if at then running[at] = (running[at] or 0) + 1 end
    end
    if #members < CHUNK then break end
  end
end
-- Where it is kept how many there are, all are counted.
for _, kept in ipairs(limited) do
  local count = call('HLEN', kept.under)
  if kept.phase ~= 'b' and count > 0 then running[kept.ready] = count end
end
for _, name in ipairs(call('SMEMBERS', QUEUES)) do names[name] = true end
for _, name in ipairs(call('HKEYS', PAUSED)) do names[name] = true end
local lined = {}
for name in pairs(names) do
  if call('EXISTS', LINES .. name) == 1 then lined[#lined + 1] = name end
end

-- How many runs of a queue wait in lines, and since when the oldest of so many that are looked at is due. What was cancelled,
-- or has left its line by itself, is still a member; of those that are not looked at it counts.
local function in_lines(name, most)
  local count, oldest = 0, nil
  for _, key in ipairs(call('ZRANGE', LINES .. name, 0, IN_LINES - 1)) do
    local line, members, ids = base .. 'line:' .. name .. '/' .. key, {}, {}
    if most > 0 then members = call('ZRANGE', line, 0, most - 1) end
    for i = 1, #members do ids[i] = sub(members[i], 8) end
    local runs = fields(RUN, ids)
    for i = 1, #members do
      local run = runs[i]
      if run and #run > 51 and byte(run, 1) == S_SNOOZED and byte(run, 38) % 32 >= 16
          and sub(run, 22, 28) == sub(members[i], 1, 7) then
        count = count + 1
        oldest = math.min(oldest or now, (parse('>i8', run, 43)))
      end
    end
    if #members >= most then count = count + call('ZCARD', line) - #members end
    most = math.max(0, most - math.max(1, #members))
  end
  return count, oldest
end

local waiting_in_lines, oldest_of_lines = {}, {}
for _, name in ipairs(lined) do
  waiting_in_lines[name], oldest_of_lines[name] = in_lines(name, math.max(1, math.floor(IN_LINES / #lined)))
end
local found = {}
for name in pairs(names) do
  local at = ready_in(name)
  local fresh = fresh_of(at)
  local waiting = call('ZCARD', at) + call('LLEN', fresh) - (call('HGET', GONE, fresh) or 0)
    + (waiting_in_lines[name] or 0)
  local is_paused, pause = pause_of(name)
  local oldest, of_lines = oldest_in(at), oldest_of_lines[name]
  if of_lines then oldest = math.min(oldest or of_lines, of_lines) end
  if waiting > 0 or running[at] or is_paused then
    found[#found + 1] = { name, waiting, running[at] or 0, oldest and string.format('%.0f', oldest) or '',
      is_paused and 1 or 0, pause or '' }
  end
end
return { 1, found }
