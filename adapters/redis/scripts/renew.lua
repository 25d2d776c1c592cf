-- KEYS: record
-- ARGV: token, lease
local r = redis.call('HMGET', KEYS[1], 'token', 'completed')
if r[1] ~= ARGV[1] or r[2] then
	return 0
end
redis.call('HSET', KEYS[1], 'until', int(clock() + tonumber(ARGV[2]))) -- Expire corrects the entry in its index
return 1
