-- Some of the deliveries under way. Argument: the cursor, 0 to begin with.
-- Answers the next one, 0 at the end, and of each delivery it and where its run is when it is ready. From the beginning to
-- the end each is answered that is there all the time, some more than once.
local answer = call('ZSCAN', LEASE, ARGV[1], 'COUNT', CHUNK)
local members, found = {}, {}
for i = 1, #answer[2], 2 do members[#members + 1] = answer[2][i] end
local places = places_of(members)
for i = 1, #members do
  if places[i] then found[#found + 1] = { members[i], places[i] } end
end
return { answer[1], found }
