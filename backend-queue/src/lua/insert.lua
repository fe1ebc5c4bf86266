-- Adds `count` runs that are not there yet, each an id and a packed run from `first` on in the arguments.
local function insert(first, count)
  local ids, answers, seen = {}, {}, {}
  for i = 1, count do ids[i] = ARGV[first + 2 * i - 2] end
  local there = fields(RUN, ids)
  local seq = call('INCRBY', SEQ, count) - count
  local earliest = math.huge
  for i = 1, count do
    local id = ids[i]
    if there[i] or seen[id] then
      answers[i] = 0
    else
      answers[i] = 1
      seen[id] = true
      local run = ARGV[first + 2 * i - 1]
      local state, due, flags = byte(run, 1), parse('>i8', run, 14), byte(run, 37)
      if state < 10 then
        state = due > now and S_SCHEDULED or flags % 2 == 1 and S_HELD or S_READY
      end
      local head = 50 + byte(run, 50)
      run = char(state) .. sub(run, 2, 29) .. pack('>I6', seq + i) .. sub(run, 36)
      put(id, sub(run, 1, head), sub(run, head + 1))
      local task, fire = task_of(run), parse('>i8', run, 42)
      later('ZADD', SHOWN, fire, id)
      later('ZADD', SHOWN .. ':' .. task, fire, id)
      if state == S_READY then
        make_ready(id, run)
        make_live(id, run)
      elseif state == S_HELD then
        hold(id, run)
      elseif state == S_SCHEDULED then
        later('ZADD', DELAYED, due, sub(run, 30, 35) .. id)
        earliest = math.min(earliest, due)
      else
        archive(id, run)
      end
    end
  end
  -- Whoever sleeps until the next run is due must hear of an earlier one.
  if earliest < math.huge then
    local next = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    if not next[2] or tonumber(next[2]) > earliest then call('PUBLISH', WAKE, '') end
  end
  return answers
end
