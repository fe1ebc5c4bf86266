-- Forgets what retention does not keep, the oldest first: letters become history, history goes.
-- Arguments: how many ended runs are kept and for how long, the same of letters, and how many to forget at most.
-- Answers how many that were.
local function too_many(key, keep, age)
  return math.max(call('ZCARD', key) - keep, call('ZCOUNT', key, '-inf', now - age))
end

-- Bounds how long this takes, whatever is asked for.
local limit = math.min(tonumber(ARGV[5]), CHUNK)

local function oldest(key, count)
  local members = count > 0 and call('ZRANGE', key, 0, count - 1) or {}
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 8) end
  return ids, runs_of(ids), members
end

local gone = math.min(limit, too_many(DIED, tonumber(ARGV[3]), tonumber(ARGV[4])))
local ids, runs, members = oldest(DIED, gone)
for i = 1, #ids do
  if not take_letter(ids[i], runs[i]) then later('ZREM', DIED, members[i]) end
end
flush()
local over = math.min(limit - #ids, too_many(ENDED, tonumber(ARGV[1]), tonumber(ARGV[2])))
local old, ended = oldest(ENDED, over)
for i = 1, #old do
  local id, run = old[i], ended[i]
  later('ZREM', SHOWN, id)
  if run then
    later('ZREM', SHOWN .. ':' .. task_of(run), id)
    later('HDEL', RUN, id)
    if byte(run, 38) >= 2 then later('HDEL', BIG, id) end
  end
end
if #old > 0 then call('ZREMRANGEBYRANK', ENDED, 0, #old - 1) end
flush()
return #ids + #old
