-- Writes how far runs have come, of the deliveries that are still held. Arguments of each: its fence and its id in one,
-- and its envelope.
local ids = {}
for i = 1, #ARGV, 2 do ids[#ids + 1] = sub(ARGV[i], 9) end
local runs = runs_of(ids)
for i = 1, #ids do
  local run = runs[i]
  if run and byte(run, 1) == S_RUNNING and sub(run, 6, 13) == sub(ARGV[2 * i - 1], 1, 8) then
    -- Where its envelope lies stays as it is: whoever has the run ends it by that.
    if byte(run, 38) % 4 >= 2 then
      call('HSET', BIG, ids[i], ARGV[2 * i])
    else
      call('HSET', RUN, ids[i], sub(run, 1, 51 + byte(run, 51)) .. ARGV[2 * i])
    end
  end
end
return 0
