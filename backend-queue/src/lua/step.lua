-- Acknowledges, makes ready what is due, and claims.
-- Arguments: the lease, how many to claim, who asks and the number of the step, how many queues to claim from and of
-- each its name, its share and its limits (all from `default` where there are none), and the acknowledgements.
local lease, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local told, number = TOLD .. ARGV[3], tonumber(ARGV[4])
local before = call('GETRANGE', told, 0, 7)
-- It was given up while it was on its way: whoever sent it has asked about it since.
if #before == 8 and parse('>I8', before) >= number then return { {}, {}, -1, 0, now, {}, {}, {} } end
local shares = tonumber(ARGV[5])
local first = 6 + 3 * shares
-- A key of a wrong type shows here, before anything is written.
local is_any_paused = limit > 0 and call('HLEN', PAUSED) > 0
if #ARGV >= first then
  call('ZCARD', ENDED)
  acknowledge(first, false)
  flush()
end

local function split(members)
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  return ids, runs_of(ids)
end

local function next_due()
  return tonumber(call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')[2])
end

local NEW_ATTEMPT, FIRST_ATTEMPT = '\0\0\0\0', '\4\0\0\0\1'

local due_at = next_due()
if due_at and due_at <= now then
  local due = call('ZRANGE', DELAYED, '-inf', now, 'BYSCORE', 'LIMIT', 0, CHUNK)
  local ids, runs = split(due)
  for i = 1, #due do
    local id, run = ids[i], runs[i]
    later('ZREM', DELAYED, due[i])
    -- Whatever is under way or has ended does not begin by its place here.
    if run and byte(run, 1) < S_RUNNING then
      local is_new, flags = byte(run, 1) == S_SCHEDULED, byte(run, 38)
      local is_held = is_new and flags % 2 == 1
      if flags % 32 >= 16 then
        -- It comes back from its line as old as it is.
        run = sub(run, 1, 28) .. pack('>i8', math.min(now, (parse('>i8', run, 43)))) .. sub(run, 37, 37)
          .. char(flags - 16) .. sub(run, 39)
      end
      run = char(is_held and S_HELD or S_READY) .. sub(run, 2)
      later('HSET', RUN, id, run)
      if is_held then
        hold(due[i], task_of(run))
      else
        make_ready(id, run)
        if is_new then count(task_of(run), 1) end
      end
    end
  end
  flush()
  due_at = next_due()
end
release()
if #limited > 0 then forget_unasked() end

local claimed, found, has_more = {}, 0, 0
local leases = {}
-- The fences that are given, of which some may be of nothing.
local first_fence, last_fence = 0, -1
-- What is taken in its order. Either all of it is fresh or none of it is, and it comes from one queue, or `from` says of
-- each from which, and `upto` of what is fresh how much of its list has been passed then.
local ready, taken, is_fresh = {}, 0, false
local from, upto, open, paused = nil, {}, {}, {}

-- Takes from several queues, or from one that has limits or may be paused, or where not all is of one kind.
local function take_from_each()
  from = {}
  open[1] = { name = 'default', ready = READY, share = limit }
  for i = 1, shares do
    local at = 3 + 3 * i
    open[i] = { name = ARGV[at], ready = ready_in(ARGV[at]), share = tonumber(ARGV[at + 1]),
      limits = ARGV[at + 2] ~= '' and ARGV[at + 2] }
  end
  if is_any_paused then
    local all = open
    open = {}
    for i = 1, #all do
      local name = all[i].name
      if pause_of(name) then paused[#paused + 1] = name else open[#open + 1] = all[i] end
    end
  end
  local gate

  local function take(queue, member, listed)
    local at = #ready + 1
    ready[at], from[at], upto[at] = member, queue, listed
    queue.taken = queue.taken + 1
  end

  -- Sees to it that so many of the first runs of a queue are in their order, if there are; says whether they are.
  local function sort_first(queue, count)
    local first = call('LINDEX', queue.fresh, 0)
    if not first then return true end
    local last = call('ZRANGE', queue.ready, count - 1, count - 1, 'WITHSCORES')[2]
    local run = runs_of({ sub(first, 8) })[1]
    if last and is_of(first, run) and tonumber(last) < rank_of_run(run) then return true end
    -- Members without a run put nothing in front.
    local moved, passed = 0, 0
    while moved < count and passed < count + CHUNK do
      local some, gone = unfreshen(queue.ready, math.max(LOOKED, count - moved))
      if some == 0 then return true end
      moved, passed = moved + some - gone, passed + some
    end
    return moved >= count
  end

  -- As `take_some`, of a queue with limits. What may not begin leaves it, so those that were taken stay in front.
  local function take_admitted(queue, most)
    if queue.is_closed or queue.is_left then return end
    local waiting = call('ZCARD', queue.ready) + call('LLEN', queue.fresh) - (call('HGET', GONE, queue.fresh) or 0)
    -- Where nothing may begin, nothing is looked at.
    if waiting > queue.taken and (most == 0 or not gate.is_open(queue)) then
      queue.has_more = not queue.is_closed
      return
    end
    local count = math.min(most, gate.room_in(queue)) + LOOKED
    if not sort_first(queue, queue.taken + count) then
      queue.is_left, queue.has_more = true, true
      return
    end
    local some = call('ZRANGE', queue.ready, queue.taken, queue.taken + count - 1)
    local _, runs = split(some)
    local last = queue.taken + most
    queue.has_more = #some == count
    for i = 1, #some do
      if queue.taken == last then
        queue.has_more = true
        return
      end
      -- What has no run is taken, and nothing comes of it.
      if not runs[i] or gate.admit(queue, some[i], runs[i]) then take(queue, some[i]) end
      if queue.is_closed or queue.is_left then
        queue.has_more = not queue.is_closed
        return
      end
    end
  end

  -- Takes up to so many more from a queue, and notes whether it has others.
  local function take_some(queue, most)
    if queue.limits then return take_admitted(queue, most) end
    local sorted = call('ZRANGE', queue.ready, queue.sorted, queue.sorted + most, 'WITHSCORES')
    local listed = call('LRANGE', queue.fresh, queue.listed, queue.listed + most)
    queue.has_more = #sorted / 2 + #listed > most
    local is_looked_at, _, runs = #listed > 0 and (#sorted > 0 or queue.has_gone)
    if is_looked_at then _, runs = split(listed) end
    local s, l = 1, 1
    for _ = 1, most do
      while runs and l <= #listed and not is_of(listed[l], runs[l]) do l = l + 1 end
      local is_listed = l <= #listed
      if s < #sorted and is_listed then
        local rank, other = rank_of_run(runs[l]), tonumber(sorted[s + 1])
        is_listed = rank < other or rank == other and parse('>I7', listed[l]) < parse('>I7', sorted[s])
      end
      if is_listed then
        take(queue, listed[l], queue.listed + l)
        l = l + 1
      elseif s < #sorted then
        take(queue, sorted[s])
        s = s + 2
      else
        break
      end
    end
    queue.sorted, queue.listed = queue.sorted + (s - 1) / 2, queue.listed + l - 1
  end

  for i = 1, #open do
    local queue = open[i]
    queue.fresh, queue.taken, queue.sorted, queue.listed = fresh_of(queue.ready), 0, 0, 0
    queue.has_gone = call('HEXISTS', GONE, queue.fresh) == 1
    if queue.limits then
      gate = gate or admission()
      gate.prepare(queue)
    end
  end
  for i = 1, #open do take_some(open[i], math.min(open[i].share, limit - #ready)) end
  for i = 1, #open do
    -- What is left goes to whoever comes first.
    if open[i].has_more and #ready < limit then take_some(open[i], limit - #ready) end
    if open[i].has_more then has_more = 1 end
  end
  taken = #ready
  if is_any_aside then
    flush()
    due_at = next_due()
  end
end

-- Takes what was taken out of where it waited.
local function take_out()
  if not from then
    if is_fresh then call('LTRIM', FRESH, taken, -1) else call('ZREMRANGEBYRANK', READY, 0, taken - 1) end
    return
  end
  local is_all = taken == #ready
  for i = 1, #open do open[i].sorted, open[i].passed, open[i].kept = 0, is_all and open[i].listed or 0, 0 end
  for i = 1, taken do
    local queue = from[i]
    if queue.limits then
      later('ZREM', queue.ready, ready[i])
    elseif upto[i] then
      queue.passed, queue.kept = math.max(queue.passed, upto[i]), queue.kept + 1
    else
      queue.sorted = queue.sorted + 1
    end
  end
  for i = 1, #open do
    local queue = open[i]
    if queue.sorted > 0 then call('ZREMRANGEBYRANK', queue.ready, 0, queue.sorted - 1) end
    if queue.passed > 0 then
      call('LTRIM', queue.fresh, queue.passed, -1)
      note_gone(queue.fresh, queue.kept - queue.passed)
    end
  end
end

if limit > 0 then
  ready = shares == 0 and not is_any_paused and call('ZRANGE', READY, 0, limit) or ready
  is_fresh = #ready == 0 and call('HEXISTS', GONE, FRESH) == 0
  if shares > 0 or is_any_paused or not is_fresh and call('EXISTS', FRESH) == 1 then
    ready, is_fresh = {}, false
    take_from_each()
  else
    if is_fresh then ready = call('LRANGE', FRESH, 0, limit) end
    taken = math.min(#ready, limit)
    if #ready > limit then
      has_more = 1
      ready[#ready] = nil
    end
  end
end
if taken > 0 then
  local ids, runs = split(ready)
  local fence = call('INCRBY', FENCE, taken) - taken
  first_fence, last_fence = fence + 1, fence + taken
  local expiry = string.format('%.0f', now + lease)
  local values, unshown, bytes = {}, {}, 0
  for i = 1, taken do
    local id, run = ids[i], runs[i]
    if run then
      local delivery, attempt = pack('>I8', fence + i), sub(run, 2, 5)
      local flags = byte(run, 38)
      if flags >= 8 then run = sub(run, 1, 37) .. char(flags % 8) .. sub(run, 39) end
      local begin = attempt == NEW_ATTEMPT and FIRST_ATTEMPT or pack('>BI4', S_RUNNING, parse('>I4', attempt) + 1)
      run = begin .. delivery .. sub(run, 14)
      values[found + 1] = id
      values[found + 2] = run
      leases[found + 1] = expiry
      leases[found + 2] = delivery .. id
      if is_fresh or upto[i] then unshown[#unshown + 1] = id end
      if flags % 4 >= 2 then run = whole(id, run) end
      claimed[found + 1] = id
      claimed[found + 2] = run
      found = found + 2
      bytes = bytes + #run
      if bytes > LARGEST then
        taken, has_more = i, 1
        break
      end
    end
  end
  send('ZADD', LEASE, leases, found)
  if #limited > 0 then charge(leases, claimed, found) end
  send('HSET', RUN, values, found)
  send('RPUSH', UNSHOWN, unshown, #unshown)
end
if taken > 0 or from then
  take_out()
  flush()
end
-- Others are told of what is left, and of what is in queues that are not taken from here.
if next(became_ready) then
  local served = { [READY] = limit > 0 and has_more == 0 and shares == 0 and not is_any_paused }
  for i = 1, #open do served[open[i].ready] = has_more == 0 end
  for at in pairs(became_ready) do
    if not served[at] then
      call('PUBLISH', WAKE, '')
      break
    end
  end
end
-- The answer may be lost on its way; it can be asked for again.
if #ARGV >= first or found > 0 then
  local answer = cmsgpack.pack({ refused, first_fence, last_fence, marked, reasons })
  call('SET', told, pack('>I8', number) .. answer, 'PX', REMEMBERED)
end
if opens_at then due_at = math.min(due_at or math.huge, opens_at) end
return { refused, claimed, due_at and math.max(0, due_at - now) or -1, has_more, now, marked, reasons, paused }
