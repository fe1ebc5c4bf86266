local is_idle = call('ZCARD', READY) == 0

-- Tells those who wait for work, when there was none before.
local function wake()
  if is_idle and became_ready and call('ZCARD', READY) > 0 then call('PUBLISH', WAKE, '') end
end
