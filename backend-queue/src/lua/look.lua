-- Tells the ended runs beyond bounds.
local _, _, told = beyond()
return told
