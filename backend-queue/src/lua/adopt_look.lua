-- What waits in a queue of apalis: first its list of what is ready, then what has a time, the earliest first.
-- Arguments: their queue, how many at most, and the most bytes of a payload that is read.
-- Answers the time, and of each its id, its score or nothing, how many bytes its payload has or -1, the payload or
-- nothing, its attempts, the most it may have, and what else is noted of it.
local queue, limit, longest = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local DATA, META = queue .. ':data', queue .. ':meta:'
-- The most notes of one job, and the most bytes of one of them.
local NOTES, NOTE = 64, 4096
-- What their workers note for themselves.
local THEIRS = { attempts = true, max_attempts = true, status = true, locked_by = true, locked_at = true,
  result = true, done_at = true }
local found, bytes = {}, 0

-- What is noted of a job. A key of another type says nothing and stands in nobody's way.
local function noted(id)
  local key = META .. id
  local count = redis.pcall('HLEN', key)
  if type(count) ~= 'number' or count == 0 then return '', '', {} end
  local known, notes = call('HMGET', key, 'attempts', 'max_attempts'), {}
  if count <= NOTES then
    for _, field in ipairs(call('HKEYS', key)) do
      local length = not THEIRS[field] and call('HSTRLEN', key, field) or 0
      if length > 0 and length + #field <= NOTE then
        notes[#notes + 1] = field
        notes[#notes + 1] = call('HGET', key, field)
        -- Two calls take longer than their bytes.
        bytes = bytes + #field + length + 8192
      end
    end
  end
  -- Anybody may have written them; a number is what can be sent as text.
  return tostring(tonumber(known[1]) or ''), tostring(tonumber(known[2]) or ''), notes
end

local function read(id, score)
  local size, payload = call('HSTRLEN', DATA, id), ''
  if size == 0 and call('HEXISTS', DATA, id) == 0 then size = -1 end
  if size > 0 and size <= longest then payload = call('HGET', DATA, id) end
  local attempts, most, notes = noted(id)
  found[#found + 1] = { id, score, size, payload, attempts, most, notes }
  bytes = bytes + #id + #payload
  return bytes <= LARGEST
end

local listed = call('LRANGE', queue .. ':active', 0, limit - 1)
for i = 1, #listed do
  if not read(listed[i], '') then return { now, found } end
end
if #listed < limit then
  local timed = call('ZRANGE', queue .. ':scheduled', 0, limit - #listed - 1, 'WITHSCORES')
  for i = 1, #timed, 2 do
    if not read(timed[i], timed[i + 1]) then break end
  end
end
return { now, found }
