-- Adds runs; they are the arguments.
call('ZCARD', DELAYED)
local answers = insert(1, #ARGV)
release()
wake()
return answers
