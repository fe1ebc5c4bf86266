-- The deliveries whose lease has expired, the oldest first, at most as many as the argument says: of each the
-- run's id, its fence, the run, and why it shall be cancelled. The time comes first.
local members = call('ZRANGE', LEASE, '-inf', '(' .. now, 'BYSCORE', 'LIMIT', 0, ARGV[1])
local found, ids = {}, {}
for i = 1, #members do ids[i] = sub(members[i], 9) end
if #ids == 0 then return { now, found } end
local runs, reasons = runs_of(ids), fields(CANCEL, ids)
local bytes = 0
for i = 1, #ids do
  local fence = sub(members[i], 1, 8)
  local run = runs[i] and whole(ids[i], runs[i]) or ''
  found[#found + 1] = { ids[i], fence, run, reasons[i] }
  bytes = bytes + #run
  if bytes > LARGEST then break end
end
return { now, found }
