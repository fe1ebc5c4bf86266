-- Forgets what retention does not keep, the oldest first: letters become history, history goes.
-- Arguments: how many ended runs are kept and for how long, the same of letters, and how many to forget at most.
-- Answers how many that were.

-- Bounds how long this takes, whatever is asked for.
local limit = math.min(tonumber(ARGV[5]), CHUNK)

local gone = math.min(limit, too_many(DIED, tonumber(ARGV[3]), tonumber(ARGV[4])))
local letters, runs, members = oldest(DIED, 0, gone)
for i = 1, #letters do
  if not take_letter(letters[i], runs[i]) then later('ZREM', DIED, members[i]) end
end
flush()
local over = math.min(limit - #letters, too_many(ENDED, tonumber(ARGV[1]), tonumber(ARGV[2])))
local ids = oldest_ids(ENDED, 0, over)
drop(ids)
return #letters + #ids
