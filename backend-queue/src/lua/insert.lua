-- Adds runs that are not there yet; says 1 or 0 of each.
--
-- They stand in the arguments from `first` to `last` in groups: a task, with a queue behind an `@`, its kind, how many, and of each run its
-- place in the call and its id in one, and what comes behind its state with the place in the call first; then the
-- state where it has ended, and the envelope where that is large. The kind is 1 for runs that take turns, 2 for runs
-- that have ended, 4 for large envelopes, 8 where a queue is named, 16 for runs of the usual priority that stand in the
-- order in which they are due and are nothing of that but 8, or a sum.
local NEW = { [S_SCHEDULED] = '\0', [S_READY] = '\3', [S_HELD] = '\5', [S_FRESH] = '\6' }
for state, start in pairs(NEW) do NEW[state] = start .. string.rep('\0', 12) .. NEVER end

-- How many members without a run may still be taken from lists of fresh runs, of whatever queue.
local to_pop = CHUNK

-- Whether what is due then may follow what a list of fresh runs ends with. Members without a run go.
local function may_follow(fresh, due)
  while true do
    local last = call('LINDEX', fresh, -1)
    if not last then return true end
    local run = runs_of({ sub(last, 8) })[1]
    if is_of(last, run) then return parse('>i8', run, 29) <= due end
    if to_pop == 0 then return false end
    to_pop = to_pop - 1
    call('RPOP', fresh)
    note_gone(fresh, -1)
  end
end

local function insert(first, last)
  local answers, answered = {}, 0
  local batch = pack('>I5', call('INCR', SEQ))
  local earliest = math.huge
  local next = first
  while next <= last do
    local task, kind, members = ARGV[next], tonumber(ARGV[next + 1]), tonumber(ARGV[next + 2])
    local takes_turns, has_ended, is_big = kind % 2 == 1, kind % 4 >= 2, kind % 8 >= 4
    local stride = 2 + (has_ended and 1 or 0) + (is_big and 1 or 0)
    local open = READY
    if kind % 16 >= 8 then
      local queue
      task, queue = string.match(task, '^([^@]*)@(.*)$')
      open = ready_in(queue)
      call('SADD', QUEUES, queue)
    end
    next = next + 3
    local ids = {}
    for i = 1, members do ids[i] = sub(ARGV[next + (i - 1) * stride], 3) end
    local there = fields(RUN, ids)
    local values, added = {}, 0
    local ready, made_ready = {}, 0
    local is_fresh = kind >= 16 and parse('>i8', ARGV[next + (members - 1) * stride + 1], 3) <= now
      and may_follow(fresh_of(open), (parse('>i8', ARGV[next + 1], 3)))
    if is_fresh then
      local head = NEW[S_FRESH] .. batch
      for i = 1, members do
        answered = answered + 1
        if there[i] then
          answers[answered] = 0
        else
          answers[answered] = 1
          made_ready = made_ready + 1
          ready[made_ready] = batch .. ARGV[next + 2 * i - 2]
          values[added + 1] = ids[i]
          values[added + 2] = head .. ARGV[next + 2 * i - 1]
          added = added + 2
        end
      end
      send('RPUSH', fresh_of(open), ready, made_ready)
    else
      local shown = {}
      for i = 1, members do
        answered = answered + 1
        if there[i] then
          answers[answered] = 0
        else
          answers[answered] = 1
          local at, id = next + (i - 1) * stride, ids[i]
          local member, rest = batch .. ARGV[at], ARGV[at + 1]
          values[added + 1] = id
          shown[added + 1] = parse('>i8', rest, 17)
          shown[added + 2] = id
          if is_big then later('HSET', BIG, id, ARGV[at + stride - 1]) end
          if has_ended then
            values[added + 2] = ARGV[at + 2] .. batch .. rest
            archive(id, values[added + 2])
          else
            local due, state = parse('>i8', rest, 3), S_READY
            if due > now then
              state = S_SCHEDULED
              later('ZADD', DELAYED, due, member)
              earliest = math.min(earliest, due)
            elseif takes_turns then
              state = S_HELD
              hold(member, task)
            else
              ready[made_ready * 2 + 1] = rank_of(byte(rest, 11), due)
              ready[made_ready * 2 + 2] = member
              made_ready = made_ready + 1
            end
            values[added + 2] = NEW[state] .. batch .. rest
          end
          added = added + 2
        end
      end
      send('ZADD', SHOWN, shown, added)
      send('ZADD', SHOWN .. ':' .. task, shown, added)
      send('ZADD', open, ready, made_ready * 2)
    end
    next = next + members * stride
    if made_ready > 0 then
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
