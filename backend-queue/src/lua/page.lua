-- A page of an index of runs, the newest fire first.
-- Arguments: the end of the index's key, the states to show (each a byte, or none for all), how many, and behind
-- which fire time and id. Answers the fire time and id of the last that was looked at, if there may be more, and
-- of each run its id, itself, and as a dead letter when it died and why it is held.
local key, states, limit = base .. ARGV[1], ARGV[2], tonumber(ARGV[3])
local LOOKED = 2000

-- Whether an id stands behind another; comparing texts would go by the locale.
local function is_behind(id, other)
  for i = 1, #other do
    local a, b = byte(id, i) or 0, byte(other, i)
    if a ~= b then return a < b end
  end
  return false
end

-- How many stand before the place behind (fire, id): found by halving, since that id may be gone.
local function behind(fire, id)
  local low, high = 0, call('ZCARD', key)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local at = call('ZRANGE', key, middle, middle, 'REV', 'WITHSCORES')
    local score = tonumber(at[2])
    if score > fire or (score == fire and not is_behind(at[1], id)) then low = middle + 1 else high = middle end
  end
  return low
end

local start = ARGV[4] and behind(tonumber(ARGV[4]), ARGV[5]) or 0
local found, last, bytes, looked = {}, {}, 0, 0
while looked < LOOKED do
  local some = call('ZRANGE', key, start + looked, start + looked + 99, 'REV', 'WITHSCORES')
  if #some == 0 then return { {}, found } end
  local ids = {}
  for i = 1, #some, 2 do ids[#ids + 1] = some[i] end
  local runs = runs_of(ids)
  for i = 1, #ids do
    looked = looked + 1
    local id, run = ids[i], runs[i]
    if run and (states == '' or string.find(states, char(byte(run, 1)), 1, true)) then
      run = whole(id, run)
      found[#found + 1] = { id, run, letter_of(id, run) }
      bytes = bytes + #run
      if #found == limit or bytes > LARGEST then return { { some[2 * i], id }, found } end
    end
    last = { some[2 * i], id }
  end
end
return { last, found }
