-- Writes how attempts ended, each an id and a note from `first` on in the arguments. A note holds the fence (1-8),
-- the state (9), the wait (10-17), the attempt (18-21), when it finished (22-29), whether its task follows that
-- (30), whether the envelope stays (31) and the envelope. Says which were too late, by their place.
local function acknowledge(first, count, is_reaping)
  local ids, refused, seen = {}, {}, {}
  for i = 1, count do ids[i] = ARGV[first + 2 * i - 2] end
  local runs = runs_of(ids)
  for i = 1, count do
    local id, note, run = ids[i], ARGV[first + 2 * i - 1], runs[i]
    local fence = sub(note, 1, 8)
    local member = fence .. id
    local is_held = run and not seen[id] and byte(run, 1) == S_RUNNING and sub(run, 6, 13) == fence
    local is_due = true
    if is_reaping then
      local lease = call('ZSCORE', LEASE, member)
      is_due = lease and tonumber(lease) < now
      -- A lease of a delivery that is none any more would be found for ever.
      if is_due and not is_held then later('ZREM', LEASE, member) end
    end
    if is_held and is_due then
      seen[id] = true
      local state, head, due = byte(note, 9), 50 + byte(run, 50), sub(run, 14, 21)
      local is_again = state < S_READY
      if is_again then due = pack('>i8', now + parse('>I8', note, 10)) end
      local envelope = byte(note, 31) == 1 and sub(whole(id, run), head + 1) or sub(note, 32)
      run = char(state) .. sub(note, 18, 21) .. fence .. due .. sub(note, 22, 29) .. sub(run, 30, head)
      put(id, run, envelope)
      later('ZREM', LEASE, member)
      if is_again then
        later('ZADD', DELAYED, parse('>i8', due), sub(run, 30, 35) .. id)
      elseif state == S_READY then
        make_ready(id, run)
      else
        local task = task_of(run)
        later('SREM', LIVE .. task, id)
        archive(id, run)
        if is_any_cancelled then later('HDEL', CANCEL, id) end
        if is_reaping then later('SADD', FREE, task) else turns[task] = true end
        if byte(note, 30) == 1 then note_finish(task, sub(note, 22, 29)) end
      end
    else
      refused[#refused + 1] = i - 1
    end
  end
  return refused
end
