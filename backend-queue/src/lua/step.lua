-- Acknowledges, makes ready what is due, and claims.
-- Arguments: the lease, how many to claim, who asks and the number of the step, how many queues to claim from and of
-- each its name and its share (all from `default` where there are none), and the acknowledgements.
local lease, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local told, number = TOLD .. ARGV[3], tonumber(ARGV[4])
local before = call('GETRANGE', told, 0, 7)
-- It was given up while it was on its way: whoever sent it has asked about it since.
if #before == 8 and parse('>I8', before) >= number then return { {}, {}, -1, 0, now, {}, {}, {} } end
local shares = tonumber(ARGV[5])
local first = 6 + 2 * shares
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

-- The queues to take from and those that are paused.
local open, paused = {}, {}
if limit > 0 then
  open[1] = { ready = READY, share = limit, taken = 0 }
  for i = 1, shares do
    local name = ARGV[4 + 2 * i]
    open[i] = { name = name, ready = ready_in(name), share = tonumber(ARGV[5 + 2 * i]), taken = 0 }
  end
  if is_any_paused then
    local all = open
    open = {}
    for i = 1, #all do
      local name = all[i].name or 'default'
      if pause_of(name) then paused[#paused + 1] = name else open[#open + 1] = all[i] end
    end
  end
end

local claimed, found, has_more = {}, 0, 0
local leases = {}
-- What is ready in its order, and from which queue each is.
local ready, from = {}, {}

-- Takes up to so many more from a queue, and notes whether it has others.
local function take_from(queue, most)
  local some = call('ZRANGE', queue.ready, queue.taken, queue.taken + most)
  queue.has_more = #some > most
  for i = 1, math.min(#some, most) do
    ready[#ready + 1] = some[i]
    from[#ready] = queue
  end
  queue.taken = queue.taken + math.min(#some, most)
end

for i = 1, #open do take_from(open[i], math.min(open[i].share, limit - #ready)) end
for i = 1, #open do
  -- What is left goes to whoever comes first.
  if open[i].has_more and #ready < limit then take_from(open[i], limit - #ready) end
  if open[i].has_more then has_more = 1 end
end
local taken = #ready
if taken > 0 then
  local ids, runs = split(ready)
  local fence = call('INCRBY', FENCE, taken) - taken
  local expiry = string.format('%.0f', now + lease)
  local values, bytes = {}, 0
  for i = 1, taken do
    local id, run = ids[i], runs[i]
    if run then
      local delivery = pack('>I8', fence + i)
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
  for i = 1, #open do open[i].taken = 0 end
  for i = 1, taken do from[i].taken = from[i].taken + 1 end
  for i = 1, #open do
    if open[i].taken > 0 then call('ZREMRANGEBYRANK', open[i].ready, 0, open[i].taken - 1) end
  end
  flush()
end
-- Others are told of what is left, and of what is in queues that are not taken from here.
local served = {}
for i = 1, #open do served[open[i].ready] = has_more == 0 end
for at in pairs(became_ready) do
  if not served[at] then
    call('PUBLISH', WAKE, '')
    break
  end
end
-- The answer may be lost on its way; it can be asked for again.
if #ARGV >= first or found > 0 then
  local members = {}
  for i = 2, found, 2 do members[i / 2] = leases[i] end
  call('SET', told, pack('>I8', number) .. cmsgpack.pack({ refused, members, marked, reasons }), 'PX', REMEMBERED)
end
return { refused, claimed, due_at and math.max(0, due_at - now) or -1, has_more, now, marked, reasons, paused }
