-- Writes how attempts ended; says which were too late, by their place.
--
-- They stand in the arguments from `first` on in groups: a task, its kind, how many, and of each its fence and id
-- in one, what its run begins with then, when it finished or how long the next attempt waits, and the envelope.
-- The kind is 1 where the task follows its finish, 2 where the envelope stays, 4 for large envelopes, or a sum.
local function acknowledge(first, is_reaping)
  local refused, seen = {}, 0
  local next = first
  while next <= #ARGV do
    local task, kind, count = ARGV[next], tonumber(ARGV[next + 1]), tonumber(ARGV[next + 2])
    local is_followed, stays, is_big = kind % 2 == 1, kind % 4 >= 2, kind >= 4
    next = next + 3
    local ids = {}
    for i = 1, count do ids[i] = sub(ARGV[next + 4 * i - 4], 9) end
    local runs = fields(RUN, ids)
    local values, kept, leases, freed = {}, 0, {}, 0
    local over, gone, ended, latest = {}, {}, 0, -math.huge
    for i = 1, count do
      local at, id, run = next + 4 * i - 4, ids[i], runs[i]
      local delivery, head, when = ARGV[at], ARGV[at + 1], ARGV[at + 2]
      local is_held = run and #run > 51 and byte(run, 1) == S_RUNNING
        and sub(run, 6, 13) == sub(delivery, 1, 8)
      local is_due = true
      if is_reaping then
        local lease = call('ZSCORE', LEASE, delivery)
        is_due = lease and tonumber(lease) < now
        -- A lease of a delivery that is none any more would be found for ever.
        if is_due and not is_held then later('ZREM', LEASE, delivery) end
      end
      if is_held and is_due then
        local state, length = byte(head, 1), 51 + byte(run, 51)
        freed = freed + 1
        leases[freed] = delivery
        if state < S_READY then
          local due = now + when
          later('ZADD', DELAYED, due, sub(run, 22, 28) .. id)
          head = head .. sub(run, 22, 28) .. pack('>i8', due) .. sub(run, 37, length)
        else
          head = head .. sub(run, 22, length)
        end
        if stays then
          later('HSET', RUN, id, head .. sub(run, length + 1))
        elseif is_big or byte(run, 38) >= 2 then
          put(id, head, ARGV[at + 3], is_big)
        else
          values[kept + 1] = id
          values[kept + 2] = head .. ARGV[at + 3]
          kept = kept + 2
        end
        if state == S_READY then
          make_ready(id, head)
        elseif state > S_READY then
          ended = ended + 1
          gone[ended] = id
          if state == S_FAILED or when == '' then
            archive(id, head)
          else
            over[#over + 1] = when
            over[#over + 1] = sub(run, 22, 28) .. id
          end
          if is_followed and when ~= '' then latest = math.max(latest, tonumber(when)) end
          if is_any_cancelled then later('HDEL', CANCEL, id) end
        end
      else
        refused[#refused + 1] = seen + i - 1
      end
    end
    next, seen = next + 4 * count, seen + count
    send('HSET', RUN, values, kept)
    send('ZREM', LEASE, leases, freed)
    send('ZADD', ENDED, over, #over)
    if ended > 0 then
      send('SREM', LIVE .. task, gone, ended)
      if is_reaping then later('SADD', FREE, task) else turns[task] = true end
      if latest > -math.huge then note_finish(task, latest) end
    end
  end
  return refused
end
