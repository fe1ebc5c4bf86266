-- Takes a step of a schedule, unless it stands elsewhere than when the step was decided; says whether it did.
-- Arguments: the task; the six fields of where it stood and how many of its runs lived and waited, where that
-- matters; the five fields of where it stands then; how many runs to mark and why, and of each its id and what it
-- began with; how many to end, and of each its id, what it began with, what it begins with now, its envelope and
-- whether that is large; then what to add.
local task, at = ARGV[1], standing(ARGV[1])
for i = 1, 6 do
  if (at[i] or '') ~= ARGV[1 + i] then return 0 end
end
if ARGV[8] ~= '' and (living(task) ~= tonumber(ARGV[8])
    or call('ZCARD', HELD .. task) ~= tonumber(ARGV[9])) then
  return 0
end
call('ZCARD', DELAYED)
call('ZCARD', ENDED)
local next, ends = 15, {}
local marks, reason = tonumber(ARGV[next]), ARGV[next + 1]
next = next + 2
for i = 1, marks do
  if not stands(ARGV[next], ARGV[next + 1]) then return 0 end
  mark(ARGV[next], reason)
  next = next + 2
end
local count = tonumber(ARGV[next])
next = next + 1
for i = 1, count do
  ends[i] = stands(ARGV[next + 5 * i - 5], ARGV[next + 5 * i - 4])
  if not ends[i] then return 0 end
end
for i = 1, count do
  local at = next + 5 * i - 5
  withdraw(ARGV[at], ends[i], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4])
end
next = next + 5 * count
flush()
if #ARGV > next then insert(next, #ARGV) end
release()
local names = { 'decided', 'served_since', 'runs', 'finished', 'paused' }
for i = 1, 5 do
  local value = ARGV[9 + i]
  if value == '' then
    call('HDEL', TASK .. task, names[i])
  elseif value ~= '=' then
    call('HSET', TASK .. task, names[i], value)
  end
end
wake()
return 1
