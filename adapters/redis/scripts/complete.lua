-- KEYS: record, over, held
-- ARGV: token, TTL, holds, status, header, body
local r = redis.call('HMGET', KEYS[1], 'token', 'completed')
if r[1] ~= ARGV[1] then
	return 0
end
if r[2] then
	return 1 -- what was stored first stands
end
local till, holds = int(clock() + tonumber(ARGV[2])), ARGV[3]
redis.call('HSET', KEYS[1], 'completed', '1', 'until', till, 'holds', holds, 'status', ARGV[4], 'header', ARGV[5], 'body', ARGV[6])
redis.call('HDEL', KEYS[1], 'attempt')
if holds == '' then
	redis.call('ZADD', KEYS[2], till, KEYS[1])
else
	redis.call('ZREM', KEYS[2], KEYS[1])
	redis.call('ZADD', KEYS[3], till, KEYS[1])
end
return 1
