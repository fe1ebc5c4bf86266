-- The limits of queues: which of the runs that are ready may begin, and when the others may. The next slots of a queue
-- are kept in microseconds, that of the queue as a whole under no name, that of a value of a parameter behind a `=`.
local PACE = base .. 'pace:'
-- How many runs are looked at in one go; how far ahead slots of a whole queue are given, and for how long one is good.
local LOOKED, HORIZON, GOOD = 200, 1000000, 1000
local micros = time[1] * 1000000 + time[2]
local is_any_aside = false
-- When a queue is to be looked at again that lets nothing begin before that.
local opens_at

-- What says of a run whether it may begin. Most steps need none, so it is made when it is asked for.
local function admission()
  local LONGEST_KEY = 200
  local running

  local function limits_of(queue)
    if type(queue.limits) == 'table' then return queue.limits end
    local most, interval, tolerance, by_interval, by_tolerance, param =
      string.match(queue.limits, '^(%d*):(%d*):(%d*):(%d*):(%d*):(.*)$')
    queue.limits = { most = tonumber(most), interval = tonumber(interval), tolerance = tonumber(tolerance),
      by_interval = tonumber(by_interval), by_tolerance = tonumber(by_tolerance), param = param }
    return queue.limits
  end

  -- The value by which a run is told apart; what cannot be read is told apart from the others only.
  local function key_of(id, run, param)
    local is_read, envelope = pcall(cjson.decode, sub(whole(id, run), 52 + byte(run, 51)))
    local params = is_read and type(envelope) == 'table' and envelope.params
    local value = type(params) == 'table' and params[param]
    local kind = type(value)
    local is_plain = kind == 'string' or kind == 'number' or kind == 'boolean' and value
    return '=' .. (is_plain and sub(tostring(value), 1, LONGEST_KEY) or '')
  end

  local function next_slot(queue, key)
    return tonumber(call('ZSCORE', PACE .. queue.name, key) or 0)
  end

  local function note_slot(queue, key, interval)
    local next = math.max(next_slot(queue, key), micros) + interval
    call('ZADD', PACE .. queue.name, string.format('%.0f', next), key)
  end

  -- Whether a run that comes first may begin; it gets a slot otherwise, or the queue is closed.
  local function admit(queue, member, run)
    local limits, id = limits_of(queue), sub(member, 8)
    if limits.most then
      running = running or count_running()
      if (running[queue.ready] or 0) >= limits.most then
        queue.is_closed = true
        return false
      end
      running[queue.ready] = (running[queue.ready] or 0) + 1
    end
    if byte(run, 38) % 16 >= 8 and now <= parse('>i8', run, 29) + GOOD then return true end
    local slot = micros
    if limits.interval then
      slot = math.max(slot, next_slot(queue, '') - limits.tolerance)
      if slot > micros + HORIZON then
        queue.is_closed = true
        opens_at = math.min(opens_at or math.huge, math.floor((slot - HORIZON) / 1000))
        return false
      end
    end
    local key = limits.by_interval and key_of(id, run, limits.param)
    if key then slot = math.max(slot, next_slot(queue, key) - limits.by_tolerance) end
    call('ZREMRANGEBYSCORE', PACE .. queue.name, '-inf', string.format('%.0f', micros))
    if limits.interval then note_slot(queue, '', limits.interval) end
    if key then note_slot(queue, key, limits.by_interval) end
    if slot <= micros then return true end
    -- Rounded up, so that none begins before its slot.
    local due = math.ceil(slot / 1000)
    local flags = byte(run, 38)
    if flags % 16 < 8 then flags = flags + 8 end
    run = char(S_SNOOZED) .. sub(run, 2, 28) .. pack('>i8', due) .. sub(run, 37, 37) .. char(flags) .. sub(run, 39)
    call('ZREM', queue.ready, member)
    later('HSET', RUN, id, run)
    later('ZADD', DELAYED, due, member)
    if limits.most then running[queue.ready] = running[queue.ready] - 1 end
    is_any_aside = true
    return false
  end

  return admit
end

