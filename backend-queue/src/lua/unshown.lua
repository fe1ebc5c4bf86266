-- Lets go of the first of the runs that are not shown, as far as these are forgotten; some were just now.
local AT_ONCE, MOST = 100, 2 * CHUNK

local function forget_unshown(forgotten)
  local passed, found = 0, AT_ONCE
  while found == AT_ONCE and passed < MOST do
    local runs = fields(RUN, call('LRANGE', UNSHOWN, passed, passed + AT_ONCE - 1))
    found = 0
    while runs[found + 1] == false do found = found + 1 end
    passed = passed + found
  end
  if passed > 0 then call('LTRIM', UNSHOWN, passed, -1) end
  -- One that is kept stands before others that are not. Where there are more than can be there, some are shown.
  local living = call('ZCARD', ENDED) + call('ZCARD', DIED) + call('ZCARD', LEASE) + call('ZCARD', DELAYED)
  if call('LLEN', UNSHOWN) > living then show_unshown(math.max(AT_ONCE, forgotten)) end
end

