-- Adds a run for each dead letter and takes the letter away.
-- Arguments: for each the letter, the new run's id, and that run. Answers 1 where it was done, 2 where the letter
-- is held, 0 where there is none or the new run is there already.
local answers = {}
call('ZCARD', DELAYED)
call('ZCARD', ENDED)
call('ZCARD', DIED)
local letters, runs = {}, nil
for i = 1, #ARGV, 3 do letters[#letters + 1] = ARGV[i] end
runs = runs_of(letters)
for i = 1, #letters do
  local id, again, packed = letters[i], ARGV[3 * i - 1], ARGV[3 * i]
  if not call('ZSCORE', LETTERS, id) then
    answers[i] = 0
  elseif call('HEXISTS', HOLD, id) == 1 then
    answers[i] = 2
  else
    packed = sub(packed, 1, 13) .. pack('>i8', now) .. sub(packed, 22)
    ARGV[3 * i] = packed
    answers[i] = insert(3 * i - 1, 1)[1]
    if answers[i] == 1 then take_letter(id, runs[i]) end
    flush()
  end
end
release()
wake()
return answers
