-- What the last step of somebody answered, if it was done. Arguments: who asks, and the number of that step.
-- Says whether it was done, and then which acknowledgements were refused, ids and runs that are still held,
-- the time, and which acknowledgements were not written for a cancel, with the reasons.
local key, number = TOLD .. ARGV[1], pack('>I8', tonumber(ARGV[2]))
local told = call('GET', key)
if not told or sub(told, 1, 8) ~= number or #told == 8 then
  -- It may still be on its way, and does nothing then.
  call('SET', key, number, 'PX', REMEMBERED)
  return { 0, {}, {}, now, {}, {} }
end
local answer = cmsgpack.unpack(sub(told, 9))
local first, last, members = answer[2], answer[3], {}
-- What was claimed has a lease of those fences.
for from = 0, last >= first and call('ZCARD', LEASE) - 1 or -1, CHUNK do
  for _, member in ipairs(call('ZRANGE', LEASE, from, from + CHUNK - 1)) do
    local fence = parse('>I8', member)
    if fence >= first and fence <= last then members[#members + 1] = member end
  end
end
-- In the order in which they were claimed.
table.sort(members, function(one, other) return parse('>I8', one) < parse('>I8', other) end)
local ids, held = {}, {}
for i = 1, #members do ids[i] = sub(members[i], 9) end
local runs = runs_of(ids)
for i = 1, #ids do
  local run = runs[i]
  if run and byte(run, 1) == S_RUNNING and sub(run, 6, 13) == sub(members[i], 1, 8) then
    held[#held + 1] = ids[i]
    held[#held + 1] = whole(ids[i], run)
  end
end
return { 1, answer[1], held, now, answer[4] or {}, answer[5] or {} }
