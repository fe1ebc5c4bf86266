-- Takes dead letters away. Arguments: 1 if those that are held stay, and the runs. Says of each whether it left.
call('ZCARD', ENDED)
call('ZCARD', DIED)
call('HLEN', HOLD)
local stay, ids, answers = ARGV[1] == '1', {}, {}
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
local runs = runs_of(ids)
for i = 1, #ids do
  local stays = stay and call('HEXISTS', HOLD, ids[i]) == 1
  answers[i] = not stays and take_letter(ids[i], runs[i]) and 1 or 0
end
flush()
return answers
