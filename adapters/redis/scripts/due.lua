-- KEYS: index (over or held)
-- ARGV: the time from which on, how many
return redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], int(clock()), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
