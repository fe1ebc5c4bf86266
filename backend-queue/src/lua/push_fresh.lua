-- Adds runs of the usual priority that all belong to one queue, are due, take no turns and are not there yet: what needs no
-- more than to be put into a hash and a list. Does nothing where that does not hold, for `push` to do it.
-- Arguments: the queue, when the first and the last of them is due, how many tasks there are, of each its name and how many
-- of the runs are its own, how many runs, the id of each and the whole run, and of each its place and its id in one.
-- They bring their places with them, and the answer has the number of the next call of whoever asks; it is nothing where
-- nothing was done, or 0 where the next call would be for nothing too.
local open = ready_in(ARGV[1])
local fresh = fresh_of(open)
local first = 5 + 2 * ARGV[4]
local count = tonumber(ARGV[first])
local upto = first + 2 * count
if call('HLEN', ODD) > 0 then return 0 end
if tonumber(ARGV[3]) > now then return false end
local last = call('LINDEX', fresh, -1)
if last then
  local run = runs_of({ sub(last, 8) })[1]
  if not is_of(last, run) or parse('>i8', run, 29) > tonumber(ARGV[2]) then return false end
end
local ids = {}
for i = 1, count do ids[i] = ARGV[first + 2 * i - 1] end
local there = fields(RUN, ids)
for i = 1, count do
  if there[i] then return false end
end
-- A key of a wrong type shows at the first of these, before any run is there.
call('ZCARD', DELAYED)
local waiting = call('ZCARD', open)
local next = call('INCR', SEQ)
if open ~= READY then call('SADD', QUEUES, ARGV[1]) end
for i = 5, first - 1, 2 do call('HINCRBY', COUNT, ARGV[i], ARGV[i + 1]) end
local listed = call('RPUSH', fresh, unpack(ARGV, upto + 1, upto + count))
call('HSET', RUN, unpack(ARGV, first + 1, upto))
if waiting + listed == count then call('PUBLISH', WAKE, '') end
return next
