-- Forgets ended runs, which are the first of their index. Whoever has read the runs hands them in.
local function drop(ids, runs)
  local count = #ids
  let_kinds_go(ids)
  if count > 0 then
    -- Most runs end without ever being shown, and such a run says nothing that is needed here.
    if call('EXISTS', SHOWN) == 1 then
      runs = runs or runs_of(ids)
      for i = 1, count do
        if runs[i] then later('ZREM', SHOWN .. ':' .. task_of(runs[i]), ids[i]) end
      end
      send('ZREM', SHOWN, ids, count)
    end
    if call('EXISTS', BIG) == 1 then send('HDEL', BIG, ids, count) end
    send('HDEL', RUN, ids, count)
    call('ZREMRANGEBYRANK', ENDED, 0, count - 1)
    flush()
  end
  forget_unshown(count)
end
