-- Takes a dead letter away; its run is history then. Says whether there was one.
local function take_letter(id, run)
  if not run or call('ZREM', LETTERS, id) == 0 then return false end
  later('ZREM', LETTERS .. ':' .. task_of(run), id)
  later('ZREM', DIED, sub(run, 22, 28) .. id)
  later('HDEL', HOLD, id)
  later('ZADD', ENDED, parse('>i8', run, 14), sub(run, 22, 28) .. id)
  return true
end
