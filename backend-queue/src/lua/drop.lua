-- Forgets ended runs, which are the first of their index.
local function drop(ids, runs)
  for i = 1, #ids do
    local id, run = ids[i], runs[i]
    later('ZREM', SHOWN, id)
    if run then
      later('ZREM', SHOWN .. ':' .. task_of(run), id)
      later('HDEL', RUN, id)
      if byte(run, 38) % 4 >= 2 then later('HDEL', BIG, id) end
    end
  end
  let_kinds_go(ids)
  if #ids > 0 then call('ZREMRANGEBYRANK', ENDED, 0, #ids - 1) end
  flush()
  -- As many as are forgotten are looked at, so those that nobody shows are never more than those that are kept.
  show_unshown(#ids)
end
