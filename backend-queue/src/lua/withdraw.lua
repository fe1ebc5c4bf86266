-- Whether a run still stands where it was when it was read.
local function stands(id, head)
  local run = call('HGET', RUN, id)
  return run and sub(run, 1, #head) == head and run
end

-- Marks a run that is under way, so that its owner ends it.
local function mark(id, reason)
  later('HSET', ODD, 'c' .. id, reason)
end

-- Ends a run that waits; `head` is what it begins with now, and its envelope may be large.
local function withdraw(id, run, head, envelope, is_big)
  local task, member = task_of(run), sub(run, 22, 28) .. id
  local state = byte(run, 1)
  if state == S_HELD then
    later('ZREM', HELD .. task, member)
  elseif state == S_FRESH then
    -- Taking it out of the middle of a list would take long; whoever comes to it passes over it.
    note_gone(fresh_of(ready_of(run)), 1)
    later('RPUSH', UNSHOWN, id)
    unlive(id, run, task)
  else
    later('ZREM', state == S_READY and ready_of(run) or DELAYED, member)
    if state ~= S_SCHEDULED then unlive(id, run, task) end
  end
  turns[task] = true
  run = head .. sub(run, 22, 51 + byte(run, 51))
  put(id, run, envelope, is_big == '1')
  archive(id, run)
  note_finish(task, parse('>i8', run, 14))
end
