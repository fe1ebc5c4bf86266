-- Tells those who wait for work, when there was none before.
local function wake()
  for ready, count in pairs(became_ready) do
    local there = call('ZCARD', ready) + call('LLEN', fresh_of(ready))
    if there > 0 and there <= count then
      call('PUBLISH', WAKE, '')
      return
    end
  end
end

