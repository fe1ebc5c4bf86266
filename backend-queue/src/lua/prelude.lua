-- What every script begins with: the keys, the time, and how a run is packed.
--
-- A run is one string: state (1), attempt (2-5), fence (6-13), when it finished (14-21), its place in the order of
-- insertion (22-28), due (29-36), priority (37), flags (38), most attempts (39-42), fire time (43-50), the length
-- of its task's name (51), that name, and the envelope. The flags are 1 for a run that takes turns, 2 for a large
-- envelope, and 4 for a queue other than `default`, whose name follows that of the task behind an `@`;
-- 16 is added where it waits in the line of its key, and 8 where it comes from there. Where two runs are due alike the order of insertion
-- decides, so the members of most sorted sets are that place and the id.
--
-- A run of the usual priority that is due when it is added is fresh: a list per queue holds such runs in their order
-- until they are taken, and they stand in no other index. Whoever wants to show them, or to change their order, moves
-- them to where all others are. What was taken from such a list waits in another one until it is shown or forgotten.
local call, pack, parse = redis.call, struct.pack, struct.unpack
local sub, byte, char = string.sub, string.byte, string.char
local base = KEYS[1]
local RUN, BIG, READY, DELAYED = base .. 'run', base .. 'big', base .. 'ready', base .. 'delayed'
-- The fresh runs of the queue called `default`, how many members of such lists have no run any more, and the ids of
-- runs that are neither fresh nor shown.
local FRESH, GONE, UNSHOWN = base .. 'fresh', base .. 'gone', base .. 'unshown'
local LEASE, ENDED, SHOWN, WAKE = base .. 'lease', base .. 'ended', base .. 'shown', base .. 'wake'
-- What lives of a task, but for what is for later: the ids of runs that take turns, how many others, and what waits
-- for its turn.
local LIVE, COUNT, HELD = base .. 'live:', base .. 'count', base .. 'held:'
-- What is rare, so that one look says that there is none: why runs shall be cancelled (`c` and the id), and the
-- tasks of which something ended so that another run may have its turn (`t` and the task).
local ODD = base .. 'odd'
local LETTERS, DIED, HOLD, TASK = base .. 'letters', base .. 'died', base .. 'hold', base .. 'task:'
local QUEUES, PAUSED = base .. 'queues', base .. 'paused'
local SEQ, FENCE, BEAT, TOLD = base .. 'seq', base .. 'fence', base .. 'beat', base .. 'told:'
-- States, numbered so that what waits for its time is below `S_READY` and what has ended is from 10 on.
local S_SCHEDULED, S_SNOOZED, S_READY, S_RUNNING, S_HELD, S_FRESH, S_FAILED = 0, 2, 3, 4, 5, 6, 11
-- The most bytes of one answer, and the most values of one command.
local LARGEST, CHUNK = 8 * 1024 * 1024, 1000
local NEVER, NOWHERE = pack('>i8', -9223372036854775808), string.rep('\0', 7)
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function task_of(run)
  local name = sub(run, 52, 51 + byte(run, 51))
  if byte(run, 38) < 4 then return name end
  return string.match(name, '^[^@]*')
end

-- Where the runs of a queue are that are ready: by default of the one called `default`.
local function ready_in(queue)
  return queue ~= 'default' and READY .. ':' .. queue or READY
end

local function ready_of(run)
  if byte(run, 38) < 4 then return READY end
  return ready_in(string.match(sub(run, 52, 51 + byte(run, 51)), '@(.*)$') or 'default')
end

-- Where those of them are that are fresh.
local function fresh_of(ready)
  return FRESH .. sub(ready, #READY + 1)
end

-- Whether a run is still the one that a member of a list of fresh runs stands for. What cannot be read is: it fails.
local function is_of(member, run)
  if not run then return false end
  local place, state = sub(run, 22, 28), byte(run, 1)
  return place == sub(member, 1, 7) and state <= S_FRESH and state ~= S_RUNNING or place == NOWHERE
end

-- Whether a queue is paused now, and the pause, as it is kept: until when, a colon, and what else there is to say.
local function pause_of(queue)
  local kept = call('HGET', PAUSED, queue)
  if not kept then return false end
  local until_when, pause = string.match(kept, '^(%-?%d*):(.*)$')
  local is_over = until_when and until_when ~= '' and now >= tonumber(until_when)
  return not is_over, pause or ''
end

-- The values of a hash, `false` where there is none.
local function fields(key, ids)
  local count = #ids
  if count == 0 then return {} end
  if count <= CHUNK then return call('HMGET', key, unpack(ids)) end
  local found = {}
  for from = 1, count, CHUNK do
    local some = call('HMGET', key, unpack(ids, from, math.min(from + CHUNK - 1, count)))
    for i = 1, #some do found[from + i - 1] = some[i] end
  end
  return found
end

-- What is no run of ours becomes one that nobody can read, so that it fails instead of standing in the way.
local function sound(run)
  local length = run and byte(run, 51)
  -- No run is delivered that often, and one delivery more would count as none.
  local is_beyond = run and sub(run, 2, 5) == '\255\255\255\255'
  if not run or length and length > 0 and #run >= 51 + length and not is_beyond then return run end
  local head = pack('>BI4I8', S_READY, 0, 0) .. NEVER
  return head .. pack('>I7i8BBI4i8B', 0, 0, 0, 0, 1, 0, 10) .. 'unreadable' .. run
end

local function runs_of(ids)
  local runs = fields(RUN, ids)
  for i = 1, #ids do runs[i] = sound(runs[i]) end
  return runs
end

-- The run with its envelope, which lies in a hash of its own where it is large, so that whoever looks at states
-- does not carry it along.
local function whole(id, run)
  if byte(run, 38) % 4 >= 2 then return run .. (call('HGET', BIG, id) or '') end
  return run
end
