-- Some of the runs of a task that have not ended and are not for later.
-- Arguments: the task, and how many at most of those that live and of those that wait for their turn.
local ids = call('SRANDMEMBER', LIVE .. ARGV[1], ARGV[2])
for _, member in ipairs(call('ZRANGE', HELD .. ARGV[1], 0, ARGV[2] - 1)) do ids[#ids + 1] = sub(member, 8) end
local found, bytes = {}, 0
local runs = runs_of(ids)
for i = 1, #ids do
  if runs[i] then
    local run = whole(ids[i], runs[i])
    found[#found + 1] = { ids[i], run }
    bytes = bytes + #run
    if bytes > LARGEST then break end
  end
end
return found
