-- KEYS: held, records
-- ARGV: for each record its token when it was judged to be settled, '' if it held nothing
local held, removed = KEYS[1], 0
for i = 2, #KEYS do
	local token = redis.call('HMGET', KEYS[i], 'token')[1]
	if not token then -- it was evicted
		redis.call('ZREM', held, KEYS[i])
	elseif token == ARGV[i - 1] then
		redis.call('UNLINK', KEYS[i])
		redis.call('ZREM', held, KEYS[i])
		removed = removed + 1
	end
end
return removed
