-- Tries all that a queue needs, so that a user who may not do it hears so before anything is half done.
-- Argument: the version of what we store. Answers that of what is stored here.
local hash, sorted, set, text = base .. 'probe:hash', base .. 'probe:sorted', base .. 'probe:set', base .. 'probe:text'
call('HSET', hash, 'a', '1')
call('HMGET', hash, 'a')
call('HGET', hash, 'a')
call('HLEN', hash)
call('HEXISTS', hash, 'a')
call('HDEL', hash, 'a')
call('ZADD', sorted, 1, 'a', 2, 'b')
call('ZRANGE', sorted, 0, 0)
call('ZCARD', sorted)
call('ZCOUNT', sorted, 0, 1)
call('ZSCORE', sorted, 'a')
call('ZMSCORE', sorted, 'a')
call('ZREM', sorted, 'a')
call('ZPOPMIN', sorted)
call('ZREMRANGEBYRANK', sorted, 0, 0)
call('ZREMRANGEBYSCORE', sorted, 0, 0)
call('SADD', set, 'a')
call('SCARD', set)
call('SREM', set, 'a')
call('SRANDMEMBER', set, 1)
call('SMEMBERS', set)
call('SPOP', set, 1)
call('INCRBY', text, 1)
call('INCR', text)
call('GETRANGE', text, 0, 0)
call('EXISTS', text)
call('SET', text, '1', 'PX', 1)
call('PUBLISH', WAKE, '')
local stored = call('GET', base .. 'version')
if not stored or (tonumber(stored) or math.huge) < tonumber(ARGV[1]) then
  call('SET', base .. 'version', ARGV[1])
  return ARGV[1]
end
return stored
