-- Pauses a task or, without a pause, resumes it. Arguments: the task, and maybe the pause.
local key = TASK .. ARGV[1]
if call('EXISTS', key) == 0 then return 0 end
if ARGV[2] then
  call('HSET', key, 'paused', ARGV[2])
else
  call('HDEL', key, 'paused')
  call('HSET', key, 'served_since', now)
end
return 1
