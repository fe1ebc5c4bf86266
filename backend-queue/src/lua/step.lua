-- Acknowledges, makes ready what is due, and claims.
-- Arguments: the lease, how many to claim, how many acknowledgements, who asks and the number of the step, and for
-- each acknowledgement its run's id and its note.
local told, number = TOLD .. ARGV[4], tonumber(ARGV[5])
local before = call('GETRANGE', told, 0, 7)
-- It was given up while it was on its way: whoever sent it has asked about it since.
if #before == 8 and parse('>I8', before) >= number then return { {}, {}, -1, 0, now } end
-- What may be of a wrong type shows here, before anything is written.
call('ZCARD', DELAYED)
call('ZCARD', LEASE)
call('ZCARD', ENDED)
call('ZCARD', DIED)
local lease, limit, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local refused = {}
if count > 0 then
  refused = acknowledge(6, count, false)
  flush()
end

local function split(members)
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 7) end
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
      local is_held = is_new and byte(run, 37) % 2 == 1
      run = char(is_held and S_HELD or S_READY) .. sub(run, 2)
      later('HSET', RUN, id, run)
      if is_held then
        hold(id, run)
      else
        make_ready(id, run)
        if is_new then make_live(id, run) end
      end
    end
  end
end
release()

local claimed, members, has_more = {}, {}, 0
if limit > 0 then
  local ready = call('ZRANGE', READY, 0, limit - 1)
  local taken = #ready
  if taken > 0 then
    local ids, runs = split(ready)
    local fence = call('INCRBY', FENCE, taken) - taken
    local bytes = 0
    for i = 1, taken do
      local id, run = ids[i], runs[i]
      if run then
        local delivery = pack('>I8', fence + i)
        run = pack('>BI4', S_RUNNING, parse('>I4', run, 2) + 1) .. delivery .. sub(run, 14)
        later('HSET', RUN, id, run)
        members[#members + 1] = delivery .. id
        later('ZADD', LEASE, now + lease, delivery .. id)
        if is_any_cancelled then later('HDEL', CANCEL, id) end
        run = whole(id, run)
        claimed[#claimed + 1] = id
        claimed[#claimed + 1] = run
        bytes = bytes + #run
        if bytes > LARGEST then
          taken = i
          break
        end
      end
    end
    call('ZREMRANGEBYRANK', READY, 0, taken - 1)
    flush()
    if call('ZCARD', READY) > 0 then has_more = 1 end
  end
end
wake()
-- The answer may be lost on its way; it can be asked for again.
if count > 0 or #members > 0 then
  call('SET', told, pack('>I8', number) .. cmsgpack.pack({ refused, members }), 'PX', REMEMBERED)
end
local next = call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
local wait = next[2] and math.max(0, tonumber(next[2]) - now) or -1
return { refused, claimed, wait, has_more, now }
