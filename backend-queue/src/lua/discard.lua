-- Takes dead letters away. Arguments: their runs. Says of each whether there was one.
call('ZCARD', ENDED)
call('ZCARD', DIED)
call('HLEN', HOLD)
local runs, answers = runs_of(ARGV), {}
for i = 1, #ARGV do answers[i] = take_letter(ARGV[i], runs[i]) and 1 or 0 end
flush()
return answers
