-- Where the schedule of the task in the argument stands, what lives of it, and the time.
local at = standing(ARGV[1])
for i = 1, 6 do at[i] = at[i] or '' end
local others = call('HGET', COUNT, ARGV[1]) or 0
return { at, call('SCARD', LIVE .. ARGV[1]) + others, call('ZCARD', HELD .. ARGV[1]), now }
