-- The time, and of each of the runs in the arguments itself, and as a dead letter when it died and why it is held.
local found, runs = {}, runs_of(ARGV)
for i = 1, #ARGV do
  if runs[i] then
    found[i] = { whole(ARGV[i], runs[i]), letter_of(ARGV[i], runs[i]) }
  else
    found[i] = { '', '', '' }
  end
end
return { now, found }
