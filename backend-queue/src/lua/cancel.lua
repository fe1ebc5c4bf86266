-- Ends a run that waits or marks one that is under way, unless it changed since it was read; says whether it did.
-- Arguments: the id, what the run began with, and either the reason, or what it begins with now, its envelope, and
-- whether that is large.
local id = ARGV[1]
local run = stands(id, ARGV[2])
if not run then return 0 end
if #ARGV == 3 then
  mark(id, ARGV[3])
  flush()
else
  withdraw(id, run, ARGV[3], ARGV[4], ARGV[5])
  release()
  wake()
end
return 1
