-- What every script begins with: the keys, the time, and how a run is packed.
--
-- A run is one string: state (1), attempt (2-5), fence (6-13), due (14-21), finished (22-29), its place in the
-- order of insertion (30-35), priority (36), flags (37), most attempts (38-41), fire time (42-49), the length of
-- its task's name (50), that name, and the envelope. Where two runs are due alike the order of insertion decides,
-- so the members of most sorted sets begin with it.
local call, pack, parse = redis.call, struct.pack, struct.unpack
local sub, byte, char = string.sub, string.byte, string.char
local base = KEYS[1]
local RUN, BIG, READY, DELAYED = base .. 'run', base .. 'big', base .. 'ready', base .. 'delayed'
local LEASE, CANCEL, FREE, WAKE = base .. 'lease', base .. 'cancel', base .. 'free', base .. 'wake'
local SHOWN, ENDED, LIVE, HELD = base .. 'shown', base .. 'ended', base .. 'live:', base .. 'held:'
local LETTERS, DIED, HOLD, TASK = base .. 'letters', base .. 'died', base .. 'hold', base .. 'task:'
local SEQ, FENCE, BEAT, TOLD = base .. 'seq', base .. 'fence', base .. 'beat', base .. 'told:'
-- States, numbered so that what waits for its time is below `S_READY` and what has ended is from 10 on.
local S_SCHEDULED, S_READY, S_RUNNING, S_HELD, S_FAILED = 0, 3, 4, 5, 11
-- A longer envelope lies in a hash of its own, so that whoever looks at states does not carry it along.
local INLINE = 4096
-- The most bytes of one answer, and the most values of one command.
local LARGEST, CHUNK = 8 * 1024 * 1024, 1000
local NEVER = pack('>i8', -9223372036854775808)
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function task_of(run)
  return sub(run, 51, 50 + byte(run, 50))
end

-- The values of a hash, `false` where there is none.
local function fields(key, ids)
  local found = {}
  for from = 1, #ids, CHUNK do
    local some = call('HMGET', key, unpack(ids, from, math.min(from + CHUNK - 1, #ids)))
    for i = 1, #some do found[from + i - 1] = some[i] end
  end
  return found
end

-- What is no run of ours becomes one that nobody can read, so that it fails instead of standing in the way.
local function sound(run)
  if run and (#run < 51 or byte(run, 50) == 0 or #run < 50 + byte(run, 50)) then
    return pack('>BI4I8i8i8I6BBI4i8B', S_READY, 0, 0, 0, 0, 0, 0, 0, 1, 0, 10) .. 'unreadable' .. run
  end
  return run
end

local function runs_of(ids)
  local runs = fields(RUN, ids)
  for i = 1, #ids do runs[i] = sound(runs[i]) end
  return runs
end

-- The run with its envelope, wherever that lies.
local function whole(id, run)
  if byte(run, 37) >= 2 then return run .. (call('HGET', BIG, id) or '') end
  return run
end
