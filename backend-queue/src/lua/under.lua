-- What is under way in queues with limits, by the lease: the value by which its run is told apart, or nothing, and how
-- many there are of each value. It is kept for as long as somebody asks for it, and made anew when somebody does again;
-- queues without limits have none. What is kept of each stands under the queue, a `/`, and the parameter.
local LIMITED, UNDER, COUNTS = base .. 'limited', base .. 'under:', base .. 'counts:'
-- The keys of a queue of which something waits in line, by when they are to be looked at again.
local LINES = base .. 'lines:'
-- For how long it is kept without being asked for, how often that is noted and all of it compared with the leases, and
-- how many leases one step looks at: of those that were never looked at, and of those that are compared.
local KEPT, ASKED, AT_FIRST, COMPARED = 600000, 10000, 1000, 100
local LONGEST_KEY = 200
-- How many bytes of what runs carry are looked into in one call for their values. Of each queue it may be one run more,
-- so that every queue gets on.
local READ = 1024 * 1024
local limited, looked_into = {}, 0

-- The value by which a whole run is told apart; what cannot be read is told apart from the others only.
local function key_in(run, param)
  local is_read, envelope = pcall(cjson.decode, sub(run, 52 + byte(run, 51)))
  local params = is_read and type(envelope) == 'table' and envelope.params
  local value
  if type(params) == 'table' then value = params[param] end
  local kind = type(value)
  local is_plain = kind == 'string' or kind == 'number' or kind == 'boolean'
  local text = kind == 'number' and string.format('%.17g', value) or tostring(value)
  return '=' .. (is_plain and sub(text, 1, LONGEST_KEY) or '')
end

local known = {}

-- The value by which a run is told apart; nothing where the call has looked into enough, of which `looking` is told.
local function key_of(looking, id, run, param)
  local of = known[param]
  if not of then
    of = {}
    known[param] = of
  end
  if not of[id] then
    if looking.has_looked and looked_into >= READ then return nil end
    run = whole(id, run)
    looking.has_looked, looked_into = true, looked_into + #run
    of[id] = key_in(run, param)
  end
  return of[id]
end

local function keep(field, asked, phase, cursor)
  local queue, param = string.match(field, '^([^/]*)/(.*)$')
  limited[#limited + 1] = { field = field, queue = queue, param = param, ready = ready_in(queue), asked = asked,
    phase = phase, cursor = cursor, under = UNDER .. field, counts = COUNTS .. field }
  return limited[#limited]
end

local stored = call('HGETALL', LIMITED)
for i = 1, #stored, 2 do
  local asked, phase, cursor = string.match(stored[i + 1], '^(%d+):(%a):(%d+)$')
  if asked then keep(stored[i], tonumber(asked), phase, cursor) end
end

-- Something is under way from now on; `leases` are times and deliveries in turn, and `claimed` ids and whole runs.
local function charge(leases, claimed, found)
  for _, kept in ipairs(limited) do
    local values, n, more = {}, 0, {}
    for i = 2, found, 2 do
      local id, run = claimed[i - 1], claimed[i]
      if ready_of(run) == kept.ready then
        local key = ''
        if kept.param ~= '' then
          key = known[kept.param] and known[kept.param][id] or key_in(run, kept.param)
          more[key] = (more[key] or 0) + 1
        end
        values[n + 1] = leases[i]
        values[n + 2] = key
        n = n + 2
      end
    end
    send('HSET', kept.under, values, n)
    for key, count in pairs(more) do call('HINCRBY', kept.counts, key, count) end
  end
end

-- These deliveries are under way no longer. A key of which one was is looked at again.
local function discharge(members)
  if #members == 0 then return end
  for _, kept in ipairs(limited) do
    local keys, gone, n, less, seen = fields(kept.under, members), {}, 0, {}, {}
    for i = 1, #members do
      local key = keys[i]
      if key and not seen[members[i]] then
        seen[members[i]] = true
        n = n + 1
        gone[n] = members[i]
        if key ~= '' then less[key] = (less[key] or 0) + 1 end
      end
    end
    send('HDEL', kept.under, gone, n)
    for key, count in pairs(less) do
      if call('HINCRBY', kept.counts, key, -count) <= 0 then call('HDEL', kept.counts, key) end
      call('ZADD', LINES .. kept.queue, 'XX', now, key)
    end
  end
end

-- Looks at some of the leases, and adds what is missing. Where too much is to be looked into for that, it stays where it
-- is, and what it has added is not looked into again. Says whether it has looked at all leases.
local function add_missing(kept, count)
  local answer = call('ZSCAN', LEASE, kept.cursor, 'COUNT', count)
  local members, missing, ids = {}, {}, {}
  for i = 1, #answer[2], 2 do members[#members + 1] = answer[2][i] end
  local there = fields(kept.under, members)
  for i = 1, #members do
    if not there[i] then
      missing[#missing + 1] = members[i]
      ids[#ids + 1] = sub(members[i], 9)
    end
  end
  local runs = fields(RUN, ids)
  for i = 1, #missing do
    local run, member = runs[i], missing[i]
    if run and #run > 51 and byte(run, 1) == S_RUNNING and sub(run, 6, 13) == sub(member, 1, 8)
        and ready_of(run) == kept.ready then
      local key = ''
      if kept.param ~= '' then key = key_of(kept, ids[i], run, kept.param) end
      if not key then return false end
      if call('HSETNX', kept.under, member, key) == 1 and key ~= '' then call('HINCRBY', kept.counts, key, 1) end
    end
  end
  kept.cursor = answer[1]
  return kept.cursor == '0'
end

-- Looks at some of what is kept, and takes away what nobody has a lease of.
local function take_stale(kept)
  local answer = call('HSCAN', kept.under, kept.cursor, 'COUNT', COMPARED)
  local stale = {}
  for i = 1, #answer[2], 2 do
    if not call('ZSCORE', LEASE, answer[2][i]) then stale[#stale + 1] = answer[2][i] end
  end
  discharge(stale)
  kept.cursor = answer[1]
end

-- What is under way in a queue, by the value of a parameter unless that is nothing. The phase tells whether it is
-- whole: `b` while it is made, and then `l` and `u` while it is compared, and `d` once that is done.
local function asked_for(queue, param)
  local field, kept = queue .. '/' .. param, nil
  for _, other in ipairs(limited) do
    if other.field == field then kept = other end
  end
  -- What nobody has asked for was not told of what others took in the meantime.
  if not kept then
    kept = keep(field, now, 'b', '0')
    call('DEL', kept.under, kept.counts)
    call('HSET', LIMITED, field, string.format('%.0f:b:0', now))
  end
  if kept.phase == 'd' and now - kept.asked < ASKED and now >= kept.asked then return kept end
  if kept.phase == 'd' then
    kept.phase, kept.cursor = 'l', '0'
  elseif kept.phase == 'u' then
    take_stale(kept)
    if kept.cursor == '0' then kept.phase = 'd' end
  else
    local is_made = kept.phase == 'b'
    if add_missing(kept, is_made and AT_FIRST or COMPARED) then kept.phase = is_made and 'd' or 'u' end
  end
  kept.asked = now
  call('HSET', LIMITED, field, string.format('%.0f', now) .. ':' .. kept.phase .. ':' .. kept.cursor)
  return kept
end

-- Forgets what nobody has asked for in a long time.
local function forget_unasked()
  for i = #limited, 1, -1 do
    local kept = limited[i]
    if math.abs(now - kept.asked) > KEPT then
      call('UNLINK', kept.under, kept.counts)
      call('HDEL', LIMITED, kept.field)
      table.remove(limited, i)
    end
  end
end
