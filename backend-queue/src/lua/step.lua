-- Acknowledges, makes ready what is due, and claims.
-- Arguments: the lease, how many to claim, who asks and the number of the step, and the acknowledgements.
local lease, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local told, number = TOLD .. ARGV[3], tonumber(ARGV[4])
local before = call('GETRANGE', told, 0, 7)
-- It was given up while it was on its way: whoever sent it has asked about it since.
if #before == 8 and parse('>I8', before) >= number then return { {}, {}, -1, 0, now, {}, {} } end
if #ARGV > 4 then
  -- A key of a wrong type shows here, before anything is written.
  call('ZCARD', ENDED)
  acknowledge(5, false)
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
if limit > 0 then
  local ready = call('ZRANGE', READY, 0, limit)
  local taken = math.min(#ready, limit)
  if #ready > limit then
    has_more = 1
    ready[#ready] = nil
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
    call('ZREMRANGEBYRANK', READY, 0, taken - 1)
    flush()
  end
end
if became_ready and (has_more == 1 or limit == 0) then call('PUBLISH', WAKE, '') end
-- The answer may be lost on its way; it can be asked for again.
if #ARGV > 4 or found > 0 then
  local members = {}
  for i = 2, found, 2 do members[i / 2] = leases[i] end
  call('SET', told, pack('>I8', number) .. cmsgpack.pack({ refused, members, marked, reasons }), 'PX', REMEMBERED)
end
return { refused, claimed, due_at and math.max(0, due_at - now) or -1, has_more, now, marked, reasons }
