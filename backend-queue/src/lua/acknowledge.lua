-- Writes how attempts ended; says which were too late, by their place, and which were not written because they ask
-- for another attempt of a run that shall be cancelled, with the reasons.
--
-- They stand in the arguments from `first` on in groups: a task, its kind, how many, and of each its fence and id
-- in one, what its run begins with then, when it finished or how long the next attempt waits, and the envelope.
-- The kind is 1 where the task follows its finish, 2 where the envelope stays, 4 for large envelopes, or a sum.
-- With 8, all have ended without failing, the second argument is the whole run, and the last its place in the order
-- and its id in one; with 16 such runs take turns.
local refused, counted = {}, 0
-- The deliveries that have ended.
local ended = {}
local marked, reasons = {}, {}

local function is_delivery(run, delivery)
  return run and #run > 51 and byte(run, 1) == S_RUNNING and sub(run, 6, 13) == sub(delivery, 1, 8)
end

local function end_whole(next, members, task, kind)
  local deliveries, ids = {}, {}
  for i = 1, members do
    local delivery = ARGV[next + 4 * i - 4]
    deliveries[i] = delivery
    ended[#ended + 1] = delivery
    ids[i] = sub(delivery, 9)
  end
  -- Who holds a lease holds the delivery; where one does not, the runs say which.
  local is_all = call('ZREM', LEASE, unpack(deliveries)) == members
  local runs = is_all or fields(RUN, ids)
  local values, over, gone, kept = {}, {}, {}, 0
  local latest = -math.huge
  for i = 1, members do
    local at, id = next + 4 * i - 4, ids[i]
    if is_all or is_delivery(runs[i], deliveries[i]) then
      local to = kept * 2
      kept = kept + 1
      values[to + 1] = id
      values[to + 2] = ARGV[at + 1]
      over[to + 1] = ARGV[at + 2]
      over[to + 2] = ARGV[at + 3]
      gone[kept] = id
    else
      refused[#refused + 1] = counted + i - 1
    end
  end
  send('ZADD', ENDED, over, kept * 2)
  send('HSET', RUN, values, kept * 2)
  if kept == 0 then return end
  turns[task] = true
  if kind >= 16 then send('SREM', LIVE .. task, gone, kept) else count(task, -kept) end
  if is_any_odd then
    for i = 1, kept do later('HDEL', ODD, 'c' .. gone[i]) end
  end
  if kind % 2 == 1 then
    for i = 1, kept * 2, 2 do latest = math.max(latest, tonumber(over[i])) end
    note_finish(task, latest)
  end
end

local function end_one(at, run, task, kind)
  local delivery, head, when = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local id, state, length = sub(delivery, 9), byte(head, 1), 51 + byte(run, 51)
  local is_big = kind >= 4
  later('ZREM', LEASE, delivery)
  ended[#ended + 1] = delivery
  if state < S_READY then
    local due = now + when
    later('ZADD', DELAYED, due, sub(run, 22, 28) .. id)
    head = head .. sub(run, 22, 28) .. pack('>i8', due) .. sub(run, 37, length)
  else
    head = head .. sub(run, 22, length)
  end
  if kind % 4 >= 2 then
    later('HSET', RUN, id, head .. sub(run, length + 1))
  else
    put(id, head, ARGV[at + 3], is_big)
  end
  if state == S_READY then
    make_ready(id, head)
  elseif state > S_READY then
    unlive(id, run, task)
    archive(id, head)
    if kind % 2 == 1 and when ~= '' then note_finish(task, tonumber(when)) end
    if is_any_odd then later('HDEL', ODD, 'c' .. id) end
  end
end

local function acknowledge(first, is_reaping)
  local next = first
  while next <= #ARGV do
    local task, kind, members = ARGV[next], tonumber(ARGV[next + 1]), tonumber(ARGV[next + 2])
    next = next + 3
    if kind >= 8 then
      end_whole(next, members, task, kind)
    else
      local ids = {}
      for i = 1, members do ids[i] = sub(ARGV[next + 4 * i - 4], 9) end
      local runs = fields(RUN, ids)
      for i = 1, members do
        local at = next + 4 * i - 4
        local is_held, is_due = is_delivery(runs[i], ARGV[at]), true
        if is_reaping then
          local lease = call('ZSCORE', LEASE, ARGV[at])
          is_due = lease and tonumber(lease) < now
          -- A lease of a delivery that is none any more would be found for ever.
          if is_due and not is_held then
            later('ZREM', LEASE, ARGV[at])
            ended[#ended + 1] = ARGV[at]
          end
        end
        -- One that was given back is ready at once, and so is one whose lease has expired.
        local state = byte(ARGV[at + 1], 1)
        local goes_on = is_any_odd and (state < S_READY or state == S_READY and not is_reaping)
        local reason = goes_on and is_held and is_due and call('HGET', ODD, 'c' .. ids[i])
        if reason then
          marked[#marked + 1] = counted + i - 1
          reasons[#reasons + 1] = reason
        elseif is_held and is_due then
          end_one(at, runs[i], task, kind)
        else
          refused[#refused + 1] = counted + i - 1
        end
      end
    end
    next, counted = next + 4 * members, counted + members
  end
  if #limited > 0 then discharge(ended) end
end
