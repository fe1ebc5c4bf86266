-- Keeps runs of a queue from being taken or, without a pause, lets them be taken again; says whether it was paused.
-- Arguments: the queue, and maybe until when and the pause.
local was_paused = pause_of(ARGV[1])
if ARGV[2] then
  call('HSET', PAUSED, ARGV[1], ARGV[2] .. ':' .. ARGV[3])
else
  call('HDEL', PAUSED, ARGV[1])
  call('PUBLISH', WAKE, '')
end
return was_paused and 1 or 0
