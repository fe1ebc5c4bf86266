-- Takes jobs of apalis over: each that still waits there becomes a run and leaves them, in one step.
-- Arguments: their queue, and of each job its id, its score or nothing, 1 if its payload stays where it is, how many
-- arguments describe its run, and those.
-- Answers 1 where it was done, 2 where the run was there already, so that only the job left, 0 where no such job waits.
local queue = ARGV[1]
local ACTIVE, TIMED, DATA = queue .. ':active', queue .. ':scheduled', queue .. ':data'
-- A key of a wrong type shows here, before anything is written.
call('ZCARD', DELAYED)
call('ZCARD', ENDED)
call('ZCARD', DIED)
call('ZCARD', TIMED)
call('HLEN', DATA)

-- What stands in front of their list, as far as it is looked for: who looks further searches all of it in vain.
local listed, looked_for, next = {}, 0, 2
while next <= #ARGV do
  if ARGV[next + 1] == '' then looked_for = looked_for + 1 end
  next = next + 4 + ARGV[next + 3]
end
local front = looked_for > 0 and call('LRANGE', ACTIVE, 0, looked_for - 1) or {}
for i = 1, #front do listed[front[i]] = (listed[front[i]] or 0) + 1 end

local function waits(id, score)
  if score ~= '' then return call('ZSCORE', TIMED, id) == score end
  local times = listed[id] or 0
  listed[id] = times - 1
  return times > 0
end

local answers = {}
next = 2
while next <= #ARGV do
  local id, score, stays, last = ARGV[next], ARGV[next + 1], ARGV[next + 2] == '1', next + 3 + ARGV[next + 3]
  local answer = 0
  if waits(id, score) then
    -- The run first: whatever goes wrong now, the job is not lost, and its run is not made twice.
    answer = insert(next + 4, last)[1] == 1 and 1 or 2
    flush()
    if score == '' then call('LREM', ACTIVE, 1, id) else call('ZREM', TIMED, id) end
    if not stays then call('HDEL', DATA, id) end
    call('DEL', queue .. ':meta:' .. id)
  end
  answers[#answers + 1] = answer
  next = last + 1
end
release()
wake()
return answers
