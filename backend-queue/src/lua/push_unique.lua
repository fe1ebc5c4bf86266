-- Adds runs of which some are the only ones of their kind. Arguments of each: its id, its key or nothing, until when and
-- for how long it keeps others out, how many arguments describe it, and those. Says of each nothing where it is new, and
-- which run is there instead where it is not.
call('ZCARD', DELAYED)
call('HLEN', UNIQUE)
call('ZCARD', WINDOWS)
local answers, next = {}, 1
while next <= #ARGV do
  local id, key, last = ARGV[next], ARGV[next + 1], next + 4 + ARGV[next + 4]
  local owner = key ~= '' and owner_of(key)
  if owner then
    -- Who asks for the same run again meets that one.
    answers[#answers + 1] = runs_of({ id })[1] and id or owner
  else
    local is_new = insert(next + 5, last)[1] == 1
    flush()
    if is_new and key ~= '' then own(key, id, ARGV[next + 2], ARGV[next + 3]) end
    answers[#answers + 1] = is_new and '' or id
  end
  next = last + 1
end
release()
wake()
return answers
