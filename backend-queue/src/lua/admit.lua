-- The limits of queues: which of the runs that are ready may begin, and when the others may. From when on the next may
-- begin is kept in microseconds, that of the queue as a whole under no name, that of a value of a parameter behind a
-- `=`, and under `!` that of the queue for which something waits.
local PACE, LINE = base .. 'pace:', base .. 'line:'
-- How many runs are looked at in one go, and how late one that waited for its slot may come and still have it.
local LOOKED, GOOD = 200, 1000000
-- How many lines a step looks at, how many runs it lets go on from them, and when a line is looked at by itself.
local MOST_LINES, MOST_RELEASED, IN_LINE = 100, 1000, 90000
local micros = time[1] * 1000000 + time[2]
local is_any_aside = false
-- When a queue is to be looked at again that lets nothing begin before that.
local opens_at

-- What says of a run whether it may begin. Most steps need none, so it is made when it is asked for.
local function admission()

  local function limits_of(queue)
    if type(queue.limits) == 'table' then return queue.limits end
    local most, interval, tolerance, most_by, by_interval, by_tolerance, param =
      string.match(queue.limits, '^(%d*):(%d*):(%d*):(%d*):(%d*):(%d*):(.*)$')
    queue.limits = { most = tonumber(most), interval = tonumber(interval), tolerance = tonumber(tolerance),
      most_by = tonumber(most_by), by_interval = tonumber(by_interval), by_tolerance = tonumber(by_tolerance), param = param }
    return queue.limits
  end

  local function opens(at)
    opens_at = math.min(opens_at or math.huge, at)
  end

  local function note_next(queue, key, next)
    if not queue.is_swept then
      queue.is_swept = true
      -- What is long over says nothing.
      local pace = PACE .. queue.name
      local over = call('ZRANGE', pace, '-inf', string.format('(%.0f', micros - GOOD), 'BYSCORE', 'LIMIT', 0, CHUNK)
      if #over > 0 then call('ZREM', pace, unpack(over)) end
    end
    queue.next[key] = next
    call('ZADD', PACE .. queue.name, string.format('%.0f', next), key)
  end

  -- From when on the next may begin. A time further ahead than the rate can have come is from a clock that was set
  -- back, or from another rate.
  local function next_of(queue, key, interval, tolerance)
    local next = queue.next[key]
    if next then return next end
    next = tonumber(call('ZSCORE', PACE .. queue.name, key) or 0)
    if key == '' then
      local awaited = call('ZSCORE', PACE .. queue.name, '!')
      queue.is_awaited = awaited and tonumber(awaited) == next
    end
    local latest = micros + tolerance + interval
    queue.next[key] = next
    if next > latest then
      next = latest
      note_next(queue, key, next)
    end
    return next
  end

  -- The slot of who comes next: a time to come, or none where it has come.
  local function slot_of(queue, limits)
    if not limits.interval then return nil end
    local slot = next_of(queue, '', limits.interval, limits.tolerance) - limits.tolerance
    return slot > micros and slot or nil
  end

  local function slot_of_key(queue, limits, key)
    if not limits.by_interval then return nil end
    local slot = next_of(queue, key, limits.by_interval, limits.by_tolerance) - limits.by_tolerance
    return slot > micros and slot or nil
  end

  -- Who waited for a slot has it also a little later, so that lateness does not add up.
  local function first_of(next, has_waited)
    return has_waited and next >= micros - GOOD and next or math.max(next, micros)
  end

  local function take_slot(queue, key, interval, tolerance, has_waited)
    local next = first_of(next_of(queue, key, interval, tolerance), has_waited) + interval
    note_next(queue, key, next)
    return next
  end

  -- Nothing more of a queue begins, at least until a slot.
  local function close(queue, slot)
    queue.is_closed = true
    if not slot then return end
    opens(math.ceil(slot / 1000))
    note_next(queue, '!', slot + limits_of(queue).tolerance)
  end

  local function under_way(queue, key)
    local by = queue.by
    if not by[key] then by[key] = tonumber(call('HGET', queue.under.counts, key) or 0) end
    return by[key]
  end

  -- When a line is to be looked at again.
  local function look_again(queue, key, at)
    if queue.has_lines and call('ZADD', LINES .. queue.name, 'XX', 'CH', string.format('%.0f', at), key) == 1 then
      opens(at)
    end
  end

  -- Lets some go on that wait in a line; says how many are left to be let go on.
  local function release_line(queue, key, free, left)
    local line = LINE .. queue.name .. '/' .. key
    while free > 0 and left > 0 do
      local member = call('ZPOPMIN', line)[1]
      if not member then break end
      left = left - 1
      local id = sub(member, 8)
      local run = call('HGET', RUN, id)
      -- It may have been cancelled, or looked at again meanwhile.
      if run and #run > 51 and byte(run, 38) % 32 >= 16 and byte(run, 1) == S_SNOOZED
          and call('ZREM', DELAYED, member) == 1 then
        -- It is as old as it is, and behind nothing that came meanwhile.
        run = char(S_READY) .. sub(run, 2, 28) .. pack('>i8', math.min(now, (parse('>i8', run, 43)))) .. sub(run, 37, 37)
          .. char(byte(run, 38) - 8) .. sub(run, 39)
        later('HSET', RUN, id, run)
        make_ready(id, run)
        is_any_aside = true
        free = free - 1
      end
    end
    return left
  end

  -- Lets as many of each key go on that wait in line as may begin.
  local function release_lines(queue, limits)
    local lines = LINES .. queue.name
    local keys = call('ZRANGE', lines, 0, MOST_LINES)
    if #keys == 0 then return end
    queue.has_lines = true
    local has_others = #keys > MOST_LINES
    if has_others then
      local score = call('ZSCORE', lines, keys[#keys])
      has_others = tonumber(score) <= now
      keys[#keys] = nil
      -- What is to be looked at later than anything can be was put there before the clock was set back.
      local latest = now + IN_LINE + math.ceil((limits.by_interval or 0) / 1000)
      for _, key in ipairs(call('ZRANGE', lines, string.format('(%.0f', latest), '+inf', 'BYSCORE', 'LIMIT', 0, MOST_LINES)) do
        keys[#keys + 1] = key
      end
    end
    if limits.most_by then
      local counts = fields(queue.under.counts, keys)
      for i = 1, #keys do queue.by[keys[i]] = tonumber(counts[i] or 0) end
    end
    local left = MOST_RELEASED
    for _, key in ipairs(keys) do
      local free, at = limits.most_by and limits.most_by - queue.by[key] or math.huge, now
      local slot = slot_of_key(queue, limits, key)
      if free <= 0 then
        at = now + IN_LINE
      elseif slot then
        free, at = 0, math.ceil(slot / 1000)
        opens(at)
      elseif limits.by_interval then
        local first = first_of(next_of(queue, key, limits.by_interval, limits.by_tolerance), true)
        free = math.min(free, math.floor((micros + limits.by_tolerance - first) / limits.by_interval) + 1)
      end
      if free > 0 then
        if limits.most and queue.running >= limits.most then return end
        local whole_slot = slot_of(queue, limits)
        if whole_slot then
          close(queue, whole_slot)
          return
        end
        left = release_line(queue, key, free, left)
      end
      if free > 0 and call('EXISTS', LINE .. queue.name .. '/' .. key) == 0 then
        call('ZREM', lines, key)
      else
        call('ZADD', lines, string.format('%.0f', at), key)
      end
    end
    if has_others then opens(now) end
  end

  -- Lets a run wait until another of its key has ended, or until its slot.
  local function line_up(queue, member, id, run, key, slot)
    local due = now + IN_LINE
    run = char(S_SNOOZED) .. sub(run, 2, 28) .. pack('>i8', due) .. sub(run, 37, 37) .. char(byte(run, 38) % 8 + 16)
      .. sub(run, 39)
    call('ZREM', queue.ready, member)
    later('HSET', RUN, id, run)
    later('ZADD', DELAYED, due, member)
    later('ZADD', LINE .. queue.name .. '/' .. key, 15 - math.min(15, byte(run, 37)), member)
    local at = slot and math.ceil(slot / 1000) or due
    if slot then opens(at) end
    later('ZADD', LINES .. queue.name, string.format('%.0f', at), key)
    is_any_aside = true
  end

  -- What is to be done for a queue before anything is taken from it.
  local function prepare(queue)
    local limits = limits_of(queue)
    queue.next, queue.by = {}, {}
    if limits.most or limits.most_by then
      queue.under = asked_for(queue.name, limits.most_by and limits.param or '')
      if queue.under.phase == 'b' then
        -- Not everything that is under way was counted yet.
        queue.is_closed = true
        opens(now)
        return
      end
      queue.running = call('HLEN', queue.under.under)
    end
    if limits.param ~= '' then
      release_lines(queue, limits)
      flush()
    end
  end

  -- Whether anything of a queue in which something waits may begin, whatever it is; it is closed otherwise.
  local function is_open(queue)
    local limits = limits_of(queue)
    local is_full = limits.most and queue.running >= limits.most
    local slot = not is_full and slot_of(queue, limits)
    if is_full or slot then close(queue, slot) end
    return not queue.is_closed
  end

  -- How many more runs of a queue may be under way.
  local function room_in(queue)
    local limits = limits_of(queue)
    return limits.most and math.max(0, limits.most - queue.running) or math.huge
  end

  -- Whether a run that comes first may begin. It waits in line otherwise, or the queue is closed, or it is left to the
  -- next step to look into it.
  local function admit(queue, member, run)
    if not is_open(queue) then return false end
    local limits, id = limits_of(queue), sub(member, 8)
    local key
    if limits.param ~= '' then
      key = key_of(queue, id, run, limits.param)
      queue.is_left = not key
      if not key then return false end
    end
    local is_full = limits.most_by and under_way(queue, key) >= limits.most_by
    local slot = slot_of_key(queue, limits, key)
    if is_full or slot then
      line_up(queue, member, id, run, key, not is_full and slot)
      return false
    end
    if queue.running then queue.running = queue.running + 1 end
    if limits.most_by then queue.by[key] = queue.by[key] + 1 end
    -- A slot of the whole queue is taken by a run whose own has come, so none is taken in vain.
    if limits.interval then take_slot(queue, '', limits.interval, limits.tolerance, queue.is_awaited) end
    if limits.by_interval then
      local next = take_slot(queue, key, limits.by_interval, limits.by_tolerance, byte(run, 38) % 16 >= 8)
      look_again(queue, key, math.max(now, math.ceil((next - limits.by_tolerance) / 1000)))
    end
    return true
  end

  return { admit = admit, prepare = prepare, is_open = is_open, room_in = room_in }
end

