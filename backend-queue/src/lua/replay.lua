-- Adds a run for each dead letter and takes the letter away.
-- Arguments: for each the letter, how many arguments describe the new run, and those.
-- Answers 1 where it was done, 2 where the letter is held, 0 where there is none or the new run is there already.
call('ZCARD', DELAYED)
call('ZCARD', ENDED)
call('ZCARD', DIED)
local answers, next = {}, 1
while next <= #ARGV do
  local id, last = ARGV[next], next + 1 + ARGV[next + 1]
  local answer = 0
  if call('ZSCORE', LETTERS, id) then
    if call('HEXISTS', HOLD, id) == 1 then
      answer = 2
    else
      local run = runs_of({ id })[1]
      answer = insert(next + 2, last)[1]
      if answer == 1 then take_letter(id, run) end
      flush()
    end
  end
  answers[#answers + 1] = answer
  next = last + 1
end
release()
wake()
return answers
