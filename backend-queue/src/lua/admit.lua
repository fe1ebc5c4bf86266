-- The limits of queues: which of the runs that are ready may begin, and when the others may. The next slots of a queue
-- are kept in microseconds, that of the queue as a whole under no name, that of a value of a parameter behind a `=`.
local PACE = base .. 'pace:'
-- How many runs are looked at in one go; how far ahead slots of a whole queue are given, and for how long one is good.
local LOOKED, HORIZON, GOOD = 200, 1000000, 1000
local micros = time[1] * 1000000 + time[2]
local is_any_aside = false
-- What waits in line, by queue and key, and the keys of a queue of which something does, by when they were looked at.
local LINE, LINES = base .. 'line:', base .. 'lines:'
local MOST_LINES, IN_LINE = 100, 90000
-- When a queue is to be looked at again that lets nothing begin before that.
local opens_at

-- What says of a run whether it may begin. Most steps need none, so it is made when it is asked for.
local function admission()
  local LONGEST_KEY = 200
  local running

  local function limits_of(queue)
    if type(queue.limits) == 'table' then return queue.limits end
    local most, interval, tolerance, most_by, by_interval, by_tolerance, param =
      string.match(queue.limits, '^(%d*):(%d*):(%d*):(%d*):(%d*):(%d*):(.*)$')
    queue.limits = { most = tonumber(most), interval = tonumber(interval), tolerance = tonumber(tolerance),
      most_by = tonumber(most_by), by_interval = tonumber(by_interval), by_tolerance = tonumber(by_tolerance), param = param }
    return queue.limits
  end

  -- The value by which a run is told apart; what cannot be read is told apart from the others only.
  local function key_of(id, run, param)
    local is_read, envelope = pcall(cjson.decode, sub(whole(id, run), 52 + byte(run, 51)))
    local params = is_read and type(envelope) == 'table' and envelope.params
    local value = type(params) == 'table' and params[param]
    local kind = type(value)
    local is_plain = kind == 'string' or kind == 'number' or kind == 'boolean'
    local text = kind == 'number' and string.format('%.17g', value) or tostring(value)
    return '=' .. (is_plain and sub(text, 1, LONGEST_KEY) or '')
  end

  local function next_slot(queue, key)
    return tonumber(call('ZSCORE', PACE .. queue.name, key) or 0)
  end

  local function note_slot(queue, key, interval)
    local next = math.max(next_slot(queue, key), micros) + interval
    call('ZADD', PACE .. queue.name, string.format('%.0f', next), key)
  end

  -- How many runs of a queue are under way by their key. When this is first asked, as many of each that wait in line
  -- go on as there are places.
  local function running_by_key(queue, limits)
    if queue.running then return queue.running end
    queue.running = {}
    each_running(function(id, run)
      if ready_of(run) == queue.ready then
        local key = key_of(id, run, limits.param)
        queue.running[key] = (queue.running[key] or 0) + 1
      end
    end)
    local lines = LINES .. queue.name
    for _, key in ipairs(call('ZRANGE', lines, 0, MOST_LINES - 1)) do
      local line = LINE .. queue.name .. '/' .. key
      local free = limits.most_by - (queue.running[key] or 0)
      while free > 0 do
        local member = call('ZPOPMIN', line)[1]
        if not member then break end
        local id = sub(member, 8)
        local run = call('HGET', RUN, id)
        -- It may have been cancelled, or looked at again meanwhile.
        if run and #run > 51 and byte(run, 38) % 32 >= 16 and byte(run, 1) == S_SNOOZED
            and call('ZREM', DELAYED, member) == 1 then
          run = char(S_READY) .. sub(run, 2, 28) .. pack('>i8', now) .. sub(run, 37, 37)
            .. char(byte(run, 38) - 16) .. sub(run, 39)
          call('HSET', RUN, id, run)
          make_ready(id, run)
          is_any_aside = true
          free = free - 1
        end
      end
      -- Where there are many lines, each has its turn.
      if call('EXISTS', line) == 1 then call('ZADD', lines, now, key) else call('ZREM', lines, key) end
    end
    flush()
    return queue.running
  end

  -- Lets a run wait until another of its key has ended.
  local function line_up(queue, member, id, run, key)
    local due, flags = now + IN_LINE, byte(run, 38)
    flags = flags % 8 + 16
    run = char(S_SNOOZED) .. sub(run, 2, 28) .. pack('>i8', due) .. sub(run, 37, 37) .. char(flags) .. sub(run, 39)
    call('ZREM', queue.ready, member)
    later('HSET', RUN, id, run)
    later('ZADD', DELAYED, due, member)
    later('ZADD', LINE .. queue.name .. '/' .. key, 15 - math.min(15, byte(run, 37)), member)
    if not call('ZSCORE', LINES .. queue.name, key) then call('ZADD', LINES .. queue.name, now, key) end
    is_any_aside = true
  end

  -- What is to be done for a queue before anything is taken from it.
  local function prepare(queue)
    local limits = limits_of(queue)
    if limits.most_by then running_by_key(queue, limits) end
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
    end
    local key = limits.param ~= '' and key_of(id, run, limits.param)
    local by_key = limits.most_by and running_by_key(queue, limits)
    if by_key and (by_key[key] or 0) >= limits.most_by then
      line_up(queue, member, id, run, key)
      return false
    end

    local function begin()
      if limits.most then running[queue.ready] = (running[queue.ready] or 0) + 1 end
      if by_key then by_key[key] = (by_key[key] or 0) + 1 end
      return true
    end

    if byte(run, 38) % 16 >= 8 and now <= parse('>i8', run, 29) + GOOD then return begin() end
    local slot = micros
    if limits.interval then
      slot = math.max(slot, next_slot(queue, '') - limits.tolerance)
      if slot > micros + HORIZON then
        queue.is_closed = true
        opens_at = math.min(opens_at or math.huge, math.floor((slot - HORIZON) / 1000))
        return false
      end
    end
    if limits.by_interval then slot = math.max(slot, next_slot(queue, key) - limits.by_tolerance) end
    call('ZREMRANGEBYSCORE', PACE .. queue.name, '-inf', string.format('%.0f', micros))
    if limits.interval then note_slot(queue, '', limits.interval) end
    if limits.by_interval then note_slot(queue, key, limits.by_interval) end
    if slot <= micros then return begin() end
    -- Rounded up, so that none begins before its slot.
    local due = math.ceil(slot / 1000)
    local flags = byte(run, 38)
    flags = flags % 8 + 8
    run = char(S_SNOOZED) .. sub(run, 2, 28) .. pack('>i8', due) .. sub(run, 37, 37) .. char(flags) .. sub(run, 39)
    call('ZREM', queue.ready, member)
    later('HSET', RUN, id, run)
    later('ZADD', DELAYED, due, member)
    is_any_aside = true
    return false
  end

  return admit, prepare
end

