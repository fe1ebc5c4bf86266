-- How long the answer to a step can be asked for again.
local REMEMBERED = 3600000
