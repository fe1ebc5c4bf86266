-- Prolongs leases. Arguments: the lease, and for each delivery its fence and its run's id in one.
-- Answers which were lost, by their place, and which shall be cancelled, with the reason.
local lost, cancelled = {}, {}
local is_any_cancelled = call('HLEN', ODD) > 0
for from = 2, #ARGV, CHUNK do
  local to = math.min(from + CHUNK - 1, #ARGV)
  local leases = call('ZMSCORE', LEASE, unpack(ARGV, from, to))
  local kept, ids = {}, {}
  for i = 1, #leases do
    local member = ARGV[from + i - 1]
    if leases[i] then
      kept[#kept + 1] = now + ARGV[1]
      kept[#kept + 1] = member
      ids[#ids + 1] = sub(member, 9)
    else
      lost[#lost + 1] = from + i - 3
    end
  end
  if #kept > 0 then
    call('ZADD', LEASE, 'XX', unpack(kept))
    if is_any_cancelled then
      local odd = {}
      for i = 1, #ids do odd[i] = 'c' .. ids[i] end
      local reasons = fields(ODD, odd)
      for i = 1, #ids do
        if reasons[i] then
          cancelled[#cancelled + 1] = ids[i]
          cancelled[#cancelled + 1] = reasons[i]
        end
      end
    end
  end
end
return { lost, cancelled }
