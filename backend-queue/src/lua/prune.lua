-- Forgets the ended runs beyond bounds, and tells them.
local ids, runs, told = beyond()
drop(ids, runs)
return told
