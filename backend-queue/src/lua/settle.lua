-- Writes what becomes of deliveries that nobody acknowledges.
-- Arguments: 1 to leave alone those whose lease has not expired, and how the attempts ended.
call('ZCARD', ENDED)
call('ZCARD', DIED)
acknowledge(2, ARGV[1] == '1')
-- Whoever steps next gives the turn of the ended ones to others.
for task in pairs(turns) do later('HSET', ODD, 't' .. task, '') end
flush()
wake()
return refused
