-- Adds runs; they are the arguments. Answers a number for `push_fresh` besides.
call('ZCARD', DELAYED)
local answers = insert(1, #ARGV)
release()
wake()
return { call('INCR', SEQ), answers }
