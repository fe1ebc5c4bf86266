-- Unique runs: which run has a kind. Of each kind (`k` and its key) the hash has the id of its run, until when that keeps
-- others out, and when it ends at the latest; and of a run that got a kind (`r` and its id) the key. Kinds with such a
-- time are in a sorted set as well.
local UNIQUE, WINDOWS = base .. 'unique', base .. 'windows'

-- The run that keeps others of a kind out, if one does. As `is_kept_out` in `unique.rs`.
local function owner_of(key)
  local kept = call('HGET', UNIQUE, 'k' .. key)
  if not kept then return false end
  local id, until_when, expires = string.match(kept, '^(%w+):(%a*):(%d*)$')
  if not id or expires ~= '' and now >= tonumber(expires) then return false end
  local run = runs_of({ id })[1]
  if not run then return until_when == '' and expires ~= '' and id end
  local state = byte(run, 1)
  if until_when == '' then return state < S_FAILED and id end
  if state >= 10 or until_when == 'started' and parse('>I4', run, 2) > 0 then return false end
  return id
end

-- Gives a kind to a run, until when and for how many milliseconds at most, either of which may be empty.
local function own(key, id, until_when, window)
  local expires = window ~= '' and string.format('%.0f', now + window) or ''
  call('HSET', UNIQUE, 'k' .. key, id .. ':' .. until_when .. ':' .. expires)
  call('HSET', UNIQUE, 'r' .. id, key)
  if expires ~= '' then call('ZADD', WINDOWS, expires, key) else call('ZREM', WINDOWS, key) end
end

-- Lets the kinds go of runs that are about to be forgotten, and those whose time has passed. Who has won a time by its
-- success keeps others out to its end, also when nobody knows it any more.
local function let_kinds_go(ids)
  if call('EXISTS', UNIQUE) == 0 then return end
  local owners = {}
  for i = 1, #ids do owners[i] = 'r' .. ids[i] end
  local keys = fields(UNIQUE, owners)
  for i = 1, #ids do
    if keys[i] then
      call('HDEL', UNIQUE, owners[i])
      local id, until_when, expires = string.match(call('HGET', UNIQUE, 'k' .. keys[i]) or '', '^(%w+):(%a*):(%d*)$')
      local run = id == ids[i] and until_when == '' and expires ~= '' and runs_of({ id })[1]
      if id == ids[i] and not (run and byte(run, 1) < S_FAILED) then
        call('HDEL', UNIQUE, 'k' .. keys[i])
        call('ZREM', WINDOWS, keys[i])
      end
    end
  end
  for _, key in ipairs(call('ZRANGE', WINDOWS, '-inf', now, 'BYSCORE', 'LIMIT', 0, CHUNK)) do
    local id = string.match(call('HGET', UNIQUE, 'k' .. key) or '', '^(%w+):')
    call('HDEL', UNIQUE, 'k' .. key, 'r' .. (id or ''))
    call('ZREM', WINDOWS, key)
  end
end

