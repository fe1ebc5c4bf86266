-- Adds runs that are not there yet; says 1 or 0 of each.
--
-- They stand in the arguments from `first` to `last` in groups: a task, with a queue behind an `@`, its kind, how many, and of each run its
-- place in the call and its id in one, its fire time, its rank among what is ready, and what comes behind its
-- state with the place in the call first. The kind is 1 for runs that take turns, 2 for runs that have ended, of
-- which the state comes in place of the rank, 4 for large envelopes, which come last, 8 where a queue is named, or a sum.
local NEW = { [S_SCHEDULED] = '\0', [S_READY] = '\3', [S_HELD] = '\5' }
for state, start in pairs(NEW) do NEW[state] = start .. string.rep('\0', 12) .. NEVER end

local function insert(first, last)
  local answers, answered = {}, 0
  local batch = pack('>I5', call('INCR', SEQ))
  local earliest = math.huge
  local next = first
  while next <= last do
    local task, kind, members = ARGV[next], tonumber(ARGV[next + 1]), tonumber(ARGV[next + 2])
    local takes_turns, has_ended, is_big = kind % 2 == 1, kind % 4 >= 2, kind % 8 >= 4
    local stride = is_big and 5 or 4
    local open = READY
    if kind >= 8 then
      local queue
      task, queue = string.match(task, '^([^@]*)@(.*)$')
      open = ready_in(queue)
      call('SADD', QUEUES, queue)
    end
    next = next + 3
    local ids = {}
    for i = 1, members do ids[i] = sub(ARGV[next + (i - 1) * stride], 3) end
    local there = fields(RUN, ids)
    local values, shown, added = {}, {}, 0
    local ready, made_ready = {}, 0
    for i = 1, members do
      answered = answered + 1
      if there[i] then
        answers[answered] = 0
      else
        answers[answered] = 1
        local at, id = next + (i - 1) * stride, ids[i]
        local place, rank, rest = ARGV[at], ARGV[at + 2], ARGV[at + 3]
        values[added + 1] = id
        shown[added + 1] = ARGV[at + 1]
        shown[added + 2] = id
        if is_big then later('HSET', BIG, id, ARGV[at + 4]) end
        if has_ended then
          values[added + 2] = rank .. batch .. rest
          archive(id, values[added + 2])
        else
          local due, state = parse('>i8', rest, 3), S_READY
          if due > now then
            state = S_SCHEDULED
            later('ZADD', DELAYED, due, batch .. place)
            earliest = math.min(earliest, due)
          elseif takes_turns then
            state = S_HELD
            hold(batch .. place, task)
          else
            ready[made_ready * 2 + 1] = rank
            ready[made_ready * 2 + 2] = batch .. place
            made_ready = made_ready + 1
          end
          values[added + 2] = NEW[state] .. batch .. rest
        end
        added = added + 2
      end
    end
    next = next + members * stride
    send('ZADD', SHOWN, shown, added)
    send('ZADD', SHOWN .. ':' .. task, shown, added)
    if made_ready > 0 then
      send('ZADD', open, ready, made_ready * 2)
      count(task, made_ready)
      became_ready[open] = (became_ready[open] or 0) + made_ready
    end
    -- Last, because a run that is there counts as added.
    flush()
    send('HSET', RUN, values, added)
  end
  -- Whoever sleeps until the next run is due must hear of an earlier one.
  if earliest < math.huge then
    local first_due = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')[2]
    if not first_due or tonumber(first_due) >= earliest then call('PUBLISH', WAKE, '') end
  end
  return answers
end
