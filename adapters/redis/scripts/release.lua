-- KEYS: record, over
-- ARGV: token
local r = redis.call('HMGET', KEYS[1], 'token', 'completed')
if r[1] ~= ARGV[1] or r[2] then
	return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], KEYS[1])
return 1
