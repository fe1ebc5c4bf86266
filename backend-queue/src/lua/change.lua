-- Writing: commands are sent with many values at once.
local function send(command, key, values, count)
  if count <= CHUNK and count > 0 then return call(command, key, unpack(values, 1, count)) end
  for from = 1, count, CHUNK do
    call(command, key, unpack(values, from, math.min(from + CHUNK - 1, count)))
  end
end

-- Those that come one by one are collected.
local todo, counts = {}, {}

local function later(command, key, value, other)
  local of = todo[command]
  if not of then
    of = {}
    todo[command] = of
  end
  local values = of[key]
  if not values then
    values = { n = 0 }
    of[key] = values
  end
  local n = values.n + 1
  values[n] = value
  if other then
    n = n + 1
    values[n] = other
  end
  values.n = n
end

-- Counts runs of a task that take no turns and live from now on, or no longer.
local function count(task, more)
  counts[task] = (counts[task] or 0) + more
end

local function flush()
  for command, of in pairs(todo) do
    for key, values in pairs(of) do send(command, key, values, values.n) end
  end
  for task, more in pairs(counts) do
    if more ~= 0 and call('HINCRBY', COUNT, task, more) <= 0 then call('HDEL', COUNT, task) end
  end
  todo, counts = {}, {}
end

-- Keeps a run: `head` is all of it before the envelope, which is large or not.
local function put(id, head, envelope, is_big)
  local flags = byte(head, 38)
  if is_big then later('HSET', BIG, id, envelope) end
  if is_big ~= (flags % 4 >= 2) then
    if not is_big then later('HDEL', BIG, id) end
    head = sub(head, 1, 37) .. char(flags + (is_big and 2 or -2)) .. sub(head, 39)
  end
  later('HSET', RUN, id, is_big and head or head .. envelope)
end

local is_any_odd = call('HLEN', ODD) > 0
-- How many runs became ready, by where they are then.
local became_ready = {}
-- The tasks of which something has ended or waits for its turn.
local turns = {}

-- Higher priorities first, then what is due earlier: both in one number below 2^53.
local function rank_of(priority, due)
  return (15 - math.min(15, priority)) * 2 ^ 49 + math.max(-2 ^ 48, math.min(2 ^ 48 - 1, due)) + 2 ^ 48
end

local function rank_of_run(run)
  return rank_of(byte(run, 37), (parse('>i8', run, 29)))
end

local function make_ready(id, run)
  local ready = ready_of(run)
  later('ZADD', ready, rank_of_run(run), sub(run, 22, 28) .. id)
  became_ready[ready] = (became_ready[ready] or 0) + 1
end

-- Shows a run by its fire time, the task's name being that of the run.
local function show(id, run)
  local fire = parse('>i8', run, 43)
  later('ZADD', SHOWN, fire, id)
  later('ZADD', SHOWN .. ':' .. task_of(run), fire, id)
end

-- Shows the first of those that are not, as far as they are there.
local function show_unshown(most)
  local ids = most > 0 and call('LRANGE', UNSHOWN, 0, most - 1) or {}
  if #ids == 0 then return 0 end
  local runs = runs_of(ids)
  for i = 1, #ids do
    if runs[i] then show(ids[i], runs[i]) end
  end
  call('LTRIM', UNSHOWN, #ids, -1)
  flush()
  return #ids
end

-- Notes that so many members of a list of fresh runs, which have no run any more, are there or there no longer.
local function note_gone(fresh, more)
  if more ~= 0 and call('HINCRBY', GONE, fresh, more) <= 0 then call('HDEL', GONE, fresh) end
end

-- Moves the first of the fresh runs of a queue to the others that are ready; answers how many members that were, and
-- how many of them had no run any more.
local function unfreshen(ready, most)
  local fresh = fresh_of(ready)
  local members, gone = call('LRANGE', fresh, 0, most - 1), 0
  if #members == 0 then return 0, 0 end
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  local runs = runs_of(ids)
  for i = 1, #members do
    local run = runs[i]
    if not is_of(members[i], run) then
      gone = gone + 1
    else
      if byte(run, 1) == S_FRESH then
        run = char(S_READY) .. sub(run, 2)
        later('HSET', RUN, ids[i], run)
      end
      later('ZADD', ready, rank_of_run(run), members[i])
      show(ids[i], run)
    end
  end
  call('LTRIM', fresh, #members, -1)
  note_gone(fresh, -gone)
  flush()
  return #members, gone
end

-- A run lives no longer.
local function unlive(id, run, task)
  if byte(run, 38) % 2 == 1 then later('SREM', LIVE .. task, id) else count(task, -1) end
  turns[task] = true
end

-- Lets a run wait for its turn, in the order of insertion.
local function hold(member, task)
  later('ZADD', HELD .. task, 0, member)
  turns[task] = true
end

-- A run that has ended is kept by when it finished, one that failed as a dead letter.
local function archive(id, run)
  local member = sub(run, 22, 28) .. id
  if byte(run, 1) == S_FAILED then
    local fire = parse('>i8', run, 43)
    later('ZADD', LETTERS, fire, id)
    later('ZADD', LETTERS .. ':' .. task_of(run), fire, id)
    later('ZADD', DIED, now, member)
  elseif sub(run, 14, 21) == NEVER then
    later('ZADD', ENDED, '+inf', member)
  else
    later('ZADD', ENDED, parse('>i8', run, 14), member)
  end
end

-- Notes when a run of a task finished, for a trigger that follows it.
local function note_finish(task, at)
  local known = call('HMGET', TASK .. task, 'revision', 'finished')
  if known[1] and at > (tonumber(known[2]) or -math.huge) then
    call('HSET', TASK .. task, 'finished', at)
  end
end

-- How many runs of a task live, but for what is for later and what waits for its turn.
local function living(task)
  return call('SCARD', LIVE .. task) + (call('HGET', COUNT, task) or 0)
end

-- Lets the first of the runs that wait for their turn go on, of each task of which nothing else lives.
local function release()
  if is_any_odd then
    for _, field in ipairs(call('HKEYS', ODD)) do
      if byte(field, 1) == 116 then
        turns[sub(field, 2)] = true
        call('HDEL', ODD, field)
      end
    end
  end
  flush()
  for task in pairs(turns) do
    if call('EXISTS', HELD .. task) == 1 and living(task) == 0 then
      local first = call('ZPOPMIN', HELD .. task)[1]
      local id = sub(first, 8)
      local run = call('HGET', RUN, id)
      if run then
        run = char(S_READY) .. sub(run, 2)
        later('HSET', RUN, id, run)
        later('SADD', LIVE .. task, id)
        make_ready(id, run)
      else
        later('HSET', ODD, 't' .. task, '')
      end
    end
  end
  turns = {}
  flush()
end
