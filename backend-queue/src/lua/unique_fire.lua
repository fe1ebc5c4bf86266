-- Takes a step as `decide` does, by which a unique run is added, unless another one keeps it out. Four arguments come
-- behind those of the step: its id, its key, until when and for how long it keeps others out.
local window, until_when, key, unique_id = table.remove(ARGV), table.remove(ARGV), table.remove(ARGV), table.remove(ARGV)
if owner_of(key) then return 0 end
local plain_insert = insert
local function insert(first, last)
  local answers = plain_insert(first, last)
  if answers[1] == 1 then own(key, unique_id, until_when, window) end
  return answers
end

