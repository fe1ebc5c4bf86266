-- Acknowledges, makes ready what is due, and claims.
-- Arguments: the lease, how many to claim, who asks and the number of the step, and the acknowledgements.
local lease, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local told, number = TOLD .. ARGV[3], tonumber(ARGV[4])
local before = call('GETRANGE', told, 0, 7)
-- It was given up while it was on its way: whoever sent it has asked about it since.
if #before == 8 and parse('>I8', before) >= number then return { {}, {}, -1, 0, now } end
-- What may be of a wrong type shows here, before anything is written.
call('ZCARD', DELAYED)
call('ZCARD', LEASE)
call('ZCARD', ENDED)
call('ZCARD', DIED)
local refused = {}
if #ARGV > 4 then
  refused = acknowledge(5, false)
  flush()
end

local function split(members)
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  return ids, runs_of(ids)
end

local due = call('ZRANGE', DELAYED, '-inf', now, 'BYSCORE', 'LIMIT', 0, CHUNK)
if #due > 0 then
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
        if is_new then make_live(id, run) end
      end
    end
  end
end
release()

local claimed, count, has_more = {}, 0, 0
local leases = {}
if limit > 0 then
  local ready = call('ZRANGE', READY, 0, limit - 1)
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
        values[count + 1] = id
        values[count + 2] = run
        leases[count + 1] = expiry
        leases[count + 2] = delivery .. id
        if is_any_cancelled then later('HDEL', CANCEL, id) end
        run = whole(id, run)
        claimed[count + 1] = id
        claimed[count + 2] = run
        count = count + 2
        bytes = bytes + #run
        if bytes > LARGEST then
          taken = i
          break
        end
      end
    end
    call('ZREMRANGEBYRANK', READY, 0, taken - 1)
    send('HSET', RUN, values, count)
    send('ZADD', LEASE, leases, count)
    flush()
    if call('ZCARD', READY) > 0 then has_more = 1 end
  end
end
wake()
-- The answer may be lost on its way; it can be asked for again.
if #ARGV > 4 or count > 0 then
  local members = {}
  for i = 2, count, 2 do members[i / 2] = leases[i] end
  call('SET', told, pack('>I8', number) .. cmsgpack.pack({ refused, members }), 'PX', REMEMBERED)
end
local next_due = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')[2]
local wait = next_due and math.max(0, tonumber(next_due) - now) or -1
return { refused, claimed, wait, has_more, now }
