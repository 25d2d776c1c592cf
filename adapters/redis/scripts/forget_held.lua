-- KEYS: held, records
-- ARGV: the token of each record when it was judged, '' if it was none that holds something
local held, now, removed = KEYS[1], clock(), 0
for i = 2, #KEYS do
	local r = redis.call('HMGET', KEYS[i], 'token', 'until', 'holds')
	if not r[1] or r[3] == '' then -- it was evicted, and claimed anew perhaps
		redis.call('ZREM', held, KEYS[i])
	elseif r[1] == ARGV[i - 1] and now >= tonumber(r[2]) then
		redis.call('UNLINK', KEYS[i])
		redis.call('ZREM', held, KEYS[i])
		removed = removed + 1
	end
end
return removed
