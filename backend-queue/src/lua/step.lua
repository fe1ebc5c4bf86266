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

local due_at = next_due()
if due_at and due_at <= now then
  local due = call('ZRANGE', DELAYED, '-inf', now, 'BYSCORE', 'LIMIT', 0, CHUNK)
  local ids, runs = split(due)
  for i = 1, #due do
    local id, run = ids[i], runs[i]
    later('ZREM', DELAYED, due[i])
    if run then
      local is_new = byte(run, 1) == S_SCHEDULED
      local is_held = is_new and byte(run, 38) % 2 == 1
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

local claimed, found, has_more = {}, 0, 0
local leases = {}
-- What is taken in its order, and beside others from which queue each is; the queues, and those that are paused.
local ready, taken = {}, 0
local from, open, paused = nil, {}, {}

-- Takes from several queues, or from one that has limits or may be paused.
local function take_from_each()
  from = {}
  open[1] = { name = 'default', ready = READY, share = limit, taken = 0 }
  for i = 1, shares do
    local at = 3 + 3 * i
    open[i] = { name = ARGV[at], ready = ready_in(ARGV[at]), share = tonumber(ARGV[at + 1]), taken = 0,
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
  local admit, prepare

  local function take(queue, member)
    ready[#ready + 1] = member
    from[#ready] = queue
    queue.taken = queue.taken + 1
  end

  -- As `take_some`, of a queue with limits. What may not begin leaves it, so those that were taken stay in front.
  local function take_admitted(queue, most)
    local some = call('ZRANGE', queue.ready, queue.taken, queue.taken + most + LOOKED - 1)
    local _, runs = split(some)
    local last = queue.taken + most
    queue.has_more = #some == most + LOOKED
    for i = 1, #some do
      if queue.taken == last then
        queue.has_more = true
        return
      end
      -- What has no run is taken, and nothing comes of it.
      if not runs[i] or admit(queue, some[i], runs[i]) then take(queue, some[i]) end
      if queue.is_closed then
        queue.has_more = false
        return
      end
    end
  end

  -- Takes up to so many more from a queue, and notes whether it has others.
  local function take_some(queue, most)
    if queue.limits then return take_admitted(queue, most) end
    local some = call('ZRANGE', queue.ready, queue.taken, queue.taken + most)
    queue.has_more = #some > most
    for i = 1, math.min(#some, most) do take(queue, some[i]) end
  end

  for i = 1, #open do
    if open[i].limits then
      if not admit then admit, prepare = admission() end
      prepare(open[i])
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

if limit > 0 then
  if shares > 0 or is_any_paused then
    take_from_each()
  else
    ready = call('ZRANGE', READY, 0, limit)
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
  local expiry = string.format('%.0f', now + lease)
  local values, bytes = {}, 0
  for i = 1, taken do
    local id, run = ids[i], runs[i]
    if run then
      local delivery = pack('>I8', fence + i)
      local flags = byte(run, 38)
      if flags >= 8 then run = sub(run, 1, 37) .. char(flags % 8) .. sub(run, 39) end
      run = pack('>BI4', S_RUNNING, parse('>I4', run, 2) + 1) .. delivery .. sub(run, 14)
      values[found + 1] = id
      values[found + 2] = run
      leases[found + 1] = expiry
      leases[found + 2] = delivery .. id
      run = whole(id, run)
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
  send('HSET', RUN, values, found)
  if from then
    for i = 1, #open do open[i].taken = 0 end
    for i = 1, taken do from[i].taken = from[i].taken + 1 end
    for i = 1, #open do
      if open[i].taken > 0 then call('ZREMRANGEBYRANK', open[i].ready, 0, open[i].taken - 1) end
    end
  else
    call('ZREMRANGEBYRANK', READY, 0, taken - 1)
  end
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
  local members = {}
  for i = 2, found, 2 do members[i / 2] = leases[i] end
  call('SET', told, pack('>I8', number) .. cmsgpack.pack({ refused, members, marked, reasons }), 'PX', REMEMBERED)
end
if opens_at then due_at = math.min(due_at or math.huge, opens_at) end
return { refused, claimed, due_at and math.max(0, due_at - now) or -1, has_more, now, marked, reasons, paused }
