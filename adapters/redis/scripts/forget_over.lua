-- KEYS: over, records
-- ARGV: AbandonedAfter
local over, now, removed = KEYS[1], clock(), 0
for i = 2, #KEYS do
	local r = redis.call('HMGET', KEYS[i], 'until', 'completed', 'holds')
	if not r[1] or r[3] ~= '' then -- it was evicted, or is in the other index
		redis.call('ZREM', over, KEYS[i])
	else
		local till = tonumber(r[1])
		if not r[2] then
			till = till + tonumber(ARGV[1])
		end
		if now >= till then
			redis.call('UNLINK', KEYS[i])
			redis.call('ZREM', over, KEYS[i])
			removed = removed + 1
		else
			redis.call('ZADD', over, int(till), KEYS[i]) -- it was renewed
		end
	end
end
return removed
